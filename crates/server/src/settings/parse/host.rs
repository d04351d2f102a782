//! Hosts: that of the database, and the one to listen on.
//!
//! Invariant: a host has no port, and an IPv6 address no brackets.

use std::net::IpAddr;

use cenote_postgres::check_host;

use super::kinds;

kinds! {
    /// A host name, an address or the directory of a socket.
    DatabaseHost: String, "HOST", "host name, address or socket directory", database_host, String::clone,
        { const QUOTED: bool = false; };

    /// An address or a host name to listen on.
    ListenHost: String, "HOST", "IP address or host name", listen_host, String::clone;
}

fn database_host(host: &str) -> Result<String, String> {
    if host.contains("://") {
        return Err("is a URL; set DATABASE_URL to it instead, or give the host alone".into());
    }
    if host.starts_with('/') {
        return Ok(host.to_owned());
    }
    let bare = without_brackets(host);
    match check_host(bare) {
        Ok(()) => Ok(bare.to_owned()),
        Err(_) if ends_with_port(host) => Err("holds a port; that goes into DB_PORT".into()),
        Err(_) if host.contains('/') => Err("holds a path; the name of the database goes into DB_NAME".into()),
        Err(_) if host.contains('@') => Err("holds an @; user and password go into DB_USER and DB_PASS".into()),
        Err(complaint) => Err(complaint.into()),
    }
}

fn listen_host(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == "*" {
        return Err("is not an address; 0.0.0.0 means every IPv4 address, :: every address".into());
    }
    if text.contains("://") {
        return Err("is a URL; give the address alone, and the port in PORT".into());
    }
    let bare = without_brackets(text);
    // A link-local address names its interface.
    let address = bare.split_once('%').map_or(bare, |(address, _)| address);
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    // A name in DNS has 253 bytes at most.
    let is_name = !bare.is_empty() && bare.len() < 254 && bare.bytes().all(in_names);
    match address.parse::<IpAddr>().is_ok() || is_name {
        true => Ok(bare.to_owned()),
        false if ends_with_port(text) => Err("holds a port; that goes into PORT".into()),
        false => Err("is not an IP address or a host name".into()),
    }
}

/// An IPv6 address is written in brackets where a port may follow.
fn without_brackets(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or(host)
}

/// Whether the text is a host and a port.
fn ends_with_port(text: &str) -> bool {
    let port = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    };
    port.is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse::{Kind, List};
    use proptest::prelude::*;

    #[test]
    fn a_listen_host_is_an_address_or_a_name_without_port() {
        for (text, host) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::", "::"),
            ("[::1]", "::1"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(ListenHost.parse(text), Ok(host.into()), "{text}");
        }
        for text in ["", "a b", "a,b", "/run/x"] {
            assert!(ListenHost.parse(text).is_err(), "{text}");
        }
        for (text, cure) in [
            ("localhost:80", "PORT"),
            ("0.0.0.0:8000", "PORT"),
            ("[::1]:80", "PORT"),
            ("http://x:80", "PORT"),
            ("*", "0.0.0.0"),
        ] {
            let complaint = ListenHost.parse(text).unwrap_err();
            assert!(complaint.contains(cure), "{text}: {complaint}");
        }
    }

    #[test]
    fn a_database_host_is_a_name_an_address_or_a_directory_without_port() {
        for (text, hosts) in [
            ("localhost", "localhost"),
            (" a , b ", "a,b"),
            ("[::1]", "::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("/run/postgresql", "/run/postgresql"),
        ] {
            let parsed = List(DatabaseHost).parse(text);
            assert_eq!(parsed.map(|it| it.join(",")), Ok(hosts.into()), "{text}");
        }
        for (text, cure) in [
            ("localhost:5432", "DB_PORT"),
            ("[::1]:5432", "DB_PORT"),
            ("a,b:5432", "DB_PORT"),
            ("localhost:", "DB_PORT"),
            ("postgres://u:p@h/d", "DATABASE_URL"),
            ("tcp://172.17.0.2:5432", "DATABASE_URL"),
            ("localhost/shop", "DB_NAME"),
            ("u:p@h", "DB_USER"),
            ("my host", "character"),
            ("a,,b", "empty"),
            ("*", "character"),
            ("", "empty"),
        ] {
            let complaint = List(DatabaseHost).parse(text).unwrap_err();
            assert!(complaint.contains(cure), "{text}: {complaint}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,12}|[-+0-9.eE]{0,12}[km]?") {
            let _ = ListenHost.parse(&text);
            let _ = List(DatabaseHost).parse(&text);
        }
    }
}
