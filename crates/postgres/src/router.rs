//! From a configuration to a session on a suitable host. Invariant: every host gets its share of the time there is,
//! so none that is silent keeps the others from being tried.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_postgres::{
    Client,
    config::{LoadBalanceHosts, SslMode},
};

#[cfg(feature = "tls")]
use crate::handshake::{Encryption, HandshakeError};
use crate::{
    Config, ConnectionError, InvalidConfig,
    credentials::Password,
    dns::Resolver,
    hosts::{Target, TargetKind, targets},
    known::{Address, Known},
    place::{Place, tells_of_outage},
    role::{Role, TargetSession},
    socket::{Endpoint, Socket},
    tap::{self, Link, Opened},
    timer::after,
    url,
};

/// Longest wait for an answer when names are looked up without hurry.
const LOOKUP: Duration = Duration::from_secs(5);

/// Finds hosts, and keeps what is known of them.
#[derive(Debug)]
pub(crate) struct Router {
    server: tokio_postgres::Config,
    wanted: TargetSession,
    password: Option<Password>,
    resolver: Resolver,
    #[cfg(feature = "tls")]
    encryption: Option<Encryption>,
    /// As `Tls` has it.
    plain_first: bool,
    targets: Vec<Target>,
    known: Known,
    /// Wakes the tasks that wait for news, so that they look around.
    alarm: Notify,
    /// Names are to be looked up.
    names_due: AtomicBool,
}

/// An open session.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) link: Link,
    pub(crate) place: Place,
}

/// One search for a host.
struct Search {
    server: tokio_postgres::Config,
    /// A session that will do if no better one is found.
    spare: Option<Session>,
}

impl Router {
    pub(crate) fn new(config: &Config) -> Result<Self, InvalidConfig> {
        let server = &config.server;
        let targets = targets(server);
        if targets.is_empty() {
            return Err(InvalidConfig::NoHost);
        }
        url::check(server)?;
        let unsupported = config.tls.check(server);
        unsupported.map_err(InvalidConfig::Unsupported)?;
        let wanted = config.target_session();
        let random = server.get_load_balance_hosts() == LoadBalanceHosts::Random;
        Ok(Self {
            server: server.clone(),
            wanted,
            password: config.password.clone(),
            resolver: config.resolver.clone(),
            #[cfg(feature = "tls")]
            encryption: match server.get_ssl_mode() {
                SslMode::Disable => None,
                _ => {
                    let encryption = Encryption::new(&config.tls, server);
                    Some(encryption.map_err(|error| InvalidConfig::Tls(error.to_string()))?)
                }
            },
            plain_first: config.tls.plain_first,
            known: Known::new(targets.len(), wanted, random),
            targets,
            alarm: Notify::new(),
            names_due: AtomicBool::new(false),
        })
    }

    /// Opens a session on a suitable host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was begun; the host being tried counts as failed.
    pub(crate) async fn open(self: &Arc<Self>, deadline: Instant) -> Result<Session, ConnectionError> {
        let mut server = self.server.clone();
        if let Some(password) = &self.password {
            server.password(password.get().await.map_err(ConnectionError::Password)?);
        }
        let mut search = Search { server, spare: None };
        let mut failures = Vec::new();
        let candidates = self.known.hosts();
        for (index, candidate) in candidates.iter().enumerate() {
            if candidate.resting && search.spare.is_some() {
                break;
            }
            let host = candidate.index;
            let limit = share(deadline, candidates.len() - index);
            let trial = self.known.trial(host, None);
            let found = timeout_at(limit, self.try_host(&mut search, host, limit)).await;
            match found.unwrap_or_else(|_| Err(self.silent(host))) {
                Ok(Some(session)) => {
                    trial.answered(session.place.role);
                    return Ok(session);
                }
                Ok(None) => {
                    trial.forgive();
                    failures.push((self.name(host).to_owned(), self.unsuitable(host)));
                }
                Err(error) => failures.push((self.name(host).to_owned(), error)),
            }
        }
        search.spare.ok_or_else(|| all_failed(failures))
    }

    /// Tries the addresses of one host. `None`: it answers, but is not what is looked for.
    async fn try_host(
        self: &Arc<Self>,
        search: &mut Search,
        host: usize,
        deadline: Instant,
    ) -> Result<Option<Session>, ConnectionError> {
        let endpoints = self.resolve(host).await?;
        let addresses = self.known.addresses(host, &endpoints);
        let mut seen = None;
        let mut failure = None;
        for (index, address) in addresses.iter().enumerate() {
            if address.resting && (seen.is_some() || search.spare.is_some()) {
                break;
            }
            let mut limit = share(deadline, addresses.len() - index);
            if let Some(longest) = self.server.get_connect_timeout() {
                limit = limit.min(after(Instant::now(), *longest));
            }
            let trial = self.known.trial(host, Some(&address.endpoint));
            let opened = timeout_at(limit, self.session(search, host, address, limit)).await;
            match opened.unwrap_or_else(|_| Err(self.silent(host))) {
                Ok(session) => {
                    let role = session.place.role;
                    trial.answered(role);
                    if self.wanted.suits(role) {
                        return Ok(Some(session));
                    }
                    seen = Some(role);
                    if self.wanted == TargetSession::PreferStandby {
                        search.spare.get_or_insert(session);
                    }
                }
                Err(error) if error.is_permanent() && !error.depends_on_address() => {
                    return Err(error);
                }
                Err(error) => {
                    failure = Some(match failure.take() {
                        Some(before) => ConnectionError::or_rather(before, error),
                        None => error,
                    });
                }
            }
        }
        match (seen, failure) {
            (Some(role), _) => {
                self.known.trial(host, None).answered(role);
                Ok(None)
            }
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(None),
        }
    }

    /// Opens a session at this address, whatever the server is.
    async fn session(
        self: &Arc<Self>,
        search: &Search,
        host: usize,
        address: &Address,
        deadline: Instant,
    ) -> Result<Session, ConnectionError> {
        let born = address.epoch.now();
        let started = self.start(&search.server, host, &address.endpoint, deadline);
        let (opened, is_encrypted) = started.await?;
        let Opened { client, link, role } = opened;
        let role = match role {
            Some(role) => role,
            None => Role::ask(&client).await?,
        };
        let place = Place {
            router: self.clone(),
            host,
            endpoint: address.endpoint.clone(),
            epoch: address.epoch.clone(),
            born,
            role,
            is_encrypted,
        };
        Ok(Session { client, link, place })
    }

    /// Connects and logs in. With `sslmode=prefer` what cannot be had encrypted is tried without, and with `allow` the
    /// other way round, as libpq does.
    async fn start(
        &self,
        server: &tokio_postgres::Config,
        host: usize,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<(Opened, bool), ConnectionError> {
        let mode = match endpoint {
            Endpoint::Tcp(_) if cfg!(feature = "tls") => self.server.get_ssl_mode(),
            _ => SslMode::Disable,
        };
        let prefer = mode == SslMode::Prefer;
        if prefer && self.plain_first {
            match self.start_plain(server, host, endpoint, deadline).await {
                Err(error) if wants_it_otherwise(&error) => {}
                opened => return opened,
            }
        }
        match self.reach(host, endpoint, mode).await {
            Ok(socket) => {
                let is_encrypted = socket.is_encrypted();
                match self.log_in(socket, server, host, deadline).await {
                    Err(error) if prefer && is_encrypted && wants_it_otherwise(&error) => {}
                    opened => return Ok((opened?, is_encrypted)),
                }
            }
            Err(ConnectionError::Tls { .. }) if prefer => {}
            Err(error) => return Err(error),
        }
        self.start_plain(server, host, endpoint, deadline).await
    }

    async fn start_plain(
        &self,
        server: &tokio_postgres::Config,
        host: usize,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<(Opened, bool), ConnectionError> {
        let socket = self.reach(host, endpoint, SslMode::Disable).await?;
        Ok((self.log_in(socket, server, host, deadline).await?, false))
    }

    /// Connects to an address of a host.
    pub(crate) async fn reach(
        &self,
        host: usize,
        endpoint: &Endpoint,
        mode: SslMode,
    ) -> Result<Socket, ConnectionError> {
        let socket = Socket::connect(endpoint, &self.server).await;
        let socket = socket.map_err(|cause| self.unreachable(host, cause))?;
        match mode {
            SslMode::Disable => Ok(socket),
            _ => self.encrypt(host, socket, mode).await,
        }
    }

    #[cfg(feature = "tls")]
    async fn encrypt(&self, host: usize, socket: Socket, mode: SslMode) -> Result<Socket, ConnectionError> {
        let (Socket::Tcp(stream), Some(encryption)) = (socket, &self.encryption) else {
            return Err(self.not_encrypted(host, "only TCP connections can be"));
        };
        match encryption.encrypt(stream, &self.targets[host].name).await {
            Ok(encrypted) => Ok(Socket::Tls(Box::new(encrypted))),
            Err(HandshakeError::NotOffered(stream)) if mode == SslMode::Prefer => Ok(Socket::Tcp(stream)),
            Err(HandshakeError::Io(cause)) => Err(self.unreachable(host, cause)),
            Err(HandshakeError::Stranger) => Err(self.not_postgres(host)),
            Err(refused) => Err(self.not_encrypted(host, &refused.to_string())),
        }
    }

    #[cfg(not(feature = "tls"))]
    async fn encrypt(&self, host: usize, _socket: Socket, _mode: SslMode) -> Result<Socket, ConnectionError> {
        Err(self.not_encrypted(host, "this program was built without TLS"))
    }

    async fn log_in(
        &self,
        socket: Socket,
        server: &tokio_postgres::Config,
        host: usize,
        deadline: Instant,
    ) -> Result<Opened, ConnectionError> {
        let twin = socket.twin().map_err(|cause| self.unreachable(host, cause))?;
        let opened = tap::open(socket, server, deadline).await;
        let error = match opened {
            Ok(opened) => {
                opened.link.look_at(twin);
                return Ok(opened);
            }
            Err(tap::OpenError::Timeout) => return Err(self.silent(host)),
            Err(tap::OpenError::Stranger) => return Err(self.not_postgres(host)),
            Err(tap::OpenError::Postgres(error)) => ConnectionError::of_login(error, self.name(host)),
        };
        if let ConnectionError::Refused(refusal) = &error
            && tells_of_outage(refusal.code().code())
        {
            self.give_up(host, refusal.code().code());
        }
        Err(error)
    }

    /// The addresses a host has now.
    async fn resolve(&self, host: usize) -> Result<Vec<Endpoint>, ConnectionError> {
        let target = &self.targets[host];
        match &target.kind {
            TargetKind::Address(address) => Ok(vec![Endpoint::Tcp(*address)]),
            TargetKind::Socket(path) => Ok(vec![Endpoint::Unix(path.clone())]),
            TargetKind::Name(port) => {
                let resolved = self.resolver.resolve(&target.name, *port).await;
                let resolved = resolved.map_err(|cause| self.unreachable(host, cause))?;
                Ok(resolved.into_iter().map(Endpoint::Tcp).collect())
            }
        }
    }

    /// Looks all names up and gives up the connections to addresses they no longer have; says whether there were any.
    /// A name that does not resolve changes nothing.
    async fn look_up_names(&self) -> bool {
        let mut moved = false;
        for host in 0..self.targets.len() {
            if !self.targets[host].is_name() {
                continue;
            }
            match timeout(LOOKUP, self.resolve(host)).await {
                Ok(Ok(endpoints)) => {
                    if self.known.resolved(host, &endpoints) {
                        let host = self.name(host);
                        tracing::info!(host, "the name has moved; its connections move too");
                        moved = true;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "a name does not resolve"),
                Err(_) => tracing::debug!("a name does not resolve in time"),
            }
        }
        moved
    }

    /// Whether there is a name that may come to mean another address.
    fn has_names(&self) -> bool {
        self.targets.iter().any(Target::is_name)
    }

    /// The host, as the configuration has it.
    pub(crate) fn name(&self, host: usize) -> &str {
        &self.targets[host].shown
    }

    /// Takes the hosts of this name out of use, or back into it, and says whether there are any.
    pub(crate) fn set_drained(&self, name: &str, drained: bool) -> bool {
        let named = |host: &usize| self.name(*host) == name;
        let hosts: Vec<_> = (0..self.targets.len()).filter(named).collect();
        for &host in &hosts {
            self.known.set_drained(host, drained);
        }
        self.look_around();
        !hosts.is_empty()
    }

    /// Whether the pool cares what a server is.
    pub(crate) fn role_matters(&self) -> bool {
        self.wanted != TargetSession::Any
    }

    /// Whether a connection may stay where the server was one thing and is another now.
    pub(crate) fn keeps(&self, then: Role, now: Role) -> bool {
        now == then || (self.role_matters() && self.wanted.suits(now))
    }

    /// Gives up the connections to the host of one that has met with this.
    pub(crate) fn evict(&self, place: &Place, reason: &str) {
        // An older connection brings old news.
        if !place.is_stale() {
            self.give_up(place.host, reason);
        }
    }

    fn give_up(&self, host: usize, reason: &str) {
        if self.known.evict(host) {
            let host = self.name(host);
            tracing::warn!(host, reason, "connections to this host are replaced");
            self.look_around();
        }
    }

    /// Has the pool's watch look names and idle connections over.
    pub(crate) fn look_around(&self) {
        self.alarm.notify_one();
    }

    /// Waits until connections may have been given up, or a name has moved; has names looked up so often, and after
    /// each alarm.
    ///
    /// # Cancel safety
    ///
    /// Safe: a look-up that is cut off is done again.
    pub(crate) async fn news(&self, interval: Option<Duration>) {
        let interval = interval.filter(|_| self.has_names());
        loop {
            if self.names_due.load(Relaxed) {
                let moved = self.look_up_names().await;
                self.names_due.store(false, Relaxed);
                if moved {
                    return;
                }
            }
            let elapsed = async {
                match interval {
                    Some(interval) => sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What was given up goes at once, however long the names take.
                () = self.alarm.notified() => {
                    self.names_due.store(true, Relaxed);
                    return;
                }
                () = elapsed => self.names_due.store(true, Relaxed),
            }
        }
    }

    fn unreachable(&self, host: usize, cause: io::Error) -> ConnectionError {
        ConnectionError::Unreachable {
            host: self.name(host).to_owned(),
            cause,
        }
    }

    fn silent(&self, host: usize) -> ConnectionError {
        self.unreachable(host, io::ErrorKind::TimedOut.into())
    }

    fn not_postgres(&self, host: usize) -> ConnectionError {
        ConnectionError::NotPostgres {
            host: self.name(host).to_owned(),
        }
    }

    pub(crate) fn unsuitable(&self, host: usize) -> ConnectionError {
        ConnectionError::Unsuitable {
            host: self.name(host).to_owned(),
            wanted: self.wanted.as_str(),
        }
    }

    fn not_encrypted(&self, host: usize, cause: &str) -> ConnectionError {
        ConnectionError::Tls {
            host: self.name(host).to_owned(),
            cause: cause.to_owned(),
        }
    }
}

/// What is told of hosts that all failed.
fn all_failed(mut failures: Vec<(String, ConnectionError)>) -> ConnectionError {
    match failures.len() {
        0 => ConnectionError::Failed("every host is drained".to_owned()),
        1 => failures.remove(0).1,
        _ => ConnectionError::EachHost(failures),
    }
}

/// An equal part of the time that is left, for one of so many that are left.
fn share(deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    now + deadline.saturating_duration_since(now) / left
}

/// `no pg_hba.conf entry`: there may be one for connections without encryption, or for those with it.
fn wants_it_otherwise(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Refused(refusal) if refusal.code().code() == "28000")
}
