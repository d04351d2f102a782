//! LISTEN on a separate session, which is replaced when it is lost.
//!
//! Invariant: once [`Listener::listen`] has returned, every notification of that channel is delivered or reported by an
//! [`Event::Gap`].

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
    Config, Connection, ConnectionError, Error, Event, Hooks, Postgres, Result,
    notification_queue::NotificationQueue,
    runtime_liveness::{CHECK_INTERVAL, LivenessCheck},
};

/// The shortest and the longest pause between attempts to reconnect. Pauses double, with jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// PostgreSQL truncates longer names.
const LONGEST_NAME: usize = 63;

/// Options of a [`Listener`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// The number of notifications that are kept until they are received. If more come, they are lost, which is
    /// reported by an [`Event::Gap`].
    pub buffer: usize,
    /// How often the session is checked.
    pub check_every: Duration,
    /// The timeout of a check and of a command. A session that disappears silently is noticed after at most
    /// `check_every + check_timeout`.
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

/// Listens to channels, on a session outside any pool.
///
/// A lost session is replaced, however long that takes. Dropping the listener ends the session. If the runtime on which
/// the listener was created ends or is not run, it continues on the runtime of a caller of [`recv`](Self::recv), after
/// an [`Event::Gap`].
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
    shared: Arc<SharedState>,
    /// Held for a moment, never across an await.
    task: Mutex<RunningTask>,
}

/// The state that the listener shares with its task.
struct SharedState {
    manager: Postgres,
    connect_timeout: Duration,
    options: ListenerOptions,
    notifications: Arc<NotificationQueue>,
    connected: AtomicBool,
    /// The channels that a new session listens to. The lock is held for a moment, never across an await.
    channels: Mutex<BTreeSet<String>>,
}

/// The running task, and how to reach it.
struct RunningTask {
    runtime: Handle,
    requests: mpsc::UnboundedSender<Request>,
    abort: AbortHandle,
}

/// A request to the task: listen to a channel, or stop listening.
struct Request {
    channel: String,
    listen: bool,
    done: oneshot::Sender<Result<()>>,
}

impl RunningTask {
    /// Starts a task on the current runtime. Without a session it opens one.
    fn here(shared: Arc<SharedState>, session: Option<ListeningSession>) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let task = ListenerTask {
            shared,
            requests: received,
        };
        Self {
            runtime: Handle::current(),
            requests,
            abort: tokio::spawn(task.run(session)).abort_handle(),
        }
    }
}

impl Listener {
    /// Connects to the server of a configuration.
    ///
    /// # Errors
    ///
    /// The first connect failed. Later connects are repeated until one succeeds.
    pub async fn connect(config: &Config) -> std::result::Result<Self, ConnectionError> {
        Self::connect_with(config, ListenerOptions::default()).await
    }

    /// Like [`connect`](Self::connect), with these options.
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
        let shared = Arc::new(SharedState {
            manager: Postgres::new(config, Hooks::default())
                .map_err(|error| ConnectionError::Failed(error.to_string()))?,
            connect_timeout,
            options,
            notifications: Arc::new(NotificationQueue::new(options.buffer)),
            connected: AtomicBool::new(true),
            channels: Mutex::default(),
        });
        let session = shared.connect().await?;
        let task = Mutex::new(RunningTask::here(shared.clone(), Some(session)));
        Ok(Self { shared, task })
    }

    /// Listens to a channel. The name is case-sensitive; note that `NOTIFY` converts a name without quotes to lower
    /// case.
    ///
    /// While the session is lost, this waits until there is a new one.
    ///
    /// # Errors
    ///
    /// [`Error::ChannelName`] if the name is empty or longer than 63 bytes. Otherwise the error of the server.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it is unknown whether the listener listens to the channel.
    pub async fn listen(&self, channel: &str) -> Result<()> {
        self.request(channel, true).await
    }

    /// Stops listening to a channel. Notifications that have arrived are still delivered.
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
                event = self.shared.notifications.next() => return event,
                gone = self.task_gone() => gone,
            };
            self.replace_task(gone);
        }
    }

    /// Whether the session is connected, as far as is known. While it is not, no notification arrives.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Relaxed)
    }

    async fn request(&self, channel: &str, listen: bool) -> Result<()> {
        if channel.is_empty() || channel.len() > LONGEST_NAME {
            return Err(Error::ChannelName);
        }
        loop {
            let (done, answer) = oneshot::channel();
            let (runtime, _sent) = {
                let task = self.task();
                let request = Request {
                    channel: channel.to_owned(),
                    listen,
                    done,
                };
                (task.runtime.id(), task.requests.send(request))
            };
            let gone = tokio::select! {
                biased;
                answer = answer => match answer {
                    Ok(answer) => return answer,
                    Err(_) => runtime,
                },
                gone = self.task_gone() => gone,
            };
            // The task is gone. Sending the request again is harmless.
            self.replace_task(gone);
        }
    }

    /// Completes with the runtime of the task when that has ended or is not run.
    async fn task_gone(&self) -> runtime::Id {
        let task = self.task().runtime.clone();
        if Handle::try_current().map_or(true, |here| here.id() == task.id()) {
            return std::future::pending().await;
        }
        let mut liveness = LivenessCheck::new();
        while !liveness.is_gone(&task) {
            sleep(CHECK_INTERVAL).await;
        }
        task.id()
    }

    /// Replaces a task that is gone by one on the current runtime, unless another caller has done so.
    fn replace_task(&self, gone: runtime::Id) {
        let mut task = self.task();
        if task.runtime.id() != gone {
            return;
        }
        tracing::warn!("the runtime of the listener is gone; it goes on on that of a caller");
        task.abort.abort();
        self.shared.connected.store(false, Relaxed);
        *task = RunningTask::here(self.shared.clone(), None);
    }

    fn task(&self) -> MutexGuard<'_, RunningTask> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task().abort.abort();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// The task that owns the session.
struct ListenerTask {
    shared: Arc<SharedState>,
    requests: mpsc::UnboundedReceiver<Request>,
}

/// Closes the socket when dropped, without sending Terminate: the server may not be reading.
struct ListeningSession(Connection);

impl Drop for ListeningSession {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ListenerTask {
    async fn run(mut self, mut session: Option<ListeningSession>) {
        let shared = self.shared.clone();
        let mut unanswered = None;
        loop {
            if let Some(session) = session.take() {
                unanswered = self.attend(&session).await;
                shared.connected.store(false, Relaxed);
                tracing::warn!("the session that listens was lost; connecting again");
            }
            let next = shared.reconnect().await;
            shared.connected.store(true, Relaxed);
            // After the session listens again, so that notifications lost before that are covered too.
            shared.notifications.lose();
            tracing::info!("listening again");
            if let Some(done) = unanswered.take() {
                let _gave_up = done.send(Ok(()));
            }
            session = Some(next);
        }
    }

    /// Serves requests and checks the session until it is lost. Returns the caller of a request that only the next
    /// session can answer.
    async fn attend(&mut self, session: &ListeningSession) -> Option<oneshot::Sender<Result<()>>> {
        loop {
            tokio::select! {
                () = session.0.ended() => return None,
                Some(request) = self.requests.recv() => {
                    if let Err(unanswered) = self.serve(session, request).await {
                        return Some(unanswered);
                    }
                }
                () = sleep(self.shared.options.check_every) => {
                    let answer = timeout(self.shared.options.check_timeout, session.0.ping()).await;
                    if !matches!(answer, Ok(Ok(()))) {
                        return None;
                    }
                }
            }
        }
    }

    /// Serves a request. If the session is lost meanwhile, returns the caller.
    async fn serve(
        &mut self,
        session: &ListeningSession,
        request: Request,
    ) -> std::result::Result<(), oneshot::Sender<Result<()>>> {
        let Request { channel, listen, done } = request;
        let sql = match listen {
            true => listen_to(&channel),
            false => format!("UN{}", listen_to(&channel)),
        };
        let answer = self.shared.command(session, &sql).await;
        if let Err(refused @ (Error::Database(_) | Error::NotSent(_))) = answer {
            let _gave_up = done.send(Err(refused));
            return Ok(());
        }
        match listen {
            true => self.shared.channels().insert(channel),
            false => self.shared.channels().remove(&channel),
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

impl SharedState {
    fn channels(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconnect(&self) -> ListeningSession {
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

    /// Opens a session that listens to all channels.
    async fn resume(&self) -> std::result::Result<ListeningSession, ConnectionError> {
        let session = self.connect().await?;
        let listen: Vec<String> = self.channels().iter().map(|it| listen_to(it)).collect();
        if !listen.is_empty() {
            let listening = self.command(&session, &listen.join("; ")).await;
            listening.map_err(|error| ConnectionError::Failed(error.to_string()))?;
        }
        Ok(session)
    }

    async fn connect(&self) -> std::result::Result<ListeningSession, ConnectionError> {
        let notifications = self.notifications.clone();
        let listener = Box::new(move |notification| notifications.push(notification));
        let connecting = self.manager.open(Some(listener));
        match timeout(self.connect_timeout, connecting).await {
            Ok(connection) => Ok(ListeningSession(connection?)),
            Err(_) => Err(ConnectionError::Failed("the server does not answer".to_owned())),
        }
    }

    async fn command(&self, session: &ListeningSession, sql: &str) -> Result<()> {
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
