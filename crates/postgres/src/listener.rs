//! LISTEN, on a session of its own that is kept alive.
//!
//! Invariant: from the moment [`Listener::listen`] has returned, every notification of that channel is either delivered
//! or covered by an [`Event::Gap`].

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    Config, Connection, ConnectionError, Error, Event, Postgres, Result,
    notification_queue::NotificationQueue,
    runtime_liveness::{CHECK_INTERVAL, LivenessCheck},
};

/// Pauses between attempts to connect again: from the first to the second, doubling, with jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// PostgreSQL cuts longer names off.
const LONGEST_NAME: usize = 63;

/// How a [`Listener`] looks after its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Notifications kept until somebody asks for them; what comes beyond is lost, which an [`Event::Gap`] tells.
    pub buffer: usize,
    /// How often the server is asked for a sign of life.
    pub check_every: Duration,
    /// How long it may take to give one, or to take a command. A session that is gone without a word is noticed after
    /// the sum of both at the latest.
    pub check_timeout: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            buffer: 4096,
            check_every: Duration::from_secs(10),
            check_timeout: Duration::from_secs(5),
        }
    }
}

/// Listens to channels, on a session outside any pool. A session that is lost is replaced, as often and for as long as
/// it takes. Dropping the listener ends its session. If the runtime on which it was made ends, or nobody runs it any more,
/// it goes on on that of the caller that asks for events, with an [`Event::Gap`].
///
/// ```no_run
/// use cenote_postgres::{Config, Event, Listener};
///
/// # async fn example(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
/// let mut listener = Listener::connect(config).await?;
/// listener.listen("stock").await?;
/// loop {
///     match listener.recv().await {
///         Event::Notification { payload, .. } => println!("changed: {payload}"),
///         Event::Gap => println!("anything may have changed"),
///     }
/// }
/// # }
/// ```
pub struct Listener {
    desk: Arc<Desk>,
    /// Held for a moment, never across an await.
    home: Mutex<Home>,
}

/// What the listener and its keeper share.
struct Desk {
    manager: Postgres,
    connect_timeout: Duration,
    options: ListenerOptions,
    notifications: Arc<NotificationQueue>,
    connected: AtomicBool,
    /// What a new session is to listen to. Held for a moment, never across an await.
    channels: Mutex<BTreeSet<String>>,
}

/// Where the keeper is.
struct Home {
    runtime: Handle,
    requests: mpsc::UnboundedSender<Request>,
    keeper: AbortHandle,
}

/// A channel to be listened to, or no longer.
struct Request {
    channel: String,
    listen: bool,
    done: oneshot::Sender<Result<()>>,
}

impl Home {
    /// Has a keeper on the current runtime, with a session or to open one.
    fn here(desk: Arc<Desk>, session: Option<Session>) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let keeper = Keeper {
            desk,
            requests: received,
        };
        Self {
            runtime: Handle::current(),
            requests,
            keeper: tokio::spawn(keeper.run(session)).abort_handle(),
        }
    }
}

impl Listener {
    /// Connects to the server of a pool's configuration.
    ///
    /// # Errors
    ///
    /// The first connect failed. Later ones are repeated.
    pub async fn connect(config: &Config) -> std::result::Result<Self, ConnectionError> {
        Self::connect_with(config, ListenerOptions::default()).await
    }

    /// As [`connect`](Self::connect), with a say in how the session is looked after.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_with(config: &Config, options: ListenerOptions) -> std::result::Result<Self, ConnectionError> {
        let mut config = config.clone();
        if config.server.get_application_name().is_none() {
            config.server.application_name("cenote listener");
        }
        let connect_timeout = config.pool.connect_timeout;
        let desk = Arc::new(Desk {
            manager: Postgres::new(config).map_err(|error| ConnectionError::Failed(error.to_string()))?,
            connect_timeout,
            options,
            notifications: Arc::new(NotificationQueue::new(options.buffer)),
            connected: AtomicBool::new(true),
            channels: Mutex::default(),
        });
        let session = desk.connect().await?;
        let home = Mutex::new(Home::here(desk.clone(), Some(session)));
        Ok(Self { desk, home })
    }

    /// Listens to a channel. The name is taken as it is: `NOTIFY` without quotes turns its own to lower case.
    ///
    /// While the session is lost this waits until there is one again.
    ///
    /// # Errors
    ///
    /// [`Error::ChannelName`] if the name is empty or longer than 63 bytes; otherwise the server's.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the channel is listened to.
    pub async fn listen(&self, channel: &str) -> Result<()> {
        self.request(channel, true).await
    }

    /// Listens to a channel no longer. Notifications that have arrived already are still delivered.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    ///
    /// As [`listen`](Self::listen).
    pub async fn unlisten(&self, channel: &str) -> Result<()> {
        self.request(channel, false).await
    }

    /// Waits for the next event.
    ///
    /// # Cancel safety
    ///
    /// Safe: no event is lost.
    pub async fn recv(&mut self) -> Event {
        loop {
            let gone = tokio::select! {
                biased;
                event = self.desk.notifications.next() => return event,
                gone = self.keeper_gone() => gone,
            };
            self.replace_keeper(gone);
        }
    }

    /// Whether the session is there, as far as is known. While it is not, nothing arrives.
    pub fn is_connected(&self) -> bool {
        self.desk.connected.load(Relaxed)
    }

    async fn request(&self, channel: &str, listen: bool) -> Result<()> {
        if channel.is_empty() || channel.len() > LONGEST_NAME {
            return Err(Error::ChannelName);
        }
        loop {
            let (done, answer) = oneshot::channel();
            let (runtime, _sent) = {
                let home = self.home();
                let request = Request {
                    channel: channel.to_owned(),
                    listen,
                    done,
                };
                (home.runtime.id(), home.requests.send(request))
            };
            let gone = tokio::select! {
                biased;
                answer = answer => match answer {
                    Ok(answer) => return answer,
                    Err(_) => runtime,
                },
                gone = self.keeper_gone() => gone,
            };
            // Asking the next one again is harmless.
            self.replace_keeper(gone);
        }
    }

    /// Completes when the keeper's runtime, which is told, has ended or is not run any more.
    async fn keeper_gone(&self) -> runtime::Id {
        let home = self.home().runtime.clone();
        if Handle::try_current().map_or(true, |here| here.id() == home.id()) {
            return std::future::pending().await;
        }
        let mut liveness = LivenessCheck::new();
        while !liveness.is_gone(&home) {
            sleep(CHECK_INTERVAL).await;
        }
        home.id()
    }

    /// Has a keeper on the current runtime instead of one that is gone; nothing if somebody has done so.
    fn replace_keeper(&self, gone: runtime::Id) {
        let mut home = self.home();
        if home.runtime.id() != gone {
            return;
        }
        tracing::warn!("the runtime of the listener is gone; it goes on on that of a caller");
        home.keeper.abort();
        self.desk.connected.store(false, Relaxed);
        *home = Home::here(self.desk.clone(), None);
    }

    fn home(&self) -> MutexGuard<'_, Home> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.home().keeper.abort();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Keeps a session, in a task of its own.
struct Keeper {
    desk: Arc<Desk>,
    requests: mpsc::UnboundedReceiver<Request>,
}

/// A session that is closed without a word when it is no longer looked after: the server may not be listening.
struct Session(Connection);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    async fn run(mut self, mut session: Option<Session>) {
        let desk = self.desk.clone();
        let mut unanswered = None;
        loop {
            if let Some(session) = session.take() {
                unanswered = self.attend(&session).await;
                desk.connected.store(false, Relaxed);
                tracing::warn!("the session that listens was lost; connecting again");
            }
            let next = desk.reconnect().await;
            desk.connected.store(true, Relaxed);
            // Only now: what is lost until the server listens again is covered too.
            desk.notifications.lose();
            tracing::info!("listening again");
            if let Some(done) = unanswered.take() {
                let _gave_up = done.send(Ok(()));
            }
            session = Some(next);
        }
    }

    /// Looks after a session until it is lost. Returns a caller whose channel only the next session will settle.
    async fn attend(&mut self, session: &Session) -> Option<oneshot::Sender<Result<()>>> {
        loop {
            tokio::select! {
                () = session.0.ended() => return None,
                Some(request) = self.requests.recv() => {
                    if let Err(unanswered) = self.serve(session, request).await {
                        return Some(unanswered);
                    }
                }
                () = sleep(self.desk.options.check_every) => {
                    let answer = timeout(self.desk.options.check_timeout, session.0.ping()).await;
                    if !matches!(answer, Ok(Ok(()))) {
                        return None;
                    }
                }
            }
        }
    }

    /// Does what a caller asked for; gives the caller back if the session was lost on the way.
    async fn serve(
        &mut self,
        session: &Session,
        request: Request,
    ) -> std::result::Result<(), oneshot::Sender<Result<()>>> {
        let Request { channel, listen, done } = request;
        let sql = match listen {
            true => listen_to(&channel),
            false => format!("UN{}", listen_to(&channel)),
        };
        let answer = self.desk.command(session, &sql).await;
        if let Err(refused @ (Error::Database(_) | Error::NotSent(_))) = answer {
            let _gave_up = done.send(Err(refused));
            return Ok(());
        }
        match listen {
            true => self.desk.channels().insert(channel),
            false => self.desk.channels().remove(&channel),
        };
        match answer {
            Ok(()) => {
                let _gave_up = done.send(Ok(()));
                Ok(())
            }
            Err(_) => Err(done),
        }
    }
}

impl Desk {
    fn channels(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconnect(&self) -> Session {
        let (first, longest) = PAUSES;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        let mut pauses = pauses.build();
        loop {
            sleep(pauses.next().unwrap_or(longest)).await;
            match self.resume().await {
                Ok(session) => return session,
                Err(error) => tracing::debug!(%error, "cannot listen yet"),
            }
        }
    }

    /// A new session that listens to what the last one did.
    async fn resume(&self) -> std::result::Result<Session, ConnectionError> {
        let session = self.connect().await?;
        let listen: Vec<String> = self.channels().iter().map(|it| listen_to(it)).collect();
        if !listen.is_empty() {
            let listening = self.command(&session, &listen.join("; ")).await;
            listening.map_err(|error| ConnectionError::Failed(error.to_string()))?;
        }
        Ok(session)
    }

    async fn connect(&self) -> std::result::Result<Session, ConnectionError> {
        let notifications = self.notifications.clone();
        let listener = Box::new(move |notification| notifications.push(notification));
        let connecting = self.manager.open(Some(listener));
        match timeout(self.connect_timeout, connecting).await {
            Ok(connection) => Ok(Session(connection?)),
            Err(_) => Err(ConnectionError::Failed("the server does not answer".to_owned())),
        }
    }

    async fn command(&self, session: &Session, sql: &str) -> Result<()> {
        let limit = self.options.check_timeout;
        match timeout(limit, session.0.batch_execute(sql)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout(limit)),
        }
    }
}

fn listen_to(channel: &str) -> String {
    format!("LISTEN \"{}\"", channel.replace('"', "\"\""))
}
