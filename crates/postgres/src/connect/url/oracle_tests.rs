//! The parser against libpq's own, which psycopg gives access to.

#![allow(clippy::significant_drop_tightening, reason = "one question at a time")]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::Config;

use cenote_testing::Oracle;

const PROGRAM: &str = r#"
from psycopg import pq
def answer(text):
    try:
        options = pq.Conninfo.parse(text)
    except Exception:
        return None
    return [field for it in options if it.val for field in (it.keyword, it.val)]
"#;

type Map = BTreeMap<String, Vec<u8>>;

/// libpq's options that are not empty.
fn libpq(text: &str) -> Option<Map> {
    static ORACLE: Mutex<Option<Oracle>> = Mutex::new(None);
    let mut oracle = ORACLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let oracle = oracle.get_or_insert_with(|| Oracle::start(PROGRAM));
    let fields = oracle.ask(&[text.as_bytes()])?;
    let pairs = fields
        .chunks(2)
        .map(|pair| (String::from_utf8(pair[0].clone()).unwrap(), pair[1].clone()));
    Some(pairs.collect())
}

fn ours(text: &str) -> Result<Map> {
    let read: ConnectionString = text.parse()?;
    Ok(read
        .0
        .iter()
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .collect())
}

/// Those that make no difference are dropped here.
fn honoured(mut theirs: Map) -> Map {
    theirs.retain(|name, _| {
        !matches!(
            name.as_str(),
            "gsslib" | "gssdelegation" | "krbsrvname" | "sslcompression"
        ) && !matches!(
            name.as_str(),
            "client_encoding" | "gssencmode" | "sslsni" | "sslcertmode" | "replication"
        ) && !name.contains("protocol_version")
    });
    theirs
}

/// Refuses it, or reads it as libpq does.
fn agrees(text: &str) -> Option<Map> {
    match (ours(text), libpq(text)) {
        (Err(_), _) => None,
        (Ok(ours), Some(theirs)) => {
            assert_eq!(ours, honoured(theirs), "{text:?}");
            Some(ours)
        }
        (Ok(ours), None) => panic!("{text:?} is refused by libpq, not {ours:?}"),
    }
}

/// A value with everything in it that has a meaning to some parser.
fn value() -> impl Strategy<Value = String> {
    "[a-zäß0-9 @:/?#&=%,;'\"\\\\+\\[\\]._-]{1,12}"
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02x}")
            }
        })
        .collect()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9.-]{0,8}",
        Just("[::1]".to_owned()),
        Just("10.0.0.7".to_owned()),
        Just("%2Frun%2Fpg".to_owned())
    ]
}

fn endpoint() -> impl Strategy<Value = String> {
    (host(), proptest::option::of(1..=65_535_u16))
        .prop_map(|(host, port)| port.map_or(host.clone(), |port| format!("{host}:{port}")))
}

fn option() -> impl Strategy<Value = (&'static str, String)> {
    const TEXTS: [&str; 6] = [
        "user",
        "password",
        "dbname",
        "options",
        "application_name",
        "fallback_application_name",
    ];
    prop_oneof![
        (select(&TEXTS[..]), value()),
        (
            select(&["connect_timeout", "keepalives", "keepalives_idle", "tcp_user_timeout"][..]),
            "[0-9]{1,4}"
        ),
        select(
            &[
                ("sslmode", "require"),
                ("sslmode", "disable"),
                ("target_session_attrs", "prefer-standby"),
                ("load_balance_hosts", "random"),
                ("channel_binding", "prefer"),
                ("gssencmode", "prefer"),
                ("client_encoding", "UTF8"),
                ("sslcompression", "0"),
                ("krbsrvname", "postgres"),
                ("requiressl", "1"),
                ("passfile", ""),
            ][..]
        )
        .prop_map(|(name, value)| (name, value.to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn a_well_formed_url_is_read_as_libpq_reads_it(
        scheme in select(&["postgresql://", "postgres://"][..]),
        user in proptest::option::of(value()),
        password in proptest::option::of(value()),
        endpoints in proptest::collection::vec(endpoint(), 0..4),
        name in proptest::option::of(value()),
        options in proptest::collection::vec(option(), 0..4),
    ) {
        let mut text = scheme.to_owned();
        if user.is_some() || password.is_some() {
            text += &encode(&user.unwrap_or_default());
            text += &password.map_or_else(String::new, |password| format!(":{}", encode(&password)));
            text.push('@');
        }
        text += &endpoints.join(",");
        text += &name.map_or_else(String::new, |name| format!("/{}", encode(&name)));
        let options: Vec<_> = options.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        if !options.is_empty() {
            text += &format!("?{}", options.join("&"));
        }
        prop_assert!(agrees(&text).is_some(), "{text:?}: {:?}", ours(&text));
    }

    #[test]
    fn a_well_formed_list_is_read_as_libpq_reads_it(
        options in proptest::collection::vec((option(), select(&["=", " = ", "=\t", "\n="][..]), select(&[" ", "", "\n", "\x0b"][..])), 1..6),
    ) {
        let text: String = options.iter().map(|((name, value), equals, between)| format!("{name}{equals}{}{between}", quote(value))).collect();
        prop_assert!(agrees(&text).is_some(), "{text:?}: {:?}", ours(&text));
    }

    #[test]
    fn any_url_is_read_as_libpq_reads_it_or_refused(text in "postgres(ql)?://([a-z]{1,3}|[@:/?,&=%#\\[\\] ]|%[0-9a-f]{2}|[0-9]{1,3}|user=|password=|host=|port=|ssl=true|sslmode=require){0,14}") {
        agrees(&text);
    }

    #[test]
    fn any_list_is_read_as_libpq_reads_it_or_refused(text in "((user|password|host|port|dbname|ssl|tty| a)|['\\\\= \t\n\x0b]|[a-z]{1,3}|\\PC){0,16}") {
        agrees(&text);
    }

    #[test]
    fn hosts_and_ports_are_paired_as_libpq_pairs_them(
        endpoints in proptest::collection::vec(("[a-z][a-z0-9]{0,5}", proptest::option::of(1..=65_535_u16)), 1..4),
    ) {
        let spelled = endpoints.iter().map(|(host, port)| port.map_or(host.clone(), |port| format!("{host}:{port}")));
        let text = format!("postgresql://{}/d", spelled.collect::<Vec<_>>().join(","));
        let theirs = libpq(&text).unwrap();
        let list = |name: &str| theirs.get(name).map(|list| String::from_utf8(list.clone()).unwrap());
        let ports = list("port").map_or(vec![String::new()], |ports| ports.split(',').map(str::to_owned).collect());
        let hosts: Vec<_> = list("host").unwrap().split(',').map(str::to_owned).collect();
        let targets = crate::connect::hosts::targets(&Config::from_url(&text).unwrap().server);
        for (index, host) in hosts.iter().enumerate() {
            let port = match ports.get(index).unwrap_or(&ports[0]).as_str() {
                "" => "5432",
                port => port,
            };
            prop_assert_eq!(&targets[index].shown, &format!("{host}:{port}"), "{}", text);
        }
    }
}

#[test]
fn every_option_of_libpq_is_honoured_ignored_or_refused_by_its_name() {
    let program = r#"
from psycopg import pq
def answer():
    return [it.keyword for it in pq.Conninfo.get_defaults()]
"#;
    for name in Oracle::start(program).ask(&[]).unwrap() {
        let name = String::from_utf8(name).unwrap();
        let strange = format!("postgresql://h/d?{name}=hunter2");
        let Err(complaint) = Config::from_url(&strange) else {
            continue;
        };
        let complaint = complaint.to_string();
        assert!(
            complaint.contains(&name) && !complaint.contains("hunter2"),
            "{complaint}"
        );
        assert!(!complaint.contains("unknown"), "{complaint}");
    }
}

#[test]
fn cases_that_were_misread_are_read_as_libpq_reads_them_or_refused() {
    for text in [
        "postgresql://db.example.org:5432/shop?password=secret&user=svc@corp.example",
        "postgresql://a:1,b:2/d?port=3",
        "postgresql://a/d?host=b",
        "postgresql://a:1,b/d",
        "postgresql://h/d?ssl=true",
        "postgresql://h/d?user=a&user=b",
        "postgresql://h/d?user=x&",
        "postgresql://h/d#f",
        "postgresql:///d?host=/run/pg",
        "postgresql://%2Frun%2Fpg:5433/d",
        "postgresql://[fe80::1%25eth0]:5433/d",
        "user='a'port=1",
        "user= port=1 host=h",
        "host=h user=u\\",
        "host=h requiressl=1",
    ] {
        assert!(agrees(text).is_some(), "{text}: {:?}", ours(text));
    }
    for text in [
        "postgresql://h?user=a@b",
        "postgresql://u:a@b@c/d",
        "postgresql://u:1/b@c/d",
        "postgresql://u:100%@h/d",
        "postgresql://u:a b@h/d",
        "postgresql://h/d?user=%00",
        "postgresql://h/d?user",
        "postgresql://h/d?user=a=b",
        "postgresql://[::1/d",
        "postgresql://h/d\n",
        "host=h ssl=true",
    ] {
        assert!(ours(text).is_err(), "{text}");
    }
}
