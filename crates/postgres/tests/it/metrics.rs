//! What a registry gets of statements and queues.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cenote_metrics::{Metrics, Value};
use cenote_postgres::{Loader, NamedQueues, Pool, SlowStatementHook};
use futures_util::future::join_all;

use crate::support::database;

/// The value of a number, or the count of a histogram. `None` if it is not offered.
fn value(metrics: &impl Metrics, name: &str, label: &[&str]) -> Option<f64> {
    let mut found = None;
    metrics.visit(&mut |sample| {
        if (sample.metric.name, sample.labels) == (name, label) {
            found = Some(match sample.value {
                Value::Number(value) => value,
                Value::Histogram(buckets) => buckets.count as f64,
            });
        }
    });
    found
}

#[tokio::test]
async fn statements_are_counted_by_how_they_end_and_how_long_they_take() {
    let database = database().await;
    let mut config = database.config(2);
    config.command_timeout = Some(Duration::from_millis(200));
    config.slow_query = Some(Duration::from_millis(150));
    config.statement_names = &["unused", "nap"];
    config.pool.time_uses = true;
    let pool = Pool::new(config).unwrap();
    {
        let connection = pool.get().await.unwrap();
        connection.query("SELECT 1", &[]).await.unwrap();
        connection.query("SELECT * FROM nowhere", &[]).await.unwrap_err();
        connection
            .query("/* nap */ SELECT pg_sleep(20)", &[])
            .await
            .unwrap_err();
    }
    let stats = pool.stats();
    for (name, label, expected) in [
        ("cenote_statements_total", &[][..], Some(3.0)),
        ("cenote_statement_duration_seconds", &["nap"], Some(1.0)),
        ("cenote_statement_duration_seconds", &["other"], Some(2.0)),
        ("cenote_statement_duration_seconds", &["unused"], None),
        ("cenote_statement_errors_total", &["other", "42"], Some(1.0)),
        ("cenote_statement_errors_total", &["nap", "none"], Some(1.0)),
        ("cenote_statement_errors_total", &["other", "40"], None),
        ("cenote_statement_timeouts_total", &[], Some(1.0)),
        ("cenote_statements_slow_total", &[], Some(1.0)),
    ] {
        assert_eq!(value(&stats, name, label), expected, "{name} {label:?}");
    }
    assert_eq!(stats.errors, 2);
    assert_eq!(value(&stats.pool, "cenote_pool_use_seconds", &[]), Some(1.0));
    assert!(stats.pool.use_times.sum() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_slow_statement_is_told_with_its_name_its_times_and_its_holder() {
    let database = database().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut config = database.config(1);
    config.slow_query = Some(Duration::from_millis(50));
    let hook = told.clone();
    config.on_slow_statement = Some(SlowStatementHook::new(move |it| {
        let holder = it.holder.unwrap().file().to_owned();
        let name = it.name().map(str::to_owned);
        hook.lock()
            .unwrap()
            .push((name, it.rows, it.waited, it.executed, it.error.is_some(), holder));
    }));
    let pool = Pool::new(config).unwrap();
    let (held, napping) = (
        Duration::from_millis(100),
        "/* nap */ SELECT pg_sleep($1) FROM generate_series(1, 3)",
    );
    let first = pool.get().await.unwrap();
    let waiting = async {
        let connection = pool.get().await.unwrap();
        connection.query(napping, &[&0.02]).await.unwrap();
        connection
            .query("SELECT 1 / length(pg_sleep(0.06)::text)", &[])
            .await
            .unwrap_err();
        connection.query("SELECT 1", &[]).await.unwrap();
    };
    let releasing = async {
        tokio::time::sleep(held).await;
        drop(first);
    };
    tokio::join!(waiting, releasing);
    let told = told.lock().unwrap();
    let (name, rows, waited, executed, has_failed, holder) = &told[0];
    assert_eq!((name.as_deref(), *rows, *has_failed), (Some("nap"), Some(3), false));
    assert!(*waited >= held - Duration::from_millis(10), "{waited:?}");
    assert!(*executed >= Duration::from_millis(60), "{executed:?}");
    assert!(holder.ends_with("metrics.rs"), "{holder}");
    let (name, rows, .., has_failed, _) = &told[1];
    assert_eq!((name.as_deref(), *rows, *has_failed), (None, None, true));
    assert_eq!(told.len(), 2, "the quick one is not told");
}

#[tokio::test]
async fn a_batch_is_counted_with_its_size_under_the_name_of_its_queue() {
    let database = database().await;
    let pool = database.pool(1);
    let squares = "SELECT position, key * key FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (key, position)";
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), squares, |row| Ok(row.try_get(1)?));
    let alone = pool.get().await.unwrap();
    let waiting = join_all((0..3).map(|key| loader.load(key)));
    let release = async {
        while loader.stats().waiting < 3 {
            tokio::task::yield_now().await;
        }
        drop(alone);
    };
    let (loaded, ()) = tokio::join!(waiting, release);
    assert!(loaded.into_iter().all(|found| found.is_ok()));
    let queues = NamedQueues(vec![("numbers", loader.stats())]);
    let mut sizes = None;
    queues.visit(&mut |sample| {
        if let ("cenote_batch_size", Value::Histogram(buckets)) = (sample.metric.name, sample.value) {
            assert_eq!(sample.labels, ["numbers"]);
            sizes = Some(buckets.clone());
        }
    });
    let sizes = sizes.unwrap();
    assert_eq!((sizes.count, sizes.sum), (1, 3.0));
    assert_eq!(sizes.cumulative[..4], [(1.0, 0), (2.0, 0), (4.0, 1), (8.0, 1)]);
}
