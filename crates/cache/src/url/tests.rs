use proptest::prelude::*;
use redis::{ConnectionAddr, IntoConnectionInfo};

use super::*;

fn parse(text: &str) -> Result<Vec<RedisUrl>> {
    RedisUrl::parse_list(text)
}

fn tcp(host: &str, port: u16, tls: bool) -> RedisUrl {
    let host = host.to_owned();
    RedisUrl {
        endpoint: Endpoint::Tcp { host, port, tls },
        user: None,
        password: None,
        database: 0,
        protocol: None,
        must_be_cluster: false,
    }
}

fn with_login(url: RedisUrl, user: Option<&str>, password: &str) -> RedisUrl {
    let password = Some(Secret::new(password.to_owned()));
    let user = user.map(str::to_owned);
    RedisUrl { user, password, ..url }
}

fn unix(path: &str) -> RedisUrl {
    RedisUrl {
        endpoint: Endpoint::Unix(path.into()),
        ..tcp("", 0, false)
    }
}

#[test]
fn every_part_of_a_url_is_used() {
    let h = || tcp("h", 6379, false);
    let database = |url, database| RedisUrl { database, ..url };
    for (text, expected) in [
        ("redis://h", h()),
        (" redis://h ", h()),
        ("REDIS://h/?", h()),
        ("valkey://h/", h()),
        ("valkeys://h:1", tcp("h", 1, true)),
        ("redis://[::1]", tcp("::1", 6379, false)),
        ("rediss://[fe80::1]:6380/2", database(tcp("fe80::1", 6380, true), 2)),
        ("redis://h/007", database(h(), 7)),
        ("redis://h?db=3", database(h(), 3)),
        ("redis://h/3?db=3", database(h(), 3)),
        ("redis://:@h", h()),
        ("redis://@h", h()),
        ("redis://u:@h", with_login(h(), Some("u"), "")),
        ("redis://h?user=u", with_login(h(), Some("u"), "")),
        ("redis://:p@h", with_login(h(), None, "p")),
        ("redis://u:p@h", with_login(h(), Some("u"), "p")),
        ("redis://u:p@h?username=u&pass=p", with_login(h(), Some("u"), "p")),
        ("redis://h?password=a%2Bb%26c", with_login(h(), None, "a+b&c")),
        ("redis://:%40%3a%2F%23%3F%25%2C%20@h", with_login(h(), None, "@:/#?%, ")),
        ("redis://:pässwörd@h", with_login(h(), None, "pässwörd")),
        ("unix:///run/redis.sock", unix("/run/redis.sock")),
        ("redis+unix:///a%20b?db=1", database(unix("/a b"), 1)),
        (
            "unix://u:p@/run/r?db=1",
            database(with_login(unix("/run/r"), Some("u"), "p"), 1),
        ),
    ] {
        assert_eq!(parse(text), Ok(vec![expected]), "{text}");
    }
    for (text, protocol) in [("2", Protocol::Resp2), ("resp3", Protocol::Resp3)] {
        let url: RedisUrl = format!("redis://h?protocol={text}").parse().unwrap();
        assert_eq!(url.protocol, Some(protocol));
    }
}

#[test]
fn an_unknown_option_is_refused_by_name_and_nothing_else_is_quoted() {
    for (text, complaint) in [
        ("", "must start with"),
        ("h:6379", "must start with"),
        ("http://h", "must start with"),
        ("redis-sentinel://h", "must start with"),
        ("redis://", "no host"),
        ("redis://:pw", "no host"),
        ("redis://h:0", "port"),
        ("redis://h:+1", "port"),
        ("redis://h:65536", "port"),
        ("redis://h:", "port"),
        ("redis://::1", "brackets"),
        ("redis://[::1", "without ]"),
        ("redis://[::1]x", "after the ]"),
        ("redis://[h]", "IPv6"),
        ("redis://a b", "blank"),
        ("redis://h\n", ""),
        ("redis://h\u{7f}", "control"),
        ("redis://höst", "no host has"),
        ("redis://h/x", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis://h/+1", "number of a database"),
        ("redis://h/0/x", "number of a database"),
        ("redis://h/0/", "number of a database"),
        ("redis://h/4294967296", "number of a database"),
        ("redis://h/1?db=2", "two different databases"),
        ("redis://h?db=-1", "number of a database"),
        ("redis://u:p@h?user=v", "two different users"),
        ("redis://u:p@h?pass=q", "two different passwords"),
        ("redis://h?nonsense=2", "the option nonsense"),
        ("redis://h?ssl_cert_reqs=none", "the option ssl_cert_reqs"),
        ("redis://h?db=1&", "option without a value"),
        ("redis://h?secretword", "option without a value"),
        ("redis://h?se~cret=1", "an option that is not known"),
        ("redis://h?protocol=4", "option protocol"),
        ("redis://h?pass=a+b", "+"),
        ("redis://h#insecure", "#insecure"),
        ("rediss://h/#insecure", "#insecure"),
        ("rediss://h#secretword", "fragment"),
        ("redis://:pa/ss@h", "@ after a /"),
        ("redis://:pa?ss@h", "@ after a ?"),
        ("redis://:pa#ss@h", "@ after a ?"),
        ("redis://u:1?x@h", "@ after a ?"),
        ("redis://word@h", "one word before the @"),
        ("redis://:p%zz@h", "hexadecimal"),
        ("redis://:100%@h", "hexadecimal"),
        ("redis://:%ff@h", "UTF-8"),
        ("redis://:p@a,:q@b", "several @ and a comma"),
        ("unix://h/run/redis.sock", "host and a Unix socket"),
        ("unix://run/redis.sock", "host and a Unix socket"),
        ("unix://", "no Unix socket"),
        ("unix:///", "no Unix socket"),
        ("redis://a,rediss://b", "with TLS and"),
        ("redis://:p@a,redis://:q@b", "different users or passwords"),
        ("redis://u:p@a,redis://:p@b", "different users or passwords"),
        ("redis://a/1,redis://b/2", "different databases"),
        ("redis://a?protocol=3,redis://b", "different protocols"),
        ("redis://a/1,redis://b/1", "database of a cluster"),
        ("redis+cluster://a/1", "database of a cluster"),
        ("redis://a,", "no host"),
        ("redis://a,,redis://b", "no host"),
    ] {
        if complaint.is_empty() {
            assert!(parse(text).is_ok(), "a line end after it is none of its");
            continue;
        }
        let refused = parse(text).expect_err(text).to_string();
        assert!(refused.contains(complaint), "{text}: {refused}");
        for secret in ["secret", "pw", "pa", "ss@", "word@"] {
            let told = refused.replace("password", "").replace("path", "");
            assert!(!told.contains(secret), "{text}: {refused}");
        }
    }
}

#[test]
fn several_urls_or_hosts_are_several_servers() {
    let login = |host, port| with_login(tcp(host, port, false), None, "p,q");
    for text in [
        "redis://:p,q@a:1,b",
        "redis://:p,q@a:1,redis://:p%2Cq@b",
        "redis://:p,q@a:1 , redis://:p,q@b:6379",
    ] {
        assert_eq!(parse(text), Ok(vec![login("a", 1), login("b", 6379)]), "{text}");
    }
    assert!("redis://a,b".parse::<RedisUrl>().is_err());
    let cluster = parse("rediss+cluster://a,b").unwrap();
    assert!(cluster.iter().all(|it| it.must_be_cluster && it.is_tls()));
}

#[test]
fn display_and_debug_show_no_password() {
    for (text, shown) in [
        ("redis://user:pw@h:1/2?password=pw", "redis://user:***@h:1/2"),
        ("redis://pw:@h", "redis://***@h:6379"),
        ("redis://:p@w@h", "redis://:***@h:6379"),
        ("rediss://:pw@[::1]", "rediss://:***@[::1]:6379"),
        ("redis+cluster://h", "redis+cluster://h:6379"),
        ("unix://:pw@/run/r?db=2", "unix://:***@/run/r?db=2"),
    ] {
        let url: RedisUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), shown);
        assert!(!format!("{url:?} {url:#?}").contains("pw"), "{url:?}");
    }
}

/// What a URL says, however it is written.
#[derive(Clone, Debug)]
struct Parts {
    scheme: &'static str,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: Option<u16>,
    database: Option<u32>,
    query: &'static str,
}

fn parts() -> impl Strategy<Value = Parts> {
    let schemes = prop::sample::select(vec!["redis", "rediss", "valkey", "valkeys"]);
    let text = "[a-z@:/#?%,&=+ ä~0-9]{1,8}";
    let hosts = prop_oneof!["[a-z][a-z0-9.-]{0,8}", Just("[::1]".to_owned()), "127\\.0\\.0\\.[1-9]"];
    let queries = prop::sample::select(vec!["", "?", "?protocol=3", "?db=1", "?nonsense=2"]);
    let login = prop::option::of((prop::option::of(text), text));
    let numbers = (prop::option::of(1..=u16::MAX), prop::option::of(0..=u32::MAX));
    (schemes, login, hosts, numbers, queries).prop_map(|parts| {
        let (scheme, login, host, (port, database), query) = parts;
        let (user, password) = login.unzip();
        Parts {
            scheme,
            user: user.flatten(),
            password,
            host,
            port,
            database,
            query,
        }
    })
}

impl Parts {
    /// As it is written: what must be escaped is, and the rest where `all`.
    fn text(&self, all: bool) -> String {
        let escape = |text: &str| -> String {
            let keeps = |byte: u8| byte.is_ascii_alphanumeric() || !all && b":@,&=+~".contains(&byte);
            let written = |byte: u8| match keeps(byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02x}"),
            };
            text.bytes().map(written).collect()
        };
        let user = |user: &String| escape(user).replace(':', "%3a");
        let login = self.password.as_deref().map(|password| {
            let user = self.user.as_ref().map(user).unwrap_or_default();
            format!("{user}:{}@", escape(password))
        });
        let port = self.port.map(|port| format!(":{port}"));
        let database = self.database.map(|number| format!("/{number}"));
        let host = &self.host;
        [
            self.scheme,
            "://",
            &login.unwrap_or_default(),
            host,
            &port.unwrap_or_default(),
        ]
        .concat()
            + &database.unwrap_or_default()
            + self.query
    }

    fn expected(&self) -> RedisUrl {
        let host = self.host.trim_matches(['[', ']']).to_owned();
        RedisUrl {
            endpoint: Endpoint::Tcp {
                host,
                port: self.port.unwrap_or(6379),
                tls: self.scheme.ends_with('s') && self.scheme != "redis",
            },
            user: self.user.clone(),
            password: self.password.clone().map(Secret::new),
            database: self.database.unwrap_or(u32::from(self.query == "?db=1")),
            protocol: (self.query == "?protocol=3").then_some(Protocol::Resp3),
            must_be_cluster: false,
        }
    }
}

proptest! {
    #[test]
    fn a_url_made_of_parts_is_read_as_these_parts_or_refused(parts in parts(), all in any::<bool>()) {
        let text = parts.text(all);
        match parse(&text) {
            Ok(urls) => prop_assert_eq!(urls, vec![parts.expected()], "{}", text),
            Err(refused) => {
                let several = !all && text.matches('@').count() > 1 && text.contains(',');
                let differs = parts.query == "?db=1" && parts.database.is_some_and(|it| it != 1);
                prop_assert!(several || differs || parts.query.contains("nonsense"), "{text}: {refused}");
            }
        }
    }

    /// Every URL that this parser accepts means the same to the client's parser, which ignores unknown options.
    #[test]
    fn an_accepted_url_means_the_same_to_the_clients_parser(
        parts in parts(), all in any::<bool>(), cut in 0_usize..40, with in "[@:/?#%,a]{0,2}"
    ) {
        let mut text = parts.text(all);
        let at = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert_str(at, &with);
        let Ok(urls) = parse(&text) else { return Ok(()) };
        let [url] = &urls[..] else { return Ok(()) };
        let theirs = match (&*text).into_connection_info() {
            Ok(theirs) => theirs,
            // It refuses database numbers above 2^63 and in options. Tests do not connect to these addresses.
            Err(_) => return Ok(()),
        };
        let endpoint = match theirs.addr() {
            ConnectionAddr::Tcp(host, port) => Endpoint::Tcp { host: host.clone(), port: *port, tls: false },
            ConnectionAddr::TcpTls { host, port, .. } => Endpoint::Tcp { host: host.clone(), port: *port, tls: true },
            other => panic!("{other}"),
        };
        let settings = theirs.redis_settings();
        prop_assert_eq!(&url.endpoint, &endpoint, "{}", text);
        prop_assert_eq!(url.user.as_deref(), settings.username(), "{}", text);
        let password = url.password.as_ref().map(|it| &**it.expose()).filter(|it| !it.is_empty());
        prop_assert_eq!(password, settings.password().filter(|it| !it.is_empty()), "{}", text);
        if !text.contains("db=") {
            prop_assert_eq!(i64::from(url.database), settings.db(), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_tell_what_it_holds(text in "(redis|unix)s?://\\PC{0,24}|\\PC{0,24}") {
        if let Ok(urls) = parse(&text) {
            for url in urls {
                let again = url.to_string();
                prop_assert!(again.contains("://"));
            }
        }
    }
}
