//! Reads `DATABASE_URL`.
//!
//! Invariant: what is shown, and every complaint, is put together from parts that were understood.

use std::{fmt, net::IpAddr};

use cenote_postgres::{Config, ConnectionString, InvalidUrl, TargetSession, Verify};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::config::{Host, SslMode};

use super::parse::{Kind, Text};
use cenote_secret::REDACTED;

/// A `DATABASE_URL` that parsed, with the [`Config`] it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Dsn {
    pub(crate) config: Config,
    text: ConnectionString,
}

impl PartialEq for Dsn {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Dsn {
    fn new(text: ConnectionString) -> Result<Self, String> {
        let config = text.config().map_err(|problem| problem.to_string())?;
        Ok(Self { config, text })
    }

    /// Whether the text spells out a port, rather than leaving it to the default.
    pub(crate) fn names_port(&self) -> bool {
        // Ports left open beside hosts leave commas.
        let ports = self.text.get("port").unwrap_or_default();
        ports.contains(|c| c != ',')
    }

    /// Fills in the port that the text does not spell out.
    pub(crate) fn set_port(&mut self, port: u16) -> Result<(), String> {
        let mut text = self.text.clone();
        text.set("port", port.to_string());
        *self = Self::new(text)?;
        Ok(())
    }
}

/// The kind of `DATABASE_URL`.
pub(crate) struct DatabaseUrl;

impl Kind for DatabaseUrl {
    type Value = Dsn;
    const SECRET: bool = true;
    const PLACEHOLDER: &'static str = "URL";

    fn parse(&self, text: &str) -> Result<Dsn, String> {
        let text: ConnectionString = text.trim().parse().map_err(|problem: InvalidUrl| problem.to_string())?;
        Dsn::new(text)
    }

    fn allows(&self, c: char) -> bool {
        // White space of every kind separates the options of a list.
        c.is_ascii_whitespace() || Text("").allows(c)
    }

    fn show(&self, value: &Dsn) -> String {
        show_config(&value.config)
    }

    fn describe(&self) -> String {
        "postgresql:// URL, or libpq key=value list".into()
    }
}

/// What has no meaning in a URL stays as it is, so that what is shown can be read, and used.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Prints where a configuration leads: a URL with the password struck out.
pub(crate) fn show_config(config: &Config) -> String {
    let server = &config.server;
    let mut output = "postgresql://".to_owned();
    if let Some(user) = server.get_user() {
        output += &utf8_percent_encode(user, ENCODED).to_string();
    }
    if server.get_password().is_some() {
        output += &format!(":{REDACTED}");
    }
    if server.get_user().is_some() || server.get_password().is_some() {
        output.push('@');
    }
    output += &ShowHosts(server).to_string();
    if let Some(name) = server.get_dbname() {
        output += &format!("/{}", utf8_percent_encode(name, ENCODED));
    }
    let mode = match (server.get_ssl_mode(), config.tls.verify) {
        (SslMode::Disable, _) => Some("disable"),
        (SslMode::Prefer, _) if config.tls.plain_first => Some("allow"),
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
                .map(|address| match address {
                    IpAddr::V4(address) => address.to_string(),
                    IpAddr::V6(address) => format!("[{address}]"),
                })
                .collect();
        }
        for (index, host) in hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(host)?;
            // One port serves all hosts.
            let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
            write!(f, ":{port}")?;
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
            assert_eq!(DatabaseUrl.show(&dsn), "postgresql://u:***@h:5433/d", "{text}");
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
            ("jdbc:postgresql://h/d?password=hunter2", "remove that"),
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
            ("?sslmode=allow", "?sslmode=allow"),
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
    fn what_is_shown_is_a_url_whose_parts_cannot_be_taken_for_others() {
        for (text, shown) in [
            (
                "postgresql://db.example.org:5432/shop?password=hunter2&user=svc@corp.example",
                "postgresql://svc%40corp.example:***@db.example.org:5432/shop",
            ),
            (
                "postgresql://u%3Ahunter%40x@h/a%2Fb",
                "postgresql://u%3Ahunter%40x@h:5432/a%2Fb",
            ),
            ("postgresql://[::1]/d", "postgresql://[::1]:5432/d"),
            ("hostaddr=::1 user=u", "postgresql://u@[::1]:5432"),
            ("postgresql://%2Frun%2Fpg/d", "postgresql://%2Frun%2Fpg:5432/d"),
        ] {
            assert_eq!(DatabaseUrl.show(&DatabaseUrl.parse(text).unwrap()), shown);
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
