//! Parses URLs of Redis. Invariant: every part of the text is used or refused, and an error quotes nothing of the text but the
//! name of an option: the rest may be a piece of a password.

use std::str::FromStr;

use cenote_secret::Secret;
use percent_encoding::percent_decode_str;

use super::{Endpoint, InvalidRedisUrl, Protocol, RedisUrl, Result};

const PORT: u16 = 6379;

struct Scheme {
    name: &'static str,
    kind: Kind,
    must_be_cluster: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Tls,
    Unix,
}

#[rustfmt::skip]
const SCHEMES: [Scheme; 9] = [
    Scheme { name: "redis", kind: Kind::Tcp, must_be_cluster: false },
    Scheme { name: "rediss", kind: Kind::Tls, must_be_cluster: false },
    Scheme { name: "valkey", kind: Kind::Tcp, must_be_cluster: false },
    Scheme { name: "valkeys", kind: Kind::Tls, must_be_cluster: false },
    Scheme { name: "redis+cluster", kind: Kind::Tcp, must_be_cluster: true },
    Scheme { name: "rediss+cluster", kind: Kind::Tls, must_be_cluster: true },
    Scheme { name: "unix", kind: Kind::Unix, must_be_cluster: false },
    Scheme { name: "redis+unix", kind: Kind::Unix, must_be_cluster: false },
    Scheme { name: "valkey+unix", kind: Kind::Unix, must_be_cluster: false },
];

/// The scheme of a text, and the rest after its `://`.
fn scheme(text: &str) -> Option<(&'static Scheme, &str)> {
    let (name, rest) = text.split_once("://")?;
    let is_it = |scheme: &&Scheme| scheme.name.eq_ignore_ascii_case(name);
    Some((SCHEMES.iter().find(is_it)?, rest))
}

impl RedisUrl {
    /// Parses a list of URLs separated by commas. Each URL may name several hosts, separated by commas, which share its other
    /// parts. A comma separates URLs only if a scheme follows: it may also be part of a password.
    ///
    /// # Errors
    /// [`InvalidRedisUrl`] for an invalid URL, and if the servers cannot belong to one cluster: see
    /// [`check_all`](Self::check_all).
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        let mut servers = Vec::new();
        for url in split(text.trim()) {
            servers.extend(parse(url)?);
        }
        Self::check_all(&servers)?;
        Ok(servers)
    }
}

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    /// Parses the URL of one server.
    fn from_str(text: &str) -> Result<Self> {
        let mut servers = Self::parse_list(text)?;
        match servers.len() {
            1 => Ok(servers.swap_remove(0)),
            _ => Err("names several servers where one is asked for".into()),
        }
    }
}

/// Splits a list at commas that a scheme follows.
fn split(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(',') {
        if scheme(text[at + 1..].trim_start()).is_some() {
            urls.push(text[start..at].trim());
            start = at + 1;
        }
    }
    urls.push(text[start..].trim());
    urls
}

/// The servers of one URL.
fn parse(text: &str) -> Result<Vec<RedisUrl>> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("holds a blank or a control character; a blank in a password is written %20".into());
    }
    let (scheme, rest) = scheme(text).ok_or("must start with redis://, rediss:// or unix://")?;
    let (rest, query) = split_tail(rest)?;
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    // Otherwise the start of a password with an unescaped / would be taken for a host, and shown.
    if path.contains('@') {
        return Err("has an @ after a /; in a password they are written %40 and %2F".into());
    }
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let mut options = Options::default();
    if let Some(credentials) = credentials {
        options.credentials(credentials)?;
    }
    let mut endpoints = Vec::new();
    if scheme.kind == Kind::Unix {
        endpoints.push(unix(hosts, path)?);
    } else {
        let tls = scheme.kind == Kind::Tls;
        for host in hosts.split(',') {
            let (host, port) = host_and_port(host)?;
            let host = host.to_owned();
            endpoints.push(Endpoint::Tcp { host, port, tls });
        }
        if let Some(number) = path.strip_prefix('/').filter(|it| !it.is_empty()) {
            put(&mut options.database, database(number, "a path")?, "databases")?;
        }
    }
    for option in query.into_iter().flat_map(|query| query.split('&')) {
        options.option(option)?;
    }
    let of = |endpoint| options.clone().into_url(endpoint, scheme.must_be_cluster);
    endpoints.into_iter().map(of).collect()
}

/// Splits the query off, and refuses a fragment.
fn split_tail(rest: &str) -> Result<(&str, Option<&str>)> {
    // Otherwise the rest of a password with an unescaped ? or # would be taken for a query, and its start for a host.
    if let Some(at) = rest.find(['?', '#'])
        && rest[at..].contains('@')
    {
        return Err("has an @ after a ? or a #; in a password they are written %40, %3F and %23".into());
    }
    match rest.split_once('#') {
        Some((_, "insecure")) => {
            return Err("has #insecure, but the server's certificate is always checked; \
                        name the authority that has signed it instead"
                .into());
        }
        Some(_) => {
            return Err("has a fragment, which means nothing (# in a password is written %23)".into());
        }
        None => {}
    }
    Ok(match rest.split_once('?') {
        Some((rest, "")) => (rest, None),
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    })
}

fn unix(host: &str, path: &str) -> Result<Endpoint> {
    if !host.is_empty() {
        return Err("names a host and a Unix socket; the path of a socket begins with a third /".into());
    }
    if path.len() < 2 {
        return Err("names no Unix socket".into());
    }
    Ok(Endpoint::Unix(decode(path, "the path")?.into()))
}

fn host_and_port(text: &str) -> Result<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("has a [ without ]")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("has brackets round what is not an IPv6 address".into());
            }
            if !port.is_empty() && !port.starts_with(':') {
                return Err("has text after the ] of the host".into());
            }
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("has more than one : in the host; an IPv6 address is put into brackets".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("names no host".into());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(plain) {
        return Err("has a host with characters no host has".into());
    }
    let port = match port {
        None => PORT,
        Some(port) => match number(port) {
            Some(port @ 1..=0xFFFF) => port as u16,
            _ => return Err("has a port that is not within 1 to 65535".into()),
        },
    };
    Ok((host, port))
}

/// Parses digits only: Rust also accepts a sign, which no other client does.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn database(text: &str, what: &str) -> Result<u32> {
    number(text).ok_or_else(|| {
        let in_password = "a / ? # in a password is written %2F %3F %23";
        format!("has {what} that is not the number of a database ({in_password})").into()
    })
}

fn decode(text: &str, what: &str) -> Result<String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let digits = after.as_bytes().get(..2);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(format!("has a % in {what} that no two hexadecimal digits follow; a % is written %25").into());
        }
        rest = &after[2..];
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(format!("has {what} that is not UTF-8 once it is decoded").into()),
    }
}

/// Sets a part. It may have been set before, to the same value.
fn put<T: PartialEq>(part: &mut Option<T>, value: T, what: &str) -> Result<()> {
    match part {
        Some(other) if *other != value => Err(format!("names two different {what}").into()),
        _ => {
            *part = Some(value);
            Ok(())
        }
    }
}

/// The parts that can be written in several places of a URL.
#[derive(Clone, Default)]
struct Options {
    user: Option<String>,
    password: Option<Secret<String>>,
    database: Option<u32>,
    protocol: Option<Protocol>,
}

impl Options {
    fn credentials(&mut self, text: &str) -> Result<()> {
        // Probably each host has its own credentials, and the first host would be taken for a part of a password.
        if text.contains('@') && text.contains(',') {
            return Err("has several @ and a comma; in a password they are written %40 and %2C".into());
        }
        if text.is_empty() {
            return Ok(());
        }
        let Some((user, password)) = text.split_once(':') else {
            return Err("has one word before the @: write :password@, or user:@ for a user without a password".into());
        };
        if !user.is_empty() {
            put(&mut self.user, decode(user, "the user")?, "users")?;
        }
        if !password.is_empty() {
            let password = Secret::new(decode(password, "the password")?);
            put(&mut self.password, password, "passwords")?;
        }
        Ok(())
    }

    fn option(&mut self, text: &str) -> Result<()> {
        let Some((name, value)) = text.split_once('=') else {
            return Err("has an option without a value (a ? in a password is written %3F)".into());
        };
        if value.contains('+') {
            // Some programs read it as a blank, others as a plus.
            return Err("has a + in an option; it is written %2B, a blank %20".into());
        }
        let value = decode(value, "an option")?;
        match name {
            "db" => put(&mut self.database, database(&value, "an option db")?, "databases"),
            "user" | "username" | "pass" | "password" if value.is_empty() => Ok(()),
            "user" | "username" => put(&mut self.user, value, "users"),
            "pass" | "password" => put(&mut self.password, Secret::new(value), "passwords"),
            "protocol" => {
                let protocol = match &*value {
                    "2" | "resp2" => Protocol::Resp2,
                    "3" | "resp3" => Protocol::Resp3,
                    _ => return Err("has an option protocol that is neither 2 nor 3".into()),
                };
                put(&mut self.protocol, protocol, "protocols")
            }
            _ => Err(unknown(name)),
        }
    }

    fn into_url(self, endpoint: Endpoint, must_be_cluster: bool) -> Result<RedisUrl> {
        Ok(RedisUrl {
            endpoint,
            // A user without a password logs in with an empty one.
            password: self.password.or(self.user.is_some().then(Secret::default)),
            user: self.user,
            database: self.database.unwrap_or(0),
            protocol: self.protocol,
            must_be_cluster,
        })
    }
}

/// Quotes the name of an unknown option, unless it may be a piece of a password.
fn unknown(name: &str) -> InvalidRedisUrl {
    let known = "db, user, password and protocol";
    let looks_like_one = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.len() <= 40 && name.chars().all(looks_like_one) {
        true => format!("has the option {name}, which is not known; those known are {known}").into(),
        false => format!("has an option that is not known; those known are {known}").into(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
