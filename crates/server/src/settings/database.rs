//! Reads `DATABASE_URL`.
//!
//! Invariant: what is shown, and every complaint, is put together from parts that were understood; text that
//! could be a piece of a password with a bare `@` or blank in it is refused rather than guessed at.

use std::fmt;

use cenote_postgres::{Config, TargetSession, Verify};
use tokio_postgres::config::{Host, SslMode};

use super::parse::Kind;
use cenote_secret::{REDACTED, Secret};

/// A `DATABASE_URL` that parsed, kept with its text because the [`Config`] cannot say which ports were spelled out.
#[derive(Clone, Debug)]
pub(crate) struct Dsn {
    pub(crate) config: Config,
    text: Secret<String>,
}

impl PartialEq for Dsn {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Dsn {
    /// Whether the text spells out a port, rather than leaving it to the default.
    pub(crate) fn names_port(&self) -> bool {
        match Authority::of(self.text.expose()) {
            Some(authority) => {
                !self.config.server.get_ports().is_empty() && !authority.lacks_port()
            }
            None => !self.config.server.get_ports().is_empty(),
        }
    }

    /// Fills in the port that the text does not spell out.
    pub(crate) fn set_port(&mut self, port: u16) -> Result<(), String> {
        let text = match Authority::of(self.text.expose()) {
            Some(authority) if authority.lacks_port() => authority.with_port(port),
            _ => {
                self.config.server.port(port);
                return Ok(());
            }
        };
        // The driver has put 5432 beside every host by now and takes nothing back, so parse once more.
        self.config = DatabaseUrl.parse(&text)?.config;
        self.text = Secret::new(text);
        Ok(())
    }
}

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// The `host:port,host:port` of a URL, and what surrounds it.
struct Authority<'a> {
    before: &'a str,
    hosts: &'a str,
    after: &'a str,
}

impl<'a> Authority<'a> {
    /// `None` if the text is no URL.
    fn of(text: &'a str) -> Option<Self> {
        let start = SCHEMES
            .iter()
            .find(|scheme| text.starts_with(**scheme))?
            .len();
        let start = text[start..].find('@').map_or(start, |at| start + at + 1);
        let end = text[start..]
            .find(['/', '?'])
            .map_or(text.len(), |end| start + end);
        Some(Self {
            before: &text[..start],
            hosts: &text[start..end],
            after: &text[end..],
        })
    }

    fn lacks_port(&self) -> bool {
        let has_port = |host: &str| match host.rsplit_once(']') {
            Some((_, port)) => port.starts_with(':'),
            None => host.contains(':'),
        };
        !self.hosts.is_empty() && !self.hosts.split(',').any(has_port)
    }

    fn with_port(&self, port: u16) -> String {
        let hosts: Vec<_> = self
            .hosts
            .split(',')
            .map(|host| format!("{host}:{port}"))
            .collect();
        format!("{}{}{}", self.before, hosts.join(","), self.after)
    }
}

/// The kind of `DATABASE_URL`.
pub(crate) struct DatabaseUrl;

impl Kind for DatabaseUrl {
    type Value = Dsn;
    const SECRET: bool = true;
    const PLACEHOLDER: &'static str = "URL";

    fn parse(&self, text: &str) -> Result<Dsn, String> {
        let text = without_driver(text.trim());
        let config = Config::from_url(&text).map_err(|problem| problem.to_string())?;
        Ok(Dsn {
            config,
            text: Secret::new(text),
        })
    }

    fn show(&self, value: &Dsn) -> String {
        show_config(&value.config)
    }

    fn describe(&self) -> String {
        "postgresql:// URL, or libpq key=value list".into()
    }
}

/// The scheme if the text starts with one.
fn scheme_of(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
    scheme.chars().all(plain).then_some(scheme)
}

/// SQLAlchemy writes the driver behind the scheme: `postgresql+asyncpg://`.
fn without_driver(text: &str) -> String {
    if let Some(scheme) = scheme_of(text)
        && let Some((base @ ("postgresql" | "postgres"), _)) = scheme.split_once('+')
    {
        return format!("{base}{}", &text[scheme.len()..]);
    }
    text.to_owned()
}

/// Prints where a configuration leads: a URL with the password struck out.
pub(crate) fn show_config(config: &Config) -> String {
    let server = &config.server;
    let mut output = "postgresql://".to_owned();
    if let Some(user) = server.get_user() {
        output += user;
    }
    if server.get_password().is_some() {
        output += &format!(":{REDACTED}");
    }
    if server.get_user().is_some() || server.get_password().is_some() {
        output.push('@');
    }
    output += &ShowHosts(server).to_string();
    if let Some(name) = server.get_dbname() {
        output += &format!("/{name}");
    }
    let mode = match (server.get_ssl_mode(), config.tls.verify) {
        (SslMode::Disable, _) => Some("disable"),
        (SslMode::Require, Verify::Nothing) => Some("require"),
        (SslMode::Require, Verify::Authority) => Some("verify-ca"),
        (SslMode::Require, Verify::Host) => Some("verify-full"),
        _ => None,
    };
    let target = Some(config.target_session).filter(|target| *target != TargetSession::Any);
    let options = [
        mode.map(|mode| format!("sslmode={mode}")),
        target.map(|target| format!("target_session_attrs={}", target.as_str())),
    ];
    let options: Vec<_> = options.into_iter().flatten().collect();
    if !options.is_empty() {
        output += &format!("?{}", options.join("&"));
    }
    output
}

struct ShowHosts<'a>(&'a tokio_postgres::Config);

impl fmt::Display for ShowHosts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.0.get_ports();
        let mut hosts: Vec<_> = self
            .0
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string().replace('/', "%2F"),
            })
            .collect();
        if hosts.is_empty() {
            hosts = self
                .0
                .get_hostaddrs()
                .iter()
                .map(ToString::to_string)
                .collect();
        }
        for (index, host) in hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(host)?;
            // One port serves all hosts.
            if let Some(port) = ports.get(index).or(ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_postgresql_sqlalchemy_and_libpq_are_read_alike() {
        for text in [
            "postgresql://u:p@h:5433/d",
            "postgres://u:p@h:5433/d",
            "postgresql+asyncpg://u:p@h:5433/d",
            "postgresql+psycopg://u:p@h:5433/d",
            "postgres+psycopg2://u:p@h:5433/d",
            "  postgresql://u:p@h:5433/d\n",
            "host=h port=5433 user=u password=p dbname=d",
        ] {
            let dsn = DatabaseUrl.parse(text).unwrap();
            assert_eq!(dsn.config.server.get_user(), Some("u"), "{text}");
            assert_eq!(dsn.config.server.get_password(), Some(&b"p"[..]), "{text}");
            assert_eq!(
                DatabaseUrl.show(&dsn),
                "postgresql://u:***@h:5433/d",
                "{text}"
            );
            assert!(dsn.names_port(), "{text}");
        }
    }

    #[test]
    fn complaints_continue_a_sentence_and_quote_no_secret() {
        for (text, expected) in [
            ("mysql://u:hunter2@h/d", "must start with"),
            ("postgresql+asyncpg://u:hun@ter2@h/d", "%40"),
            ("postgresql://h/d?sslmode=hunter2", "verify-full"),
            ("host=h password=oh hunter2=x", "unknown option"),
        ] {
            let complaint = DatabaseUrl.parse(text).unwrap_err();
            assert!(complaint.contains(expected), "{text}: {complaint}");
            assert!(!complaint.contains("ter2"), "{text}: {complaint}");
        }
    }

    #[test]
    fn what_is_shown_says_how_far_the_server_is_trusted_and_which_one_will_do() {
        for (options, shown) in [
            ("", ""),
            ("?sslmode=require", "?sslmode=require"),
            (
                "?sslrootcert=system&target_session_attrs=primary",
                "?sslmode=verify-full&target_session_attrs=primary",
            ),
            ("?sslmode=verify-ca&sslrootcert=/ca", "?sslmode=verify-ca"),
        ] {
            let dsn = DatabaseUrl.parse(&format!("postgresql://h{options}"));
            let expected = format!("postgresql://h:5432{shown}");
            assert_eq!(DatabaseUrl.show(&dsn.unwrap()), expected);
        }
    }

    #[test]
    fn a_port_is_filled_in_only_where_the_text_leaves_it_open() {
        for (text, shown) in [
            ("postgresql://u:p@h/d", "postgresql://u:***@h:7/d"),
            (
                "postgresql://a,b/d?sslmode=require",
                "postgresql://a:7,b:7/d?sslmode=require",
            ),
            ("postgresql://[::1]", "postgresql://[::1]:7"),
            ("postgresql:///d?host=h", "postgresql://h:7/d"),
            ("host=h", "postgresql://h:7"),
        ] {
            let mut dsn = DatabaseUrl.parse(text).unwrap();
            assert!(!dsn.names_port(), "{text}");
            dsn.set_port(7).unwrap();
            assert!(dsn.names_port(), "{text}");
            assert_eq!(DatabaseUrl.show(&dsn), shown);
        }
        for text in ["postgresql://h:1", "postgresql://[::1]:1", "host=h port=1"] {
            assert!(DatabaseUrl.parse(text).unwrap().names_port(), "{text}");
        }
    }
}
