//! Why Redis is not used. Invariant: the server's error text is kept, and nothing that was sent is quoted, so it contains no
//! password.

use std::{error::Error as _, fmt, io, sync::Arc};

use redis::RedisError;
use tokio_rustls::rustls;

use crate::url::RedisUrl;

/// Why a Redis is not used: which server, its error text or what happened, and what to do. `Display` shows all of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisProblem {
    server: Option<String>,
    kind: RedisProblemKind,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// The server's error text.
    Said(String),
    Happened(String),
}

/// The kind of a [`RedisProblem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedisProblemKind {
    /// It refuses the user or the password of the URL, or requires them and the URL has none.
    Login,
    /// The user may not use a command or a key.
    Permission,
    /// Its certificate is not trusted, or it does not trust the client's.
    Tls,
    /// The URL asks for TLS, and the server does not seem to support it.
    NoTls,
    /// The server requires TLS, and the URL does not ask for it.
    OnlyTls,
    /// The server is not a Redis.
    NotRedis,
    /// It cannot be connected to.
    Unreachable,
    /// It does not answer in time.
    TimedOut,
    /// It closed the connection.
    Closed,
    /// It is in protected mode: it accepts connections only from its own machine.
    ProtectedMode,
    /// It has reached its maximum of clients.
    TooManyClients,
    /// It is a replica, which takes no writes.
    Replica,
    /// It loads its data.
    Loading,
    /// It is running a slow script, and nothing else meanwhile.
    Busy,
    /// It has no memory left.
    OutOfMemory,
    /// It takes no writes, because it cannot save them or has too few replicas.
    RefusesWrites,
    /// Some slots of its cluster are not served, or moved.
    Cluster,
    /// The URL does not fit the server: it names a database that the server does not have, or asks for a cluster.
    Mismatch,
    /// It is too old.
    TooOld,
    /// Anything else.
    Other,
}

impl RedisProblemKind {
    /// The kind of a server's error, by its first word or known texts.
    fn of(words: &str) -> Self {
        let code = words.split(' ').next().unwrap_or_default();
        match code {
            "WRONGPASS" | "NOAUTH" => Self::Login,
            "NOPERM" => Self::Permission,
            "DENIED" => Self::ProtectedMode,
            "READONLY" => Self::Replica,
            "LOADING" => Self::Loading,
            "BUSY" => Self::Busy,
            "OOM" => Self::OutOfMemory,
            "MISCONF" | "NOREPLICAS" | "MASTERDOWN" => Self::RefusesWrites,
            "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" => Self::Cluster,
            _ if words.contains("max number of clients") => Self::TooManyClients,
            _ if words.contains("without any password configured") => Self::Login,
            _ if words.contains("DB index is out of range") => Self::Mismatch,
            _ if words.contains("SELECT is not allowed in cluster mode") => Self::Mismatch,
            // A script's error about a missing permission has no code.
            _ if words.contains("executing the script can't") => Self::Permission,
            _ => Self::Other,
        }
    }

    /// What to do.
    const fn advice(self) -> &'static str {
        match self {
            Self::Login => "check the user and the password in the URL",
            Self::Permission => "allow it to the user (ACL SETUSER)",
            Self::Tls => "check the certificates on both sides, and the host in the URL",
            Self::NoTls => "if the server speaks no TLS, the URL must begin with redis://",
            Self::OnlyTls => "the server speaks TLS: the URL must begin with rediss://",
            Self::NotRedis => "what listens there is not a Redis; check the host and the port in the URL",
            Self::Unreachable => "check the address in the URL, and that Redis runs there",
            Self::TimedOut => "check the address in the URL, the network, and what Redis is busy with",
            Self::Closed => {
                "if it speaks only TLS, the URL must begin with rediss://; if it is no Redis, check the port"
            }
            Self::ProtectedMode => "give Redis a password, or switch its protected-mode off",
            Self::TooManyClients => "raise its maxclients, or find out who keeps connections open",
            Self::Replica => "name the primary in the URL",
            Self::Loading => "it is used once it has loaded its data",
            Self::Busy => "it is used once the script has ended",
            Self::OutOfMemory => "raise its maxmemory, or choose a maxmemory-policy that evicts, such as allkeys-lru",
            Self::RefusesWrites => "remove the cause that it names",
            Self::Cluster => "it is used once every slot of the cluster is served",
            Self::Mismatch => "change the URL, or the server",
            Self::TooOld => "upgrade it",
            Self::Other => "look into the server's log",
        }
    }
}

impl RedisProblem {
    /// Creates a problem from an event or a missing property of the server.
    pub(crate) fn new(kind: RedisProblemKind, happened: impl Into<String>) -> Self {
        let what = What::Happened(happened.into());
        let server = None;
        Self { server, kind, what }
    }

    /// Creates a problem from an error line of the server, without its leading `-`.
    pub(crate) fn said(words: &str) -> Self {
        // An error within a script ends with the name of the script; before Redis 7 it began with it.
        let words = words.split(" script: ").next().unwrap_or(words);
        let words = match words.rsplit_once(": -") {
            Some((before, inner)) if before.contains("user_script") => inner,
            _ => words,
        };
        let words = shown(words);
        Self {
            server: None,
            kind: RedisProblemKind::of(&words),
            what: What::Said(words),
        }
    }

    /// Creates a problem from bytes that a Redis does not send.
    pub(crate) fn not_redis(answer: &[u8]) -> Self {
        if answer.starts_with(&[0x15, 3]) {
            return Self::new(RedisProblemKind::OnlyTls, "it answers with an alert of TLS");
        }
        let line = answer.split(|byte| matches!(byte, b'\r' | b'\n')).next();
        Self {
            server: None,
            kind: RedisProblemKind::NotRedis,
            what: What::Said(shown(&String::from_utf8_lossy(line.unwrap_or_default()))),
        }
    }

    /// Sets the server, unless it is already set.
    #[must_use]
    pub(crate) fn at(mut self, server: &RedisUrl) -> Self {
        self.server.get_or_insert_with(|| server.endpoint.to_string());
        self
    }

    /// Returns the same problem without the server's address, for readers who must not see it.
    #[must_use]
    pub fn without_address(&self) -> Self {
        Self {
            server: None,
            ..self.clone()
        }
    }

    /// Returns the kind of problem.
    #[must_use]
    pub fn kind(&self) -> RedisProblemKind {
        self.kind
    }

    /// Whether the problem lasts until someone changes the URL, the certificates, the server's users or the server. Other
    /// problems end when the server is available again.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self.kind {
            RedisProblemKind::Login
            | RedisProblemKind::Permission
            | RedisProblemKind::Tls
            | RedisProblemKind::NoTls
            | RedisProblemKind::OnlyTls
            | RedisProblemKind::NotRedis
            | RedisProblemKind::ProtectedMode
            | RedisProblemKind::Mismatch
            | RedisProblemKind::TooOld => true,
            RedisProblemKind::Unreachable
            | RedisProblemKind::TimedOut
            | RedisProblemKind::Closed
            | RedisProblemKind::TooManyClients
            | RedisProblemKind::Replica
            | RedisProblemKind::Loading
            | RedisProblemKind::Busy
            | RedisProblemKind::OutOfMemory
            | RedisProblemKind::RefusesWrites
            | RedisProblemKind::Cluster
            | RedisProblemKind::Other => false,
        }
    }
}

impl fmt::Display for RedisProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.as_deref().unwrap_or("Redis");
        match &self.what {
            What::Said(words) if words.is_empty() => write!(f, "{server} answers nothing")?,
            What::Said(words) => write!(f, "{server} answers \"{words}\"")?,
            What::Happened(what) => write!(f, "{server}: {what}")?,
        }
        write!(f, "; {}", self.kind.advice())
    }
}

impl std::error::Error for RedisProblem {}

impl From<RedisError> for RedisProblem {
    fn from(error: RedisError) -> Self {
        type Inner = Arc<dyn std::error::Error + Send + Sync>;
        let inner = error.source().and_then(|source| source.downcast_ref::<Inner>());
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<io::Error>()) {
            return error.into();
        }
        if error.is_connection_dropped() {
            return io::Error::from(io::ErrorKind::BrokenPipe).into();
        }
        let text = error.to_string();
        match error.into_server_errors() {
            Some(errors) => match errors.first() {
                Some((_, error)) => {
                    let details = error.details().unwrap_or_default();
                    Self::said(&format!("{} {details}", error.code()))
                }
                None => Self::new(RedisProblemKind::Other, "an error without a text"),
            },
            // The client library appends its own kind of error.
            None => Self::new(RedisProblemKind::Other, text.trim_end_matches(" - Client")),
        }
    }
}

impl From<io::Error> for RedisProblem {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&io::Error> for RedisProblem {
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(tls) = inner {
            return tls_problem(tls);
        }
        match error.kind() {
            TimedOut => Self::new(RedisProblemKind::TimedOut, "it did not answer in time"),
            // Which of these is reported depends on which side was faster.
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
                Self::new(RedisProblemKind::Closed, "it closed the connection")
            }
            _ => Self::new(RedisProblemKind::Unreachable, error.to_string()),
        }
    }
}

fn tls_problem(error: &rustls::Error) -> RedisProblem {
    let kind = match error {
        rustls::Error::InvalidMessage(_) => RedisProblemKind::NoTls,
        _ => RedisProblemKind::Tls,
    };
    RedisProblem::new(kind, format!("TLS: {error}"))
}

/// Makes a text of a server fit for a message: one line without control characters, at most 200 characters.
fn shown(words: &str) -> String {
    const LONGEST: usize = 200;
    let line: String = words
        .trim()
        .chars()
        .flat_map(|c| match c.is_control() || c == '\u{fffd}' {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use redis::ErrorKind;

    use super::*;

    #[test]
    fn a_failure_of_the_client_names_its_kind() {
        let io = |kind| RedisProblem::from(RedisError::from(io::Error::from(kind))).kind();
        assert_eq!(io(io::ErrorKind::TimedOut), RedisProblemKind::TimedOut);
        assert_eq!(io(io::ErrorKind::ConnectionReset), RedisProblemKind::Closed);
        assert_eq!(io(io::ErrorKind::ConnectionRefused), RedisProblemKind::Unreachable);
        let dropped = RedisError::from((ErrorKind::Io, "the driver has ended"));
        assert_eq!(RedisProblem::from(dropped).kind(), RedisProblemKind::Closed);
        let other = RedisProblem::from(RedisError::from((ErrorKind::Client, "something")));
        let told = "Redis: something; look into the server's log";
        assert_eq!(other.to_string(), told);
    }

    #[test]
    fn an_error_in_a_script_is_reported_as_the_error() {
        for (words, told, kind) in [
            (
                "READONLY You can't write. script: 5e, on @user_script:13.",
                "READONLY You can't write.",
                RedisProblemKind::Replica,
            ),
            (
                "ERR Error running script (call to f_5e): @user_script:7: @user_script: 7: -OOM command not allowed",
                "OOM command not allowed",
                RedisProblemKind::OutOfMemory,
            ),
            (
                "ERR unknown command 'SCAN'",
                "ERR unknown command 'SCAN'",
                RedisProblemKind::Other,
            ),
        ] {
            let problem = RedisProblem::said(words);
            assert_eq!(problem.kind(), kind);
            assert!(problem.to_string().contains(&format!("\"{told}\"")), "{problem}");
        }
    }

    #[test]
    fn a_servers_text_is_put_on_one_line_and_bounded() {
        let problem = RedisProblem::said(&format!("ERR a\r\nb\u{1b}[31m{}", "é".repeat(1000))).to_string();
        assert!(!problem.contains(char::is_control) && problem.len() < 600, "{problem}");
        let binary = RedisProblem::not_redis(b"\x00\xffJ\x05").to_string();
        assert!(!binary.contains(char::is_control), "{binary}");
    }
}
