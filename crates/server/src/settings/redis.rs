//! Reads `REDIS_URL`.
//!
//! Invariant: what is shown is put together from parts that were understood; the password is not among them.

use std::fmt;

use super::parse::Kind;
use super::secret::{REDACTED, Secret};

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTarget {
    /// One URL per node, each `redis://` or `rediss://`, credentials included.
    pub nodes: Vec<Secret<String>>,
    /// Whether the nodes form a Redis Cluster: several nodes, or `redis+cluster://`.
    pub cluster: bool,
    shown: String,
}

impl fmt::Display for RedisTarget {
    /// The URL as given, without credentials' secrets and without its query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The kind of `REDIS_URL`.
pub(crate) struct RedisUrl;

impl Kind for RedisUrl {
    type Value = RedisTarget;
    const SECRET: bool = true;
    const PLACEHOLDER: &'static str = "URL";

    fn parse(&self, text: &str) -> Result<RedisTarget, String> {
        let urls = split(text.trim());
        let mut target = RedisTarget {
            nodes: Vec::new(),
            cluster: false,
            shown: String::new(),
        };
        let mut schemes = Vec::new();
        for url in urls {
            let node = Url::parse(url)?;
            schemes.push(node.tls);
            node.add_to(&mut target);
        }
        if schemes.iter().any(|tls| tls != &schemes[0]) {
            return Err("mixes redis:// and rediss://".into());
        }
        target.cluster |= target.nodes.len() > 1;
        Ok(target)
    }

    fn show(&self, value: &RedisTarget) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        "redis://, rediss:// or redis+cluster:// URL, or a comma-separated list of a cluster's nodes".into()
    }
}

/// The scheme, whether it means TLS, whether it means a cluster.
const SCHEMES: [(&str, bool, bool); 4] = [
    ("redis://", false, false),
    ("rediss://", true, false),
    ("redis+cluster://", false, true),
    ("rediss+cluster://", true, true),
];

/// Splits at commas that are followed by a scheme: a comma may also stand in a password or between hosts.
fn split(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let mut start = 0;
    for (index, _) in text.match_indices(',') {
        let next = text[index + 1..].trim_start();
        if SCHEMES.iter().any(|(scheme, ..)| next.starts_with(scheme)) {
            urls.push(text[start..index].trim());
            start = index + 1;
        }
    }
    urls.push(text[start..].trim());
    urls
}

struct Url<'a> {
    scheme: &'static str,
    tls: bool,
    cluster: bool,
    credentials: Option<&'a str>,
    hosts: Vec<&'a str>,
    database: &'a str,
    query: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let (scheme, tls, cluster, rest) = SCHEMES
            .iter()
            .find_map(|(scheme, tls, cluster)| {
                Some((*scheme, *tls, *cluster, text.strip_prefix(scheme)?))
            })
            .ok_or("must start with redis://, rediss:// or redis+cluster://")?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        // Otherwise the rest of a password with a bare ? would pass for the query, and its start for a host.
        if query.is_some_and(|query| query.contains('@')) {
            return Err(
                "has an @ after the ? (in the password they are written %40 and %3F)".into(),
            );
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let hosts: Vec<_> = hosts.split(',').map(str::trim).collect();
        for host in &hosts {
            check_host(host)?;
        }
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err(
                "has a path that is not a database number (a / ? # in the password is written %2F %3F %23)"
                    .into(),
            );
        }
        Ok(Self {
            scheme,
            tls,
            cluster,
            credentials,
            hosts,
            database,
            query,
        })
    }

    fn add_to(&self, target: &mut RedisTarget) {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let credentials = self
            .credentials
            .map_or_else(String::new, |it| format!("{it}@"));
        let path = match self.database {
            "" => String::new(),
            database => format!("/{database}"),
        };
        let query = self.query.map_or_else(String::new, |it| format!("?{it}"));
        for host in &self.hosts {
            let node = format!("{scheme}://{credentials}{host}{path}{query}");
            target.nodes.push(Secret::new(node));
        }
        target.cluster |= self.cluster;
        let credentials = match self.credentials.map(|it| it.split_once(':')) {
            None => String::new(),
            // Without a colon it is anyone's guess whether this is the user or the password.
            Some(None) => format!("{REDACTED}@"),
            Some(Some((user, _))) => format!("{user}:{REDACTED}@"),
        };
        if !target.shown.is_empty() {
            target.shown.push(',');
        }
        let hosts = self.hosts.join(",");
        target.shown += &format!("{}{credentials}{hosts}{path}", self.scheme);
    }
}

fn check_host(text: &str) -> Result<(), String> {
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
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("has a port that is not within 1 to 65535".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> (Vec<String>, bool) {
        let target = RedisUrl.parse(text).unwrap();
        let nodes = target
            .nodes
            .iter()
            .map(|node| node.expose().clone())
            .collect();
        (nodes, target.cluster)
    }

    #[test]
    fn one_url_is_one_server_and_several_are_a_cluster() {
        for (text, expected, cluster) in [
            ("redis://h", vec!["redis://h"], false),
            (
                "rediss://u:p@h:6380/2",
                vec!["rediss://u:p@h:6380/2"],
                false,
            ),
            (
                "redis://[::1]:6379?protocol=resp3",
                vec!["redis://[::1]:6379?protocol=resp3"],
                false,
            ),
            ("redis+cluster://h:1", vec!["redis://h:1"], true),
            ("redis://a:1,b:2", vec!["redis://a:1", "redis://b:2"], true),
            (
                "redis://:p@a, redis://:p@b",
                vec!["redis://:p@a", "redis://:p@b"],
                true,
            ),
            ("redis://:p,q@a", vec!["redis://:p,q@a"], false),
        ] {
            let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(nodes(text), (expected, cluster), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_redis_url_is_refused() {
        for text in [
            "",
            "h:6379",
            "http://h",
            "redis://",
            "redis://h:0",
            "redis://h:x",
            "redis://h/x",
            "redis://[::1",
            "redis://a b",
            "redis://a,rediss://b",
            "redis://:pa/ss@h",
            "redis://u:1?x@h",
        ] {
            assert!(RedisUrl.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_has_no_password() {
        for (text, shown) in [
            (
                "redis://user:pw@h:1/2?password=pw",
                "redis://user:***@h:1/2",
            ),
            ("redis://pw@h", "redis://***@h"),
            ("redis://:p@w@h", "redis://:***@h"),
            (
                "redis://:pw@a,redis://:pw@b",
                "redis://:***@a,redis://:***@b",
            ),
        ] {
            let target = RedisUrl.parse(text).unwrap();
            assert_eq!(target.to_string(), shown);
            assert!(!format!("{target:?}").contains("pw"), "{target:?}");
        }
    }
}
