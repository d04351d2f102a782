//! What is added to a connection string, against libpq itself, which psycopg gives access to.

#![allow(clippy::significant_drop_tightening, reason = "one question at a time")]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, sync::Mutex};

use cenote_testing::Oracle;
use proptest::{prelude::*, sample::select};

use super::*;

type Environment = BTreeMap<&'static str, String>;

fn with(environment: &Environment, text: &str) -> Result<Config, InvalidConfig> {
    of(text, &|name| environment.get(name).cloned())
}

/// Writes a file that only its owner reads.
fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn password(config: &Config) -> Option<String> {
    match &config.password {
        Some(source) => Some(source.get().await.unwrap()),
        None => None,
    }
}

#[tokio::test]
async fn the_string_wins_over_the_service_and_that_over_variables() {
    let folder = tempfile::tempdir().unwrap();
    let services = folder.path().join("services");
    private(&services, "[shop]\nhost=of-service\nport=5433\nuser=of-service\n");
    let environment = Environment::from([
        ("PGSERVICEFILE", services.display().to_string()),
        ("PGSERVICE", "shop".to_owned()),
        ("PGHOST", "of-variable".to_owned()),
        ("PGDATABASE", "of-variable".to_owned()),
        ("PGPASSWORD", "of-variable".to_owned()),
        ("PGSSLMODE", "disable".to_owned()),
    ]);
    let config = with(&environment, "user=of-text connect_timeout=3").unwrap();
    let server = &config.server;
    assert_eq!(server.get_hosts(), [Host::Tcp("of-service".to_owned())]);
    assert_eq!(server.get_ports(), [5433]);
    assert_eq!(server.get_user(), Some("of-text"));
    assert_eq!(server.get_dbname(), Some("of-variable"));
    assert_eq!(server.get_password(), Some("of-variable".as_bytes()));
    assert!(config.password.is_none());
}

#[tokio::test]
async fn a_passfile_gives_the_password_and_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let passfile = folder.path().join(".pgpass");
    private(&passfile, "db:5432:shop:app:hunter2\n");
    let environment = Environment::from([("HOME", folder.path().display().to_string())]);
    let config = with(&environment, "postgresql://app@db/shop").unwrap();
    assert_eq!(password(&config).await.as_deref(), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    private(&passfile, "db:*:shop:app:second\n");
    assert_eq!(password(&config).await.as_deref(), Some("second"));
    let other = with(&environment, "postgresql://other@db/shop").unwrap();
    assert_eq!(password(&other).await, None);
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o640)).unwrap();
    let shared = with(&environment, "postgresql://app@db/shop").unwrap();
    assert_eq!(password(&shared).await, None, "others may read it");
}

#[tokio::test]
async fn several_hosts_share_a_password_or_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let passfile = folder.path().join("passfile");
    let text = format!("host=a,b port=1,2 user=u dbname=d passfile={}", passfile.display());
    private(&passfile, "*:*:d:u:same\n");
    let config = with(&Environment::new(), &text).unwrap();
    assert_eq!(password(&config).await.as_deref(), Some("same"));
    private(&passfile, "a:1:d:u:hunter2\nb:2:d:u:other\n");
    let complaint = with(&Environment::new(), &text).unwrap_err().to_string();
    assert!(
        complaint.contains("different passwords") && !complaint.contains("hunter2"),
        "{complaint}"
    );
}

#[test]
fn what_cannot_be_honoured_is_refused_and_its_origin_named() {
    let folder = tempfile::tempdir().unwrap();
    let services = folder.path().join("services");
    private(&services, "[shop]\nhost=h\nsslcrl=hunter2\n");
    let service_file = || ("PGSERVICEFILE", services.display().to_string());
    for (environment, text, expected) in [
        (
            Environment::from([("PGSSLCRL", "hunter2".to_owned())]),
            "host=h",
            "PGSSLCRL",
        ),
        (Environment::from([service_file()]), "service=shop", "sslcrl"),
        (
            Environment::from([service_file()]),
            "service=other",
            "in no service file",
        ),
        (Environment::from([("PGPORT", "hunter2".to_owned())]), "host=h", "port"),
    ] {
        let complaint = with(&environment, text).unwrap_err().to_string();
        assert!(
            complaint.contains(expected) && !complaint.contains("hunter2"),
            "{complaint}"
        );
    }
}

/// The password that libpq finds in a passfile.
fn libpq_password(passfile: &[u8], wanted: &Wanted) -> Vec<u8> {
    const PROGRAM: &str = r#"
import os, tempfile
from psycopg import pq
path = tempfile.mkstemp()[1]
def quote(text):
    return b"'" + text.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'"
def answer(passfile, host, port, name, user):
    with open(path, "wb") as file:
        file.write(passfile)
    options = {b"host": host, b"port": port, b"dbname": name, b"user": user, b"passfile": path.encode()}
    text = b" ".join(key + b"=" + quote(value) for key, value in options.items())
    return [pq.PGconn.connect_start(b"hostaddr=127.0.0.1 " + text).password]
"#;
    static ORACLE: Mutex<Option<Oracle>> = Mutex::new(None);
    let mut oracle = ORACLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let oracle = oracle.get_or_insert_with(|| Oracle::start(PROGRAM));
    let port = wanted.port.to_string();
    let question = [
        passfile,
        wanted.host.as_bytes(),
        port.as_bytes(),
        wanted.database.as_bytes(),
        wanted.user.as_bytes(),
    ];
    oracle.ask(&question).unwrap().concat()
}

/// The options that libpq takes from a service file. `None`: it refuses the service.
fn libpq_service(file: &str, name: &str) -> Option<BTreeMap<String, String>> {
    const PROGRAM: &str = r#"
import os, tempfile
from psycopg import pq
path = tempfile.mkstemp()[1]
os.environ["PGSERVICEFILE"] = path
os.environ["PGSYSCONFDIR"] = "/nowhere"
def answer(text, name):
    with open(path, "wb") as file:
        file.write(text)
    connection = pq.PGconn.connect_start(b"hostaddr=127.0.0.1 port=1 service=" + name)
    if b"service" in connection.error_message:
        return None
    return [field for it in connection.info if it.val for field in (it.keyword, it.val)]
"#;
    static ORACLE: Mutex<Option<Oracle>> = Mutex::new(None);
    let mut oracle = ORACLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let oracle = oracle.get_or_insert_with(|| Oracle::start(PROGRAM));
    let fields = oracle.ask(&[file.as_bytes(), name.as_bytes()])?;
    let text = |field: &Vec<u8>| String::from_utf8(field.clone()).unwrap();
    Some(fields.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
}

/// A field of a passfile: mostly of what is wanted, and of what has a meaning there.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![Just("*".to_owned()), "[ab]{1,2}", "[ab*\\\\]{0,3}", "(\\\\:|[ab]){0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_passfile_is_read_as_libpq_reads_it(
        lines in proptest::collection::vec((proptest::collection::vec(field(), 0..7), select(&["\n", "\r\n", "\n\n", "\n#"][..])), 0..5),
        host in "[ab:\\\\]{1,2}",
        port in select(&[1_u16, 5432][..]),
        database in "[ab:\\\\]{1,2}",
        user in "[ab:\\\\]{1,2}",
    ) {
        let text: String = lines.iter().map(|(fields, end)| {
            let mut fields = fields.clone();
            if let Some(port) = fields.get_mut(1) && port.starts_with('a') {
                *port = "5432".to_owned();
            }
            fields.join(":") + end
        }).collect();
        let wanted = Wanted { host, port, database, user };
        let ours = crate::connect::passfile::password(text.as_bytes(), &wanted).unwrap_or_default();
        prop_assert_eq!(ours, libpq_password(text.as_bytes(), &wanted), "{:?} {:?}", text, wanted);
    }

    #[test]
    fn a_service_file_is_read_as_libpq_reads_it_or_refused(
        lines in proptest::collection::vec(prop_oneof![
            select(&["[s]", "[t]", " [s] ", "[s", "[s]x", "[]", "#", "", "  "][..]).prop_map(str::to_owned),
            ("(user|dbname|application_name|service|nonsense)", select(&["=", " =", "= ", ""][..]), "[a =#\\[]{0,3}")
                .prop_map(|(name, equals, value)| format!("{name}{equals}{value}")),
        ], 0..8),
    ) {
        let text = lines.join("\n");
        let theirs = libpq_service(&text, "s");
        let ours = crate::connect::service_file::find(&text, "s");
        // An unknown option is found later here.
        let is_known = |options: &Vec<(String, String)>| options.iter().all(|(name, _)| ["user", "dbname", "application_name"].contains(&name.as_str()));
        match (ours, theirs) {
            (Ok(Some(ours)), Some(theirs)) if is_known(&ours) => for (name, value) in ours.iter().filter(|(_, value)| !value.is_empty()) {
                prop_assert_eq!(theirs.get(name), Some(value), "{:?}", text);
            },
            (Ok(Some(ours)), None) => prop_assert!(!is_known(&ours), "{:?}", text),
            (Ok(None), None) | (Err(_), None) => {}
            (ours, theirs) => prop_assert!(false, "{:?}: {:?}, libpq: {:?}", text, ours, theirs),
        }
    }
}
