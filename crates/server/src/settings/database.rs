//! Reads `DATABASE_URL`.
//!
//! Invariant: what is shown, and every complaint, is put together from parts that were understood; text that
//! could be a piece of a password with a bare `@` or blank in it is refused rather than guessed at.

use std::error::Error as _;
use std::fmt;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::parse::Kind;
use super::secret::{REDACTED, Secret};

/// A `DATABASE_URL` that parsed, kept with its text because the driver's [`Config`] cannot say which ports were
/// spelled out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dsn {
    pub(crate) config: Config,
    text: Secret<String>,
}

impl Dsn {
    /// Whether the text spells out a port, rather than leaving it to the default.
    pub(crate) fn names_port(&self) -> bool {
        match Authority::of(self.text.expose()) {
            Some(authority) => !self.config.get_ports().is_empty() && !authority.lacks_port(),
            None => !self.config.get_ports().is_empty(),
        }
    }

    /// Fills in the port that the text does not spell out.
    pub(crate) fn set_port(&mut self, port: u16) -> Result<(), String> {
        let text = match Authority::of(self.text.expose()) {
            Some(authority) if authority.lacks_port() => authority.with_port(port),
            _ => {
                self.config.port(port);
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
        if text.contains('\0') {
            return Err("holds a NUL character".into());
        }
        let text = without_driver(text.trim());
        let is_url = SCHEMES.iter().any(|scheme| text.starts_with(scheme));
        if !is_url && (text.is_empty() || !text.contains('=') || scheme_of(&text).is_some()) {
            return Err(
                "must start with postgresql:// or postgres://, or be a list such as `host=… user=… dbname=…`"
                    .into(),
            );
        }
        // The driver ends the credentials at the first @ and would take the rest of the password for the host.
        if is_url && text.matches('@').count() > 1 {
            return Err(
                "has more than one @; write those in the user or the password as %40".into(),
            );
        }
        let config: Config = text.parse().map_err(complaint)?;
        check(&config)?;
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

/// Options other programs know and this driver does not. Only these may be quoted: the "option" the driver met
/// may as well be the second word of a password.
const FOREIGN_OPTIONS: [&str; 18] = [
    "channel_binding",
    "client_encoding",
    "command_timeout",
    "fallback_application_name",
    "gssencmode",
    "passfile",
    "pool_size",
    "prepared_statement_cache_size",
    "replication",
    "requirepeer",
    "service",
    "ssl",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslrootcert",
    "statement_cache_size",
    "timeout",
];

fn complaint(error: tokio_postgres::Error) -> String {
    let detail = error.source().map(ToString::to_string).unwrap_or_default();
    if detail.starts_with("invalid value for option") {
        // The driver names the option here, never the value.
        let choices = match detail.as_str() {
            "invalid value for option `sslmode`" => " (disable, prefer or require)",
            "invalid value for option `target_session_attrs`" => " (any, read-write or read-only)",
            _ => "",
        };
        return format!("has an {detail}{choices}");
    }
    let foreign = |option: &&&str| detail == format!("unknown option `{option}`");
    match FOREIGN_OPTIONS.iter().find(foreign) {
        Some(option) => format!("has the unknown option `{option}`"),
        None if detail.starts_with("unknown option") => "has an unknown option".into(),
        None => "is not a PostgreSQL connection string".into(),
    }
}

/// What the driver would only find out when it connects.
fn check(config: &Config) -> Result<(), String> {
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    let ports = config.get_ports().len();
    if ports > 1 && ports != hosts {
        return Err("does not give as many ports as hosts".into());
    }
    if config.get_ports().contains(&0) {
        return Err("has port 0".into());
    }
    if config.get_user() == Some("") {
        return Err("has an empty user".into());
    }
    check_hosts(config).map_err(|problem| format!("has a host that {problem}"))
}

pub(crate) fn check_hosts(config: &Config) -> Result<(), String> {
    for host in config.get_hosts() {
        if let Host::Tcp(name) = host {
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
            if name.is_empty() {
                return Err("is empty".into());
            }
            if !name.chars().all(plain) {
                return Err("holds a character no host name has".into());
            }
        }
    }
    Ok(())
}

/// Prints where a configuration leads: a URL with the password struck out.
pub(crate) fn show_config(config: &Config) -> String {
    let mut output = "postgresql://".to_owned();
    if let Some(user) = config.get_user() {
        output += user;
    }
    if config.get_password().is_some() {
        output += &format!(":{REDACTED}");
    }
    if config.get_user().is_some() || config.get_password().is_some() {
        output.push('@');
    }
    output += &ShowHosts(config).to_string();
    if let Some(name) = config.get_dbname() {
        output += &format!("/{name}");
    }
    match config.get_ssl_mode() {
        SslMode::Disable => output += "?sslmode=disable",
        SslMode::Require => output += "?sslmode=require",
        _ => {}
    }
    output
}

struct ShowHosts<'a>(&'a Config);

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
            assert_eq!(dsn.config.get_user(), Some("u"), "{text}");
            assert_eq!(dsn.config.get_password(), Some(&b"p"[..]), "{text}");
            assert_eq!(
                DatabaseUrl.show(&dsn),
                "postgresql://u:***@h:5433/d",
                "{text}"
            );
            assert!(dsn.names_port(), "{text}");
        }
    }

    #[test]
    fn complaints_name_what_is_known_and_quote_nothing_else() {
        for (text, expected) in [
            ("mysql://u:hunter2@h/d", "must start with"),
            ("hunter2", "must start with"),
            ("", "must start with"),
            ("postgresql://u:hun@ter2@h/d", "%40"),
            ("postgresql://u:hunter2", "`port`"),
            (
                "postgresql://h/d?sslmode=hunter2",
                "disable, prefer or require",
            ),
            ("postgresql://h/d?sslrootcert=hunter2", "`sslrootcert`"),
            ("host=h password=oh hunter2=x", "unknown option"),
            (
                "host=h password=oh hunter2",
                "not a PostgreSQL connection string",
            ),
            ("postgresql://a:1,b:2/d?port=3", "as many ports"),
            ("postgresql://a:0/d", "port 0"),
        ] {
            let complaint = DatabaseUrl.parse(text).unwrap_err();
            assert!(complaint.contains(expected), "{text}: {complaint}");
            assert!(!complaint.contains("ter2"), "{text}: {complaint}");
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
