//! Prints connection strings. Invariant: the password is never printed, and no part can be taken for another.

use std::{fmt, net::IpAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::config::Host;

use super::{ConnectionString, Parts};
use crate::server_role::TargetSession;

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A URL with user, hosts, ports, database, `sslmode` and `target_session_attrs`, and `***` in place of the password. A
/// string whose options are not valid is `***`.
impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(Parts {
            server,
            tls,
            target_session,
        }) = self.parts()
        else {
            return f.write_str("***");
        };
        f.write_str("postgresql://")?;
        let (user, has_password) = (server.get_user(), server.get_password().is_some());
        if let Some(user) = user {
            write!(f, "{}", utf8_percent_encode(user, ENCODED))?;
        }
        if has_password {
            f.write_str(":***")?;
        }
        if user.is_some() || has_password {
            f.write_str("@")?;
        }
        f.write_str(&hosts(&server).join(","))?;
        if let Some(name) = server.get_dbname() {
            write!(f, "/{}", utf8_percent_encode(name, ENCODED))?;
        }
        let target = Some(target_session).filter(|target| *target != TargetSession::Any);
        let options = [
            ("sslmode", tls.mode_word(server.get_ssl_mode())),
            ("target_session_attrs", target.map(TargetSession::as_str)),
        ];
        let set = options.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        for (separator, (name, value)) in ["?", "&"].iter().zip(set) {
            write!(f, "{separator}{name}={value}")?;
        }
        Ok(())
    }
}

/// Each host with its port, as it stands in a URL.
fn hosts(server: &tokio_postgres::Config) -> Vec<String> {
    let ports = server.get_ports();
    let names = server.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string().replace('/', "%2F"),
    });
    let addresses = server.get_hostaddrs().iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    let hosts: Vec<_> = match server.get_hosts().is_empty() {
        true => addresses.collect(),
        false => names.collect(),
    };
    // One port serves all hosts.
    let port = |index| ports.get(index).or(ports.first()).unwrap_or(&5432);
    let with_port = |(index, host)| format!("{host}:{}", port(index));
    hosts.into_iter().enumerate().map(with_port).collect()
}
