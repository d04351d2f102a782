//! The address of a Redis server, how to connect to it, and what it reports of itself. Invariant: a connection leads to one run
//! of one server.

use std::{borrow::Cow, io, sync::Arc, time::Duration};

use cenote_metrics::AtomicHistogram;
use cenote_secret::Secret;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo};
use ring::digest;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::ClientConfig;

use crate::{
    clock,
    config::{ConfigError, RedisConfig},
    password::RedisPassword,
    protocol::keyspace_proof::Identity,
    redis::{
        connection::{Connection, connect},
        problem::{RedisProblem, RedisProblemKind},
        tls::client_config,
        topology::Topology,
    },
    url::{Endpoint, Protocol, RedisUrl},
};

/// The oldest version with everything that the protocol needs: `SET … KEEPTTL`, and `CLIENT TRACKING`.
const OLDEST: u32 = 6;

/// A server's address, and how to log in there.
#[derive(Clone)]
pub(crate) struct Server {
    url: RedisUrl,
    /// In place of that of the URL.
    password: Option<RedisPassword>,
    tls: Option<Arc<ClientConfig>>,
    /// How long its commands took. Clones, and the servers of one configuration, share it.
    times: Arc<AtomicHistogram>,
}

/// What a server reports of itself.
pub(crate) struct ServerInfo {
    pub(crate) run: Identity,
    pub(crate) is_in_cluster: bool,
    pub(crate) is_primary: bool,
}

impl Server {
    /// The servers that the settings name.
    pub(crate) fn all(redis: &RedisConfig) -> Result<Vec<Self>, ConfigError> {
        RedisUrl::check_all(&redis.servers)?;
        let is_tls = redis.servers[0].is_tls();
        if !is_tls && (redis.authorities.is_some() || redis.identity.is_some()) {
            return Err(ConfigError::Tls(
                "certificates are for a URL with TLS (rediss://)".to_owned(),
            ));
        }
        let tls = match is_tls {
            true => Some(client_config(redis.authorities.as_deref(), redis.identity.as_ref())?),
            false => None,
        };
        let times = Arc::default();
        let server = |url: &RedisUrl| Self {
            url: url.clone(),
            password: redis.password.clone(),
            tls: tls.clone(),
            times: Arc::clone(&times),
        };
        Ok(redis.servers.iter().map(server).collect())
    }

    pub(crate) fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// The server at another address, with the same login and the same kind of connection.
    pub(crate) fn at(&self, host: &str, port: u16) -> Self {
        Self {
            url: self.url.at(host, port),
            password: self.password.clone(),
            tls: self.tls.clone(),
            times: Arc::clone(&self.times),
        }
    }

    /// How long the commands of all servers of this configuration took.
    pub(crate) fn times(&self) -> &Arc<AtomicHistogram> {
        &self.times
    }

    /// The host, as it is written in the URL.
    fn host(&self) -> &str {
        match &self.url.endpoint {
            Endpoint::Tcp { host, .. } => host,
            Endpoint::Unix(_) => "localhost",
        }
    }

    /// Opens a connection whose driver runs on the current runtime. A command there fails after the timeout.
    pub(crate) async fn open(&self, timeout: Duration) -> Result<Connection, RedisProblem> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(timeout));
        self.connect(self.protocol(), config, timeout).await
    }

    /// The same without timeouts, for a caller that has its own: the driver would set a timer for each command.
    pub(crate) async fn open_untimed(&self, timeout: Duration) -> Result<Connection, RedisProblem> {
        self.connect(self.protocol(), untimed(), timeout).await
    }

    /// Opens an untimed connection that is told of changes to what was read through it, and of its own end, in wire order.
    pub(crate) async fn open_tracked(
        &self,
        timeout: Duration,
        told: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, RedisProblem> {
        let told = move |message| {
            told(message);
            // The client library ignores an error.
            Ok::<(), ()>(())
        };
        let config = untimed().set_push_sender(told);
        // Only in RESP3 does a server push messages on the connection that reads.
        let mut connection = self.connect(ProtocolVersion::RESP3, config, timeout).await?;
        let tracking = redis::cmd("CLIENT")
            .arg(&["TRACKING", "ON"])
            .query_async(&mut connection.commands)
            .await;
        let () = tracking.map_err(|error| RedisProblem::from(error).at(&self.url))?;
        Ok(connection)
    }

    async fn connect(
        &self,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
        timeout: Duration,
    ) -> Result<Connection, RedisProblem> {
        let deadline = clock::after(Instant::now(), timeout.saturating_mul(CONNECTING));
        let url = match &self.password {
            None => Cow::Borrowed(&self.url),
            Some(password) => {
                let password = self.read(password, deadline).await;
                Cow::Owned(
                    self.url
                        .with_password(password.map_err(|problem| problem.at(&self.url))?),
                )
            }
        };
        connect(&url, self.tls.as_ref(), protocol, config, deadline).await
    }

    async fn read(&self, password: &RedisPassword, deadline: Instant) -> Result<Secret<String>, RedisProblem> {
        let read = timeout_at(deadline, password.get()).await;
        let read = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        read.map_err(|error| {
            let happened = format!("its password cannot be read: {error}");
            RedisProblem::new(RedisProblemKind::Login, happened)
        })
    }

    fn protocol(&self) -> ProtocolVersion {
        match self.url.protocol {
            Some(Protocol::Resp3) => ProtocolVersion::RESP3,
            Some(Protocol::Resp2) | None => ProtocolVersion::RESP2,
        }
    }

    /// Returns the topology of the server's cluster, as the server sees it.
    pub(crate) async fn topology(&self, connection: &mut Connection) -> Result<Topology, RedisProblem> {
        let slots = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut connection.commands)
            .await?;
        Topology::parse(slots, self.host())
    }
}

/// Connecting may take this many times the timeout of a command: it takes several round trips, and more with TLS.
pub(crate) const CONNECTING: u32 = 4;

fn untimed() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None)
}

/// Asks a server for its version, run and role.
pub(crate) async fn server_info(connection: &mut Connection) -> Result<ServerInfo, RedisProblem> {
    let (server, replication): (String, String) = redis::pipe()
        .cmd("INFO")
        .arg("server")
        .cmd("INFO")
        .arg("replication")
        .query_async(&mut connection.commands)
        .await?;
    read(&server, &replication)
}

/// Parses `INFO server` and `INFO replication`.
fn read(server: &str, replication: &str) -> Result<ServerInfo, RedisProblem> {
    if line(server, "redis_mode:") == Some("sentinel") {
        return Err(RedisProblem::new(
            RedisProblemKind::Mismatch,
            "it is a Sentinel, which holds no data; the URL must name the server that it watches",
        ));
    }
    // Valkey and others report here the version of Redis that they are compatible with.
    if let Some(version) = line(server, "redis_version:")
        && let Some(Ok(major)) = version.split('.').next().map(str::parse::<u32>)
        && major < OLDEST
    {
        let happened = format!("it is Redis {version}, and {OLDEST}.0 or newer is needed");
        return Err(RedisProblem::new(RedisProblemKind::TooOld, happened));
    }
    let id = line(server, "run_id:").filter(|id| !id.is_empty());
    let id =
        id.ok_or_else(|| RedisProblem::new(RedisProblemKind::NotRedis, "it did not tell its run id (INFO server)"))?;
    Ok(ServerInfo {
        run: run(id, replication),
        is_in_cluster: line(server, "redis_mode:") == Some("cluster"),
        is_primary: line(replication, "role:") != Some("slave"),
    })
}

/// A value of `INFO`.
fn line<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
}

/// The identity of a run of a server as a primary. A server that becomes a replica takes over the data of another, and its run id
/// stays. But when it is promoted, it notes whose history it continues: so the promotion is part of the identity.
fn run(id: &str, replication: &str) -> Identity {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(id.as_bytes());
    for past in ["master_replid2:", "second_repl_offset:"] {
        context.update(b" ");
        context.update(line(replication, past).unwrap_or_default().as_bytes());
    }
    let mut identity = [0; 20];
    identity.copy_from_slice(&context.finish().as_ref()[..20]);
    Identity(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_id() -> String {
        let digits = std::array::from_fn::<_, 40, _>(|at| char::from(b"0f"[at % 2]));
        digits.iter().collect()
    }

    #[test]
    fn another_run_and_a_promotion_are_other_identities_and_a_first_replica_is_not() {
        let info = |id: &str, of: &str, offset: &str| {
            format!("role:master\r\nmaster_replid:{id}\r\nmaster_replid2:{of}\r\nsecond_repl_offset:{offset}\r\n")
        };
        let identity = run("a", &info("x", "0", "-1"));
        assert_eq!(run("a", &info("y", "0", "-1")), identity);
        for other in [
            run("b", &info("x", "0", "-1")),
            run("a", &info("y", "x", "1")),
            run("a", &info("x", "0", "1")),
        ] {
            assert_ne!(other, identity);
        }
        assert_eq!(run("a", ""), run("a", "role:master\r\n"));
    }

    #[test]
    fn a_server_that_is_too_old_or_a_sentinel_is_refused_by_name() {
        let info = |version: &str, mode: &str| {
            format!(
                "# Server\r\nredis_version:{version}\r\nredis_mode:{mode}\r\nrun_id:{}\r\n",
                run_id()
            )
        };
        let told = read(&info("6.0.0", "cluster"), "").unwrap();
        assert!(told.is_in_cluster && told.is_primary);
        assert!(read(&info("10.1", "standalone"), "").is_ok());
        assert!(read(&info("255.255.255", "standalone"), "").is_ok());
        for (info, kind, named) in [
            (info("5.0.14", "standalone"), RedisProblemKind::TooOld, "5.0.14"),
            (info("7.0.0", "sentinel"), RedisProblemKind::Mismatch, "Sentinel"),
            (String::new(), RedisProblemKind::NotRedis, "run id"),
        ] {
            let problem = read(&info, "").err().unwrap();
            assert_eq!(problem.kind(), kind);
            assert!(problem.to_string().contains(named), "{problem}");
        }
    }

    #[test]
    fn certificates_are_for_tls_and_servers_are_those_of_one_cluster() {
        let redis = |urls: &str| RedisConfig::new(RedisUrl::parse_list(urls).unwrap());
        let servers = Server::all(&redis("rediss://one:1,rediss://two:2/")).unwrap();
        let hosts: Vec<_> = servers.iter().map(Server::host).collect();
        assert_eq!(hosts, ["one", "two"]);
        let moved = servers[1].at("three", 3);
        assert_eq!(moved.url.to_string(), "rediss://three:3");
        let mut plain = redis("redis://one:1/");
        plain.authorities = Some(Vec::new());
        assert!(matches!(Server::all(&plain), Err(ConfigError::Tls(_))));
        let mut mixed = redis("redis://one");
        mixed.servers.extend(redis("redis://:other@two").servers);
        assert!(matches!(Server::all(&mixed), Err(ConfigError::Url(_))));
        assert!(matches!(
            Server::all(&RedisConfig::new(Vec::new())),
            Err(ConfigError::Url(_))
        ));
    }
}
