//! How a Redis server is reached, and which run of it that is. Invariant: nothing here reconnects: a connection leads to
//! one run of one server until it ends.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, ProtocolVersion, PushInfo, RedisResult, TlsCertificates,
    aio::MultiplexedConnection,
};

use tokio_rustls::rustls;

use crate::{config::Redis, epoch::Identity, reply::protocol, topology::Topology};

/// A server's address, and how to log in there.
#[derive(Clone)]
pub(crate) struct Server(ConnectionInfo);

/// What a server tells of itself.
pub(crate) struct Told {
    pub(crate) run: Identity,
    pub(crate) is_in_cluster: bool,
}

impl Server {
    /// The servers of one or several URLs, comma separated.
    pub(crate) fn all(redis: &Redis) -> RedisResult<Vec<Self>> {
        let has_certificates = redis.authorities.is_some() || redis.identity.is_some();
        let server = |url: &str| {
            let info = url.trim().into_connection_info()?;
            if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
                // The client takes the process's. One that the program has chosen stays.
                let _chosen = rustls::crypto::ring::default_provider().install_default();
            }
            let client = match info.addr() {
                _ if !has_certificates => Client::open(info)?,
                ConnectionAddr::TcpTls { .. } => Client::build_with_tls(info, certificates(redis))?,
                _ => return Err(protocol("certificates are for `rediss://`")),
            };
            Ok(Self(client.get_connection_info().clone()))
        };
        redis.url.split(',').map(server).collect()
    }

    /// The server at another address, with the same login and the same kind of connection.
    pub(crate) fn at(&self, host: &str, port: u16) -> Self {
        let host = host.to_owned();
        let address = match self.0.addr() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        Self(self.0.clone().set_addr(address))
    }

    /// The host, as it is written in the URL.
    fn host(&self) -> &str {
        match self.0.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "",
        }
    }

    /// A connection whose driver runs on the current runtime. What is asked there is given up after the timeout.
    pub(crate) async fn open(&self, timeout: Duration) -> RedisResult<MultiplexedConnection> {
        let config = untimed(timeout).set_response_timeout(Some(timeout));
        self.connect(&config).await
    }

    /// The same for whoever watches the time, which is more than the driver can do without a timer for each question.
    pub(crate) async fn open_untimed(
        &self,
        timeout: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        self.connect(&untimed(timeout)).await
    }

    async fn connect(&self, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let client = Client::open(self.0.clone())?;
        client
            .get_multiplexed_async_connection_with_config(config)
            .await
    }

    /// An untimed connection that is told of changes to what was read through it, and of its own end, in the order of the wire.
    pub(crate) async fn open_tracked(
        &self,
        timeout: Duration,
        told: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        // Only in this version of the protocol does a server tell of changes.
        let settings = self.0.redis_settings().clone();
        let settings = settings.set_protocol(ProtocolVersion::RESP3);
        let server = Self(self.0.clone().set_redis_settings(settings));
        let told = move |message| {
            told(message);
            Ok::<(), ()>(()) // an error would only be ignored
        };
        let config = untimed(timeout).set_push_sender(told);
        let mut connection = server.connect(&config).await?;
        let () = redis::cmd("CLIENT")
            .arg(&["TRACKING", "ON"])
            .query_async(&mut connection)
            .await?;
        Ok(connection)
    }

    /// The topology of the cluster that this server belongs to, as it sees it.
    pub(crate) async fn topology(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Topology> {
        if self.0.redis_settings().db() != 0 {
            return Err(protocol("a cluster has no database but number 0"));
        }
        let slots = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(connection)
            .await?;
        Topology::parse(slots, self.host())
    }
}

/// What TLS is done with.
fn certificates(redis: &Redis) -> TlsCertificates {
    let client_tls = redis.identity.clone().map(|identity| ClientTlsConfig {
        client_cert: identity.certificate,
        client_key: identity.key,
    });
    TlsCertificates {
        client_tls,
        root_cert: redis.authorities.clone(),
    }
}

/// So many times the timeout for a question is what connecting may take: several round trips, and more with TLS.
pub(crate) const CONNECTING: u32 = 4;

fn untimed(timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout * CONNECTING))
        .set_response_timeout(None)
}

/// Asks the server at the other end what it is.
pub(crate) async fn told(connection: &mut MultiplexedConnection) -> RedisResult<Told> {
    let info: String = redis::cmd("INFO")
        .arg("server")
        .query_async(connection)
        .await?;
    let line = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
    };
    let run = line("run_id:")
        .and_then(parse_run_id)
        .ok_or_else(|| protocol("the server did not tell its run id"))?;
    let is_in_cluster = line("redis_mode:") == Some("cluster");
    Ok(Told { run, is_in_cluster })
}

fn parse_run_id(id: &str) -> Option<Identity> {
    let digits: Vec<_> = id.chars().map(|digit| digit.to_digit(16)).collect();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let pairs: &[[_; 2]; 20] = pairs.try_into().ok()?;
    let mut bytes = [0; 20];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from((*high)? << 4 | (*low)?).ok()?;
    }
    Some(Identity(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_forty_hexadecimal_digits() {
        let id: String = std::array::from_fn::<_, 40, _>(|at| char::from(b"0f"[at % 2]))
            .iter()
            .collect();
        assert_eq!(parse_run_id(&id), Some(Identity([0x0f; 20])));
        assert_eq!(parse_run_id(&id[1..]), None);
        assert_eq!(parse_run_id(&id.replace('0', "g")), None);
    }

    #[test]
    fn several_urls_are_several_servers_and_certificates_are_for_tls() {
        let parse = |url: &str| Server::all(&Redis::new(url));
        let servers = parse("redis://one:1/, rediss://two:2/").unwrap();
        let hosts: Vec<_> = servers.iter().map(Server::host).collect();
        assert_eq!(hosts, ["one", "two"]);
        let moved = servers[1].at("three", 3);
        let is_tls = matches!(moved.0.addr(), ConnectionAddr::TcpTls { port: 3, .. });
        assert!(is_tls && moved.host() == "three");
        for wrong in ["", "http://one", "redis://one:1/,"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let mut plain = Redis::new("redis://one:1/");
        plain.authorities = Some(Vec::new());
        assert!(Server::all(&plain).is_err());
    }
}
