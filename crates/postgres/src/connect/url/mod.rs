//! Reads connection strings. `conninfo` splits them as libpq does, `options` decides what happens to each option, and
//! this module builds the configuration.
//!
//! Invariant: an error never quotes a value. With an unescaped `@` or blank in a password, any value may hold a part of
//! it.

mod conninfo;
mod display;
pub(crate) mod libpq_defaults;
mod options;

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslMode, SslNegotiation};

use crate::{
    InvalidUrl,
    connect::tls::{ClientCertificate, Roots, Tls, Verify},
    server_role::TargetSession,
};
use options::{Options, Result};

/// The parts of a configuration that a connection string sets.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) server: tokio_postgres::Config,
    pub(crate) tls: Tls,
    pub(crate) target_session: TargetSession,
}

/// A connection string: a `postgresql://` URL or a `host=… user=…` list, split into its options as libpq splits it.
///
/// Change it with [`set`](Self::set) before you make a [`Config`](crate::Config) of it. `Display` prints a URL without
/// the password; `Debug` prints no option.
///
/// ```
/// use cenote_postgres::ConnectionString;
/// # fn main() -> Result<(), cenote_postgres::InvalidUrl> {
/// let mut text: ConnectionString = "postgresql://app@db/shop?sslmode=require".parse()?;
/// assert_eq!(text.get("port"), None);
/// text.set("port", "5433");
/// let config = text.config()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString(Options);

impl FromStr for ConnectionString {
    type Err = InvalidUrl;

    /// # Errors
    ///
    /// The text has neither form, or has an unknown or unsupported option. The error names the option and quotes no
    /// value.
    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(Options::new(conninfo::read(text)?)?))
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString").finish_non_exhaustive()
    }
}

impl ConnectionString {
    /// Returns the value of an option of libpq, such as `host`, if it is set and not empty. Several hosts, and their
    /// ports, are separated by commas.
    pub fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option)
    }

    /// Sets `option` to `value` if the text does not set it. Returns whether the text now says `value`: an address counts
    /// as the host, and each host must have the port.
    pub fn fill_in(&mut self, option: &'static str, value: &str) -> bool {
        let present = match option {
            "host" => self.get("host").or(self.get("hostaddr")),
            // Ports left open beside hosts leave commas.
            "port" => self.get("port").filter(|ports| ports.contains(|c| c != ',')),
            _ => self.get(option),
        };
        match present {
            Some(ports) if option == "port" => ports.split(',').all(|port| port == value),
            Some(present) => present == value,
            None => {
                self.set(option, value);
                true
            }
        }
    }

    /// Sets an option of libpq, in place of the value it has. An empty value removes it.
    pub fn set(&mut self, option: &'static str, value: impl Into<String>) {
        self.0.set(option, value.into());
    }

    pub(crate) fn parts(&self) -> Result<Parts> {
        let options = &self.0;
        let mut server = tokio_postgres::Config::new();
        set_hosts(options, &mut server)?;
        if let Some(user) = options.get("user") {
            server.user(user);
        }
        if let Some(password) = options.get("password") {
            server.password(password);
        }
        if let Some(name) = options.get("dbname") {
            server.dbname(name);
        }
        if let Some(sent) = options.get("options") {
            server.options(sent);
        }
        let name = options
            .get("application_name")
            .or(options.get("fallback_application_name"));
        if let Some(name) = name {
            server.application_name(name);
        }
        set_timeouts(options, &mut server)?;
        if let Some(binding) = options.get("channel_binding") {
            let known = [
                ("disable", ChannelBinding::Disable),
                ("prefer", ChannelBinding::Prefer),
                ("require", ChannelBinding::Require),
            ];
            server.channel_binding(word("channel_binding", binding, &known)?);
        }
        if let Some(balance) = options.get("load_balance_hosts") {
            let known = [
                ("disable", LoadBalanceHosts::Disable),
                ("random", LoadBalanceHosts::Random),
            ];
            server.load_balance_hosts(word("load_balance_hosts", balance, &known)?);
        }
        let tls = tls(options, &mut server)?;
        let target_session = match options.get("target_session_attrs") {
            None => TargetSession::Any,
            Some(name) => word("target_session_attrs", name, &TargetSession::NAMES)?,
        };
        check(&server)?;
        tls.check(&server).map_err(|problem| format!("asks for {problem}"))?;
        Ok(Parts {
            server,
            tls,
            target_session,
        })
    }
}

/// Returns the value of a word.
fn word<T: Copy>(option: &str, text: &str, known: &[(&str, T)]) -> Result<T> {
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    Err(format!(
        "has an invalid value for option `{option}`: it is one of {}",
        words.join(", ")
    )
    .into())
}

/// Returns an option as a whole number. Like libpq, blanks around it are ignored.
fn number(options: &Options, option: &str) -> Result<Option<i32>> {
    let Some(text) = options.get(option) else {
        return Ok(None);
    };
    let number = text.trim_ascii().parse();
    number
        .map(Some)
        .map_err(|_| format!("has an invalid value for option `{option}`: it is a whole number").into())
}

/// Returns an option as a number above zero. Like libpq, other numbers count as not set.
fn positive(options: &Options, option: &str) -> Result<Option<u32>> {
    let number = number(options, option)?;
    Ok(number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0))
}

fn set_timeouts(options: &Options, server: &mut tokio_postgres::Config) -> Result<()> {
    let seconds = |option| -> Result<_> { Ok(positive(options, option)?.map(|it| Duration::from_secs(it.into()))) };
    if let Some(limit) = seconds("connect_timeout")? {
        server.connect_timeout(limit);
    }
    if let Some(used) = number(options, "keepalives")? {
        server.keepalives(used != 0);
    }
    if let Some(idle) = seconds("keepalives_idle")? {
        server.keepalives_idle(idle);
    }
    if let Some(interval) = seconds("keepalives_interval")? {
        server.keepalives_interval(interval);
    }
    if let Some(count) = positive(options, "keepalives_count")? {
        server.keepalives_retries(count);
    }
    if let Some(limit) = positive(options, "tcp_user_timeout")? {
        server.tcp_user_timeout(Duration::from_millis(limit.into()));
    }
    Ok(())
}

fn set_hosts(options: &Options, server: &mut tokio_postgres::Config) -> Result<()> {
    let list = |option| options.get(option).into_iter().flat_map(|list| list.split(','));
    for host in list("host") {
        if host.is_empty() {
            return Err("has an empty host in option `host`; write each of them out".into());
        }
        server.host(host);
    }
    for address in list("hostaddr") {
        let address: IpAddr = address
            .parse()
            .map_err(|_| "has an invalid value for option `hostaddr`: it is an IP address for each host")?;
        server.hostaddr(address);
    }
    for port in list("port") {
        let port = match port.trim_ascii() {
            "" => 5432,
            text => match text.parse() {
                Ok(0) | Err(_) => {
                    return Err(
                        "has an invalid value for option `port`: it is a number from 1 to 65535 for each host".into(),
                    );
                }
                Ok(port) => port,
            },
        };
        server.port(port);
    }
    Ok(())
}

fn tls(options: &Options, server: &mut tokio_postgres::Config) -> Result<Tls> {
    if let Some(negotiation) = options.get("sslnegotiation") {
        let known = [
            ("postgres", SslNegotiation::Postgres),
            ("direct", SslNegotiation::Direct),
        ];
        server.ssl_negotiation(word("sslnegotiation", negotiation, &known)?);
    }
    let roots = options.get("sslrootcert").map(|file| match file {
        "system" => Roots::System,
        file => Roots::File(PathBuf::from(file)),
    });
    // libpq's rules: an authority of the operating system issues certificates to anyone, so with these only the full
    // check is useful. And naming authorities means that they are checked.
    let default = match roots {
        Some(Roots::System) => "verify-full",
        _ => "prefer",
    };
    let mode = options.get("sslmode").unwrap_or(default);
    let (ssl_mode, verify) = match mode {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
        "require" if roots.is_some() => (SslMode::Require, Verify::Authority),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Authority),
        "verify-full" => (SslMode::Require, Verify::Host),
        _ => {
            return Err("has an invalid value for option `sslmode`: \
                        it is one of disable, allow, prefer, require, verify-ca, verify-full"
                .into());
        }
    };
    server.ssl_mode(ssl_mode);
    let certificate = match (options.get("sslcert"), options.get("sslkey")) {
        (Some(certificate), Some(key)) => Some(ClientCertificate {
            certificate: certificate.into(),
            key: key.into(),
        }),
        (None, None) => None,
        _ => return Err("has only one of the options `sslcert` and `sslkey`".into()),
    };
    Ok(Tls {
        verify,
        roots,
        plain_first: mode == "allow",
        certificate,
    })
}

/// Checks what would otherwise fail at the first connect.
pub(crate) fn check(server: &tokio_postgres::Config) -> Result<()> {
    let (hosts, addresses) = (server.get_hosts().len(), server.get_hostaddrs().len());
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err("does not give as many addresses in option `hostaddr` as hosts".into());
    }
    let ports = server.get_ports().len();
    if ports > 1 && ports != hosts.max(addresses) {
        return Err("does not give as many ports in option `port` as hosts".into());
    }
    if server.get_ports().contains(&0) {
        return Err("has port 0".into());
    }
    if server.get_user() == Some("") {
        return Err("has an empty user".into());
    }
    for host in server.get_hosts() {
        if let Host::Tcp(name) = host {
            check_host(name).map_err(|problem| format!("has a host that {problem}"))?;
        }
    }
    Ok(())
}

/// Checks the name of a host. It must not be empty, have a port or contain a character that host names lack, as when a
/// part of a password was taken for a host.
///
/// # Errors
///
/// The problem, as the end of a sentence that starts with the host.
pub fn check_host(name: &str) -> std::result::Result<(), &'static str> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    // An IPv6 address may be followed by its interface.
    let address = name.split_once('%').map_or(name, |(address, _)| address);
    match name {
        "" => Err("is empty"),
        _ if name.contains("://") => Err("is a URL; give the name of the host alone"),
        _ if !name.chars().all(plain) => Err("holds a character no host name has"),
        _ if name.contains(':') && address.parse::<IpAddr>().is_err() => {
            Err("holds a colon; give the port in an option of its own")
        }
        _ => Ok(()),
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests;

#[cfg(all(test, feature = "tls"))]
mod oracle_tests;

#[cfg(all(test, not(feature = "tls")))]
mod plain_tests {
    use super::*;

    #[test]
    fn without_tls_only_plain_connections_are_promised() {
        for options in ["sslmode=require", "sslrootcert=system", "sslcert=c&sslkey=k"] {
            let text: ConnectionString = format!("postgresql://h/d?{options}").parse().unwrap();
            let complaint = text.parts().unwrap_err().to_string();
            assert!(complaint.contains("built without"), "{options}: {complaint}");
        }
        assert!(
            "postgresql://h/d?sslmode=prefer"
                .parse::<ConnectionString>()
                .unwrap()
                .parts()
                .is_ok()
        );
    }
}
