//! A service that was built: it gets ready, serves, and drains.
//!
//! Invariant: on a stop `/health/ready` answers 503 first, then the listeners close, requests in flight finish, the pool
//! closes, a private database stops, and last the threads that served.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cenote_cache::RedisConfig;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    backend::Opened,
    failure::{Ended, RunError},
    readiness,
    reload::Reloader,
};
use crate::{
    access::Guarded,
    admin::{ReloadRequest, Reloads},
    app::App,
    cores::Cores,
    dashboard,
    health::Stage,
    http::{self, Drained, LiveConfig, TcpListeners, Tls},
    limits::Limits,
    memory_watch::MemoryWatch,
    routes::Routes,
    settings::Settings,
    spans::Exporter,
    systemd::{self, supervise},
};

/// The request to stop a service.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// The signal or other reason, for the log.
    pub reason: &'static str,
    /// The time between readiness answering 503 and the listeners closing. A load balancer needs it to notice.
    pub delay: Duration,
}

/// A service that listens. It accepts no connection before [`run`](Self::run).
pub struct Service {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<Tls>,
    pub(super) http: LiveConfig,
    pub(super) cores: Cores,
    pub(super) database: Opened,
    /// One for each core.
    pub(super) apps: Vec<App>,
    pub(super) memory_watch: Option<MemoryWatch>,
    /// `None`: the settings were not loaded from sources, so there is nothing to read again.
    pub(super) reloading: Option<(Reloader, mpsc::Receiver<ReloadRequest>)>,
    /// `None`: no traces are exported.
    pub(super) exporter: Option<Exporter>,
    /// The limits that are shared, and the Redis through which they are.
    pub(super) sharing: Option<(Arc<Limits>, RedisConfig)>,
    /// What the dashboard shows of the settings.
    pub(super) about: dashboard::About,
}

impl Service {
    /// The addresses it listens on. All have one port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Asks for reloads of the settings.
    pub(crate) fn reloads(&self) -> Reloads {
        self.apps[0].admin.reloads().clone()
    }

    /// Waits for the database, brings the schema up to date, and serves until `stop` resolves; then drains.
    ///
    /// # Errors
    ///
    /// [`RunError`] if the database will never be usable, or a thread has panicked. Everything is closed then.
    ///
    /// # Cancel safety
    ///
    /// A dropped future stops accepting; requests in flight end with the threads that serve them.
    pub async fn run(self, stop: impl Future<Output = Stop>) -> Result<Drained, RunError> {
        // Health and pool are shared, so any core will do.
        let app = &self.apps[0];
        let watching = self.memory_watch.map(|watch| tokio::spawn(watch.run()));
        let sharing = self.sharing.map(|(limits, redis)| tokio::spawn(limits.share(redis)));
        let figures = self.about.dashboard(app);
        let sampling = tokio::spawn(dashboard::sample(app.clone(), self.about, figures.clone()));
        let supervising = tokio::spawn(supervise(app.clone(), self.cores.runtimes().to_vec()));
        let mut starting = tokio::spawn(readiness::get_ready(app.clone(), self.database.backend.clone()));
        let reloading = self
            .reloading
            .map(|(reloader, requests)| tokio::spawn(reloader.run(requests)));
        let following = app
            .auth
            .clone()
            .map(|auth| tokio::spawn(async move { auth.follow().await }));
        let (leave, left) = oneshot::channel();
        let leaving = async { left.await.unwrap_or(()) };
        let stopping = async {
            let Stop { reason, delay } = stop.await;
            app.health.enter(Stage::Draining);
            figures.end();
            systemd::stopping();
            // Fails if the service is ending for another reason.
            let _ = leave.send(());
            tracing::info!(signal = reason, "draining");
            sleep(delay).await;
        };
        let core = |(runtime, app): (&Handle, &App)| http::Core {
            runtime: runtime.clone(),
            service: Guarded {
                service: Routes::new(app.clone(), figures.clone()),
                gate: app.gate.clone(),
            },
        };
        let cores = self.cores.runtimes().iter().zip(&self.apps).map(core).collect();
        let Settings {
            proxy_protocol,
            trusted_proxies,
            ..
        } = &*self.database.backend.settings;
        let proxies = proxy_protocol.then(|| trusted_proxies.clone());
        let listeners = TcpListeners::from(self.listeners)
            .with_tls(self.tls)
            .with_proxies(proxies.unwrap_or_default());
        let ended = tokio::select! {
            drained = http::serve(listeners, cores, self.http, app.traffic.clone(), leaving, stopping) => Ok(drained),
            failed = &mut starting => Err(match failed {
                Ok(Err(error)) => Ended::Database(error),
                Ok(Ok(())) | Err(_) => Ended::Start,
            }),
            () = self.cores.lost() => Err(Ended::Core),
        };
        starting.abort();
        supervising.abort();
        sampling.abort();
        for task in [watching, sharing, reloading].into_iter().flatten() {
            task.abort();
        }
        if let (Some(following), Some(auth)) = (following, &app.auth) {
            following.abort();
            auth.close().await;
        }
        for app in &self.apps {
            app.store.abort();
            app.store.close().await;
        }
        self.database.close().await;
        if let Some(exporter) = self.exporter {
            exporter.stop().await;
        }
        self.cores.stop();
        Ok(ended?)
    }
}
