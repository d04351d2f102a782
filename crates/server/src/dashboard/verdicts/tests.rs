use std::{path::Path, time::Duration};

use cenote_postgres::TOO_MANY_CONNECTIONS;

use super::{rules, *};

/// Alerts about what an instance cannot see of itself.
const ALERTS_ALONE: [&str; 3] = ["CenoteDown", "CenoteRestarts", "CenoteFleetTooLarge"];
/// Verdicts about what an operator does, or that would be no reason to be woken.
const VERDICTS_ALONE: [&str; 5] = [
    "starting",
    "max-connections",
    "paused",
    "api-keys-not-confirmed",
    "no-requests",
];

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A service that works, with room for ten connections.
fn working() -> Signs {
    Signs {
        pool: Pool {
            in_use: 3,
            size: 5,
            max: 10,
            timeout: Duration::from_secs(30),
            slow: Some(Duration::from_secs(1)),
            longest_use: Some(held(2)),
            ..Pool::default()
        },
        ..Signs::default()
    }
}

fn held(milliseconds: u64) -> Use {
    Use {
        lasts: millis(milliseconds),
        by: "src/combiner.rs:214".to_owned(),
    }
}

fn names(signs: &Signs) -> Vec<&'static str> {
    judge(signs).iter().map(|verdict| verdict.name).collect()
}

fn text_of(signs: &Signs, name: &str) -> String {
    let verdicts = judge(signs);
    let verdict = verdicts.iter().find(|verdict| verdict.name == name);
    verdict
        .unwrap_or_else(|| panic!("no {name} in {verdicts:?}"))
        .text
        .clone()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn a_service_that_works_is_healthy_in_one_line() {
    let verdicts = judge(&working());
    assert_eq!(names(&working()), ["healthy"]);
    assert_eq!(verdicts[0].level, Level::Ok);
    assert!(verdicts[0].text.starts_with("Healthy: "));
}

#[test]
fn a_service_that_nobody_has_used_says_what_to_do_first() {
    let mut signs = working();
    signs.is_unused = true;
    assert_eq!(names(&signs), ["no-requests"]);
    signs.is_starting = true;
    assert_eq!(names(&signs), ["starting"]);
}

#[test]
fn an_exhausted_pool_names_the_line_that_holds_a_connection_longest() {
    let mut signs = working();
    signs.pool.in_use = 10;
    signs.pool.waiting = 34;
    signs.pool.longest_wait = millis(1_234);
    signs.pool.longest_use = Some(held(4_120));
    signs.pool.slow = None;
    assert_eq!(names(&signs), ["pool-exhausted"]);
    assert_eq!(
        text_of(&signs, "pool-exhausted"),
        "All 10 connections are in use and 34 requests wait, the first for 1.2 s. Held longest: 4.1 s by \
         src/combiner.rs:214."
    );
    // A queue that drains, overflow that is left, nobody that waits.
    for change in [
        |pool: &mut Pool| pool.longest_wait = millis(200),
        |pool: &mut Pool| pool.overflow = 1,
        |pool: &mut Pool| pool.waiting = 0,
    ] {
        let mut signs = signs.clone();
        change(&mut signs.pool);
        assert_eq!(names(&signs), ["healthy"]);
    }
}

#[test]
fn a_wait_of_more_than_half_the_timeout_is_critical_and_comes_first() {
    let mut signs = working();
    (signs.pool.in_use, signs.pool.waiting) = (10, 1);
    signs.pool.longest_wait = Duration::from_secs(16);
    assert_eq!(names(&signs), ["oldest-waiter", "pool-exhausted"]);
    signs.pool.longest_wait = Duration::from_secs(15);
    assert_eq!(names(&signs), ["pool-exhausted"]);
}

#[test]
fn callers_that_wait_are_told_with_the_percentile_and_the_longest_use() {
    let mut signs = working();
    signs.last_minute.wait_p99 = millis(134);
    signs.pool.longest_use = Some(held(412));
    assert_eq!(
        text_of(&signs, "callers-wait"),
        "Callers wait: p99 130 ms. 3 of 10 connections are in use. Held longest: 410 ms by src/combiner.rs:214. The \
         database's CPU is not known."
    );
    signs.last_minute.wait_p99 = millis(100);
    assert_eq!(names(&signs), ["healthy"]);
}

#[test]
fn a_pause_explains_why_requests_wait_and_nothing_else_does() {
    let mut signs = working();
    signs.pool.is_paused = true;
    (signs.pool.in_use, signs.pool.waiting) = (10, 7);
    signs.pool.longest_wait = Duration::from_secs(20);
    assert_eq!(names(&signs), ["paused"]);
    assert!(text_of(&signs, "paused").ends_with("7 requests waiting."));
}

#[test]
fn a_leak_names_its_source_line() {
    let mut signs = working();
    signs.pool.leaked = 1;
    signs.pool.leak_after = Some(Duration::from_secs(60));
    signs.pool.slow = None;
    signs.pool.longest_use = Some(held(73_000));
    let text = text_of(&signs, "leak");
    assert!(
        text.contains("1 connection has been held for longer than DB_POOL_LEAK_AFTER, 60 s")
            && text.contains("73 s by src/combiner.rs:214"),
        "{text}"
    );
}

#[test]
fn a_slow_statement_is_told_while_it_runs_and_for_a_minute_after() {
    let mut signs = working();
    signs.pool.longest_use = Some(held(1_500));
    assert!(text_of(&signs, "slow-statements").contains("1.5 s by src/combiner.rs:214"));
    signs.pool.longest_use = None;
    signs.last_minute.slow_statements = 2;
    assert!(text_of(&signs, "slow-statements").starts_with("2 statements of the last minute"));
    signs.pool.slow = None;
    assert_eq!(names(&signs), ["healthy"]);
}

#[test]
fn a_lock_that_a_write_waits_for_is_told_and_one_that_is_soon_free_is_not() {
    let mut signs = working();
    signs.pool.longest_lock_wait = millis(3_100);
    assert!(text_of(&signs, "lock-wait").starts_with("A write has waited 3.1 s for a lock: "));
    signs.pool.longest_lock_wait = millis(200);
    assert_eq!(names(&signs), ["healthy"]);
}

#[test]
fn limits_that_refuse_many_requests_are_told_with_their_share() {
    let mut signs = working();
    (signs.five_minutes.requests, signs.five_minutes.refused_by_limits) = (1000, 120);
    assert!(
        text_of(&signs, "limits-refuse")
            .starts_with("Limits refused 12 % of the requests of the last five minutes (120 ")
    );
    signs.five_minutes.refused_by_limits = 50;
    assert_eq!(names(&signs), ["healthy"]);
    (signs.five_minutes.requests, signs.five_minutes.refused_by_limits) = (4, 4);
    assert_eq!(names(&signs), ["healthy"], "too few to tell a share");
}

#[test]
fn a_database_that_is_away_is_told_once() {
    let mut signs = working();
    signs.connect_problem = Some("connection refused");
    signs.pool.failures_in_a_row = 3;
    assert_eq!(names(&signs), ["connect-failures"]);
    signs.pool.is_breaker_open = true;
    assert_eq!(names(&signs), ["database-away"]);
    assert!(text_of(&signs, "database-away").contains("connection refused"));
}

#[test]
fn a_server_without_connections_left_is_told_apart_from_one_that_is_away() {
    let mut signs = working();
    signs.connect_problem = Some(TOO_MANY_CONNECTIONS);
    signs.pool.failures_in_a_row = 1;
    assert_eq!(names(&signs), ["max-connections"]);
    assert!(text_of(&signs, "max-connections").contains("DB_POOL_MAX_SIZE"));
}

#[test]
fn failed_requests_are_told_once_they_use_up_the_error_budget() {
    let mut signs = working();
    (signs.last_minute.requests, signs.last_minute.errors) = (1000, 14);
    assert_eq!(names(&signs), ["healthy"]);
    signs.last_minute.errors = 72;
    assert!(text_of(&signs, "errors").starts_with("7.2 % of the requests of the last minute failed (72 "));
    (signs.last_minute.requests, signs.last_minute.errors) = (4, 4);
    assert_eq!(names(&signs), ["healthy"], "too few to tell a share");
}

#[test]
fn each_part_that_does_not_work_is_told_with_its_own_words() {
    let working = working();
    let mut changed: Vec<(&str, Signs)> = Vec::new();
    let mut with = |name, change: fn(&mut Signs)| {
        let mut signs = working.clone();
        change(&mut signs);
        changed.push((name, signs));
    };
    with("acquire-timeouts", |signs| signs.last_minute.acquire_timeouts = 12);
    with("cache-not-used", |signs| {
        signs.cache_problem = Some("no Redis is in use".to_owned())
    });
    with("redis-down", |signs| {
        signs.redis_problem = Some("connection refused".to_owned())
    });
    with("change-feed-down", |signs| signs.is_feed_down = true);
    with("limits-not-shared", |signs| {
        signs.limits_problem = Some("Redis is away".to_owned())
    });
    with("token-keys-old", |signs| {
        signs.token_keys_problem = Some("no keys yet".to_owned())
    });
    with("api-keys-not-confirmed", |signs| {
        signs.api_keys_problem = Some("not for 7 s".to_owned())
    });
    with("guessed-credentials", |signs| signs.five_minutes.guesses = 101);
    with("overflow-in-use", |signs| {
        signs.pool.overflow_for = Some(Duration::from_secs(240))
    });
    let shortage = |is_critical| Shortage {
        is_critical,
        text: "90 % of 1 GiB is used".to_owned(),
    };
    changed.push((
        "memory-short",
        Signs {
            shortage: Some(shortage(false)),
            ..working.clone()
        },
    ));
    changed.push((
        "memory-critical",
        Signs {
            shortage: Some(shortage(true)),
            ..working.clone()
        },
    ));
    let certificate = |days: u64, has_failed_reload| {
        Some(Certificate {
            left: Duration::from_secs(days * 86_400 + 1),
            has_failed_reload,
        })
    };
    for (name, certificate) in [
        ("certificate-expires", certificate(13, false)),
        ("certificate-expires-soon", certificate(2, false)),
        ("certificate-not-loaded", certificate(80, true)),
        ("healthy", certificate(15, false)),
    ] {
        changed.push((
            name,
            Signs {
                certificate,
                ..working.clone()
            },
        ));
    }
    for (name, signs) in changed {
        assert_eq!(names(&signs), [name]);
    }
}

#[test]
fn the_gravest_verdict_comes_first() {
    let mut signs = working();
    signs.is_unused = true;
    signs.pool.leaked = 1;
    signs.pool.is_breaker_open = true;
    let levels: Vec<_> = judge(&signs).iter().map(|verdict| verdict.level).collect();
    assert_eq!(levels, [Level::Critical, Level::Warning, Level::Info]);
}

/// `CenoteCallersWait` is `callers-wait`.
fn verdict_name(alert: &str) -> String {
    let words = alert.trim_start_matches("Cenote").chars();
    let kebab = words.flat_map(|letter| match letter.is_uppercase() {
        true => vec!['-', letter.to_ascii_lowercase()],
        false => vec![letter],
    });
    kebab.skip(1).collect()
}

#[test]
fn verdicts_and_alerts_have_the_same_names_and_levels() {
    let alerts = std::fs::read_to_string(root().join("deploy/alerts.yml")).unwrap();
    let mut alerts: Vec<(&str, &str)> = alerts
        .split("- alert: ")
        .skip(1)
        .map(|alert| {
            let severity = alert.split("severity: ").nth(1).unwrap();
            (alert.lines().next().unwrap(), severity.split(' ').next().unwrap())
        })
        .collect();
    assert!(alerts.len() >= 20, "{alerts:?}");
    alerts.retain(|(name, _)| !ALERTS_ALONE.contains(name));
    for rule in rules::all().filter(|rule| !VERDICTS_ALONE.contains(&rule.name)) {
        let alert = alerts.iter().position(|(name, _)| verdict_name(name) == rule.name);
        let alert = alert.unwrap_or_else(|| panic!("deploy/alerts.yml has no alert {}", rule.name));
        let (name, severity) = alerts.swap_remove(alert);
        assert_eq!(serde_json::to_value(rule.level).unwrap(), severity, "{name}");
    }
    assert!(alerts.is_empty(), "no verdict for {alerts:?}");
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_verdict_leads_to_a_part_of_the_documentation() {
    let healthy = judge(&working()).remove(0).doc;
    for doc in rules::all().map(|rule| rule.doc).chain([healthy]) {
        let (file, part) = doc.split_once('#').unwrap_or((doc, ""));
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{doc}: {error}"));
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
        assert!(part.is_empty() || anchors.any(|anchor| anchor == part), "{doc}");
    }
}
