//! Several hosts: which one is chosen, and what happens when one changes.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_local::PostgresServer;
use cenote_postgres::{Config, Error, Pool, Resolver, Retired, TargetSession};
use cenote_testing::Replication;
use tokio::{
    net::TcpListener,
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    self,
    connecting::{first, lazy},
    until,
};

/// A primary and its standby, which no test changes.
struct Pair {
    primary: PostgresServer,
    standby: PostgresServer,
}

async fn pair() -> &'static Pair {
    static PAIR: OnceCell<Pair> = OnceCell::const_new();
    PAIR.get_or_init(new_pair).await
}

async fn new_pair() -> Pair {
    let primary = support::server().await;
    let standby = primary.replica().start().await.unwrap();
    Pair { primary, standby }
}

/// The database `cenote` of the first server, on these ports.
fn config(server: &PostgresServer, ports: &[u16], options: &str) -> Config {
    let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let own = format!("127.0.0.1:{}", server.port());
    let url = server.url().replace(&own, &hosts.join(","));
    let mut config = Config::from_url(&format!("{url}?{options}")).unwrap();
    lazy(&mut config);
    config.pool.max_lifetime = None;
    config.pool.idle_timeout = None;
    config
}

fn host(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_target_is_found_wherever_it_is_listed() {
    let pair = pair().await;
    let (primary, standby) = (pair.primary.port(), pair.standby.port());
    for (target, expected) in [
        ("read-write", Some(primary)),
        ("primary", Some(primary)),
        ("read-only", Some(standby)),
        ("standby", Some(standby)),
        ("prefer-standby", Some(standby)),
        ("any", None),
    ] {
        for ports in [[primary, standby], [standby, primary]] {
            let options = format!("target_session_attrs={target}");
            let pool = Pool::new(config(&pair.primary, &ports, &options)).unwrap();
            for _ in 0..2 {
                let connection = pool.get().await.unwrap();
                let expected = host(expected.unwrap_or(ports[0]));
                assert_eq!(connection.host(), expected, "{target} of {ports:?}");
                connection.discard();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preferred_standby_may_be_missing_and_a_required_one_may_not() {
    let pair = pair().await;
    let ports = [pair.primary.port()];
    let prefers = config(&pair.primary, &ports, "target_session_attrs=prefer-standby");
    let connection = first(&Pool::new(prefers).unwrap()).await.unwrap();
    assert_eq!(connection.host(), host(ports[0]));
    let mut requires = config(&pair.primary, &ports, "");
    requires.target_session = TargetSession::Standby;
    let error = first(&Pool::new(requires).unwrap()).await.unwrap_err();
    let expected = format!(
        "the role of {} does not match target_session_attrs=standby",
        host(ports[0])
    );
    assert_eq!(error, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn balanced_load_reaches_every_host() {
    let pair = pair().await;
    let ports = [pair.primary.port(), pair.standby.port()];
    let pool = Pool::new(config(&pair.primary, &ports, "load_balance_hosts=random")).unwrap();
    let mut seen = HashSet::new();
    until("both hosts", async || {
        let connection = pool.get().await.unwrap();
        seen.insert(connection.host().to_owned());
        connection.discard();
        seen.len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_swallows_connects_delays_one_of_them_not_all() {
    let pair = pair().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            counter.fetch_add(1, Relaxed);
            held.push(stream);
        }
    });
    let mut config = config(&pair.primary, &[port, pair.primary.port()], "sslmode=disable");
    config.pool.connect_timeout = Duration::from_secs(4);
    let pool = Pool::new(config).unwrap();
    let started = Instant::now();
    for _ in 0..30 {
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.host(), host(pair.primary.port()));
        connection.discard();
    }
    // The host rests for 1, 2, 4 … s between tries, and each try takes its half of the connect timeout.
    let tries = tries.load(Relaxed);
    let most = 2 + (started.elapsed().as_secs_f64() / 2.0) as usize;
    assert!(
        (1..=most.min(6)).contains(&tries),
        "{tries} of 30 in {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_promotion_writes_go_to_the_new_primary() {
    let Pair { primary, standby } = new_pair().await;
    let ports = [primary.port(), standby.port()];
    let pool = Pool::new(config(&primary, &ports, "target_session_attrs=read-write")).unwrap();
    let write = async || {
        let connection = pool.get().await?;
        connection.batch_execute("CREATE TABLE IF NOT EXISTS t (i int)").await?;
        Ok::<_, Error>(connection.host().to_owned())
    };
    assert_eq!(write().await.unwrap(), host(primary.port()));
    primary.kill().await.unwrap();
    let failed = timeout(Duration::from_millis(500), write()).await;
    assert!(!matches!(failed, Ok(Ok(_))), "{failed:?}");
    standby.promote().await.unwrap();
    until(
        "a write on the new primary",
        async || matches!(write().await, Ok(host) if host.ends_with(&standby.port().to_string())),
    )
    .await;
}

/// Makes a server refuse writes, or accept them again, as a fence does.
async fn fence(server: &PostgresServer, is_fenced: bool) {
    let pool = Pool::new(config(server, &[server.port()], "")).unwrap();
    let connection = pool.get().await.unwrap();
    let value = if is_fenced { "on" } else { "off" };
    let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    for statement in [&*sql, "SELECT pg_reload_conf()"] {
        connection.batch_execute(statement).await.unwrap();
    }
    until("the setting holds", async || {
        let row = connection.query_one("SHOW default_transaction_read_only", &[]).await;
        row.unwrap().get::<_, &str>(0) == value
    })
    .await;
}

/// Inserts until it is refused: each session notices the fence in its own time.
async fn is_refused(pool: &Pool) {
    let mut refused = None;
    until("a refusal", async || {
        refused = insert(pool).await.err();
        refused.is_some()
    })
    .await;
    let code = refused.as_ref().and_then(Error::code);
    assert_eq!(code.unwrap().code(), "25006");
}

async fn insert(pool: &Pool) -> Result<u32, Error> {
    let connection = pool.get().await?;
    connection.execute("INSERT INTO t VALUES (1)", &[]).await?;
    Ok(connection.process_id())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_error_replaces_all_connections_to_a_host_that_lost_its_role_once() {
    let (one, two) = tokio::join!(support::server(), support::server());
    // Both have the same password, so that the pool can move.
    let password = Config::from_url(&one.url()).unwrap().server;
    let password = String::from_utf8(password.get_password().unwrap().to_vec()).unwrap();
    for server in [&one, &two] {
        let pool = Pool::new(config(server, &[server.port()], "")).unwrap();
        let connection = pool.get().await.unwrap();
        let sql = format!("CREATE TABLE t (i int); ALTER ROLE cenote PASSWORD '{password}'");
        connection.batch_execute(&sql).await.unwrap();
    }
    let ports = [one.port(), two.port()];
    let moving = Pool::new(config(&one, &ports, "target_session_attrs=read-write")).unwrap();
    let fixed = Pool::new(config(&one, &ports[..1], "")).unwrap();
    for pool in [&moving, &fixed] {
        let both = (pool.get().await.unwrap(), pool.get().await.unwrap());
        assert_eq!(both.0.host(), both.1.host());
    }
    let before = insert(&fixed).await.unwrap();
    // This connection meets no error itself.
    let witness = moving.get().await.unwrap();

    fence(&one, true).await;
    for pool in [&moving, &fixed] {
        is_refused(pool).await;
    }
    until("a write on the other host", async || insert(&moving).await.is_ok()).await;
    drop(witness);
    until("both connections are closed", async || {
        moving.stats().pool.retired(Retired::Broken) == 2
    })
    .await;
    assert_eq!(moving.get().await.unwrap().host(), host(two.port()));

    // The pool of one host opens its connections again, once, because no other host takes writes.
    let row = "SELECT 1 WHERE pg_backend_pid() <> $1";
    let mut process = 0;
    until("new connections", async || {
        let connection = fixed.get().await.unwrap();
        process = connection.process_id();
        connection.query(row, &[&before.cast_signed()]).await.unwrap().len() == 1
    })
    .await;
    for _ in 0..3 {
        assert!(insert(&fixed).await.is_err());
    }
    let connects = fixed.stats().pool.connects;
    assert!(connects <= 5, "{connects} connects");
    fence(&one, false).await;
    until("a write", async || insert(&fixed).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_transaction_of_the_applications_own_costs_no_connection() {
    let pair = pair().await;
    for options in ["", "target_session_attrs=primary"] {
        let mut config = config(&pair.primary, &[pair.primary.port()], options);
        config.pool.max_size = 1;
        let pool = Pool::new(config).unwrap();
        let connection = pool.get().await.unwrap();
        let process = connection.process_id();
        connection.batch_execute("BEGIN READ ONLY").await.unwrap();
        let refused = connection.batch_execute("CREATE TABLE never (i int)").await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "25006");
        drop(connection);
        assert_eq!(pool.get().await.unwrap().process_id(), process);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_costs_one_connection() {
    let pair = pair().await;
    let pool = Pool::new(config(&pair.primary, &[pair.primary.port()], "")).unwrap();
    let (victim, witness) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let (ended, stays) = (victim.process_id().cast_signed(), witness.process_id());
    let sql = "SELECT pg_terminate_backend($1, 10000)";
    witness.query_one(sql, &[&ended]).await.unwrap();
    let lost = victim.query_one("SELECT 1", &[]).await;
    assert!(lost.is_err());
    drop((victim, witness));
    until("the ended session is noticed", async || pool.stats().pool.idle == 1).await;
    assert_eq!(pool.get().await.unwrap().process_id(), stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_whose_server_was_promoted_is_not_handed_out() {
    let Pair { primary, standby } = new_pair().await;
    let ports = [standby.port(), primary.port()];
    let mut config = config(&primary, &ports, "target_session_attrs=prefer-standby");
    config.pool.check_after = Some(Duration::ZERO);
    let pool = Pool::new(config).unwrap();
    let process = {
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.host(), host(standby.port()));
        connection.process_id()
    };
    // The check finds the same role.
    assert_eq!(pool.get().await.unwrap().process_id(), process);
    standby.promote().await.unwrap();
    assert_ne!(pool.get().await.unwrap().process_id(), process);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_name_moves_its_connections_move_and_a_failed_lookup_changes_nothing() {
    let pair = pair().await;
    let (old, new) = (pair.primary.port(), pair.standby.port());
    let current = Arc::new(AtomicU16::new(old));
    let lookups = Arc::new(AtomicUsize::new(0));
    let mut config = config(&pair.primary, &[old], "");
    let url = pair.primary.url().replace("127.0.0.1", "database.test");
    config.server = Config::from_url(&url).unwrap().server;
    config.lookup_interval = Some(Duration::from_millis(10));
    let (answer, counter) = (current.clone(), lookups.clone());
    config.resolver = Resolver::from_fn(move |name, _| {
        assert_eq!(name, "database.test");
        counter.fetch_add(1, Relaxed);
        let port = answer.load(Relaxed);
        async move {
            match port {
                0 => Err(std::io::ErrorKind::TimedOut.into()),
                port => Ok(vec![([127, 0, 0, 1], port).into()]),
            }
        }
    });
    let pool = Pool::new(config).unwrap();
    let on_standby = "SELECT pg_is_in_recovery()";
    let held = pool.get().await.unwrap();
    drop(pool.get().await.unwrap());

    current.store(0, Relaxed);
    let before = lookups.load(Relaxed);
    until("failed lookups", async || lookups.load(Relaxed) > before + 3).await;
    assert_eq!(pool.stats().pool.idle, 1);

    current.store(new, Relaxed);
    until("the idle connection is closed", async || pool.stats().pool.idle == 0).await;
    // A connection in use goes on until it is returned.
    assert!(!held.query_one(on_standby, &[]).await.unwrap().get::<_, bool>(0));
    drop(held);
    let moved = pool.get().await.unwrap();
    assert!(moved.query_one(on_standby, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(moved.host(), format!("database.test:{old}"));

    drop(moved);
    drop(pool);
    let mut before = lookups.load(Relaxed);
    until("the watch has ended", async || {
        // Nothing shows that no lookup comes but time, here that of five lookups.
        sleep(Duration::from_millis(50)).await;
        before == std::mem::replace(&mut before, lookups.load(Relaxed))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_host_is_left_by_all_its_connections_and_used_again_once_restored() {
    let pair = pair().await;
    let ports = [pair.primary.port(), pair.standby.port()];
    let pool = Pool::new(config(&pair.primary, &ports, "")).unwrap();
    let (idle, used) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!([idle.host(), used.host()], [host(ports[0]), host(ports[0])]);
    drop(idle);

    assert!(pool.drain_host(&host(ports[0])));
    assert!(!pool.drain_host("elsewhere:5432"));
    // A caller may go on with the connection that it has.
    used.execute("SELECT 1", &[]).await.unwrap();
    until("the idle connection is closed", async || {
        pool.stats().pool.retired(Retired::Broken) == 1
    })
    .await;
    assert_eq!(pool.get().await.unwrap().host(), host(ports[1]));
    drop(used);
    until("the used connection is closed too", async || {
        pool.stats().pool.retired(Retired::Broken) == 2
    })
    .await;

    assert!(pool.drain_host(&host(ports[1])));
    let error = first(&pool).await.unwrap_err();
    assert_eq!(error, "the connection failed: every host is drained");

    assert!(pool.restore_host(&host(ports[0])));
    assert_eq!(pool.get().await.unwrap().host(), host(ports[0]));
}

/// Errors that a server sends when it, or the network in front of it, is about to go away. Here a statement raises
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn each_error_that_tells_of_a_failover_has_all_connections_to_its_host_replaced() {
    let pair = pair().await;
    let ports = [pair.primary.port()];
    for (code, gives_up) in [
        ("57P02", true),
        ("57P03", true),
        ("08000", true),
        ("08003", true),
        ("08006", true),
        ("08P01", false),
        ("57P01", false),
        ("23505", false),
    ] {
        let pool = Pool::new(config(&pair.primary, &ports, "")).unwrap();
        let (idle, used) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        let processes = [idle.process_id(), used.process_id()];
        drop(idle);
        let raise = format!("DO $$ BEGIN RAISE 'raised by the test' USING ERRCODE = '{code}'; END $$");
        let error = used.batch_execute(&raise).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code);
        drop(used);
        if gives_up {
            until("both are closed", async || {
                pool.stats().pool.retired(Retired::Broken) == 2
            })
            .await;
        }
        let both = (pool.get().await.unwrap(), pool.get().await.unwrap());
        let kept = [both.0.process_id(), both.1.process_id()]
            .iter()
            .filter(|process| processes.contains(process))
            .count();
        assert_eq!(kept, if gives_up { 0 } else { 2 }, "{code}");
    }
}
