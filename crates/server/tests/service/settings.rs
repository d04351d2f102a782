//! Right and wrong settings of the program.

use std::net::TcpListener;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::spans::SPANS;
use crate::support::{AT_ONCE, Database, Ended, Launch, SOON, Service, eventually, redis};

const SECRET: &str = "correct-horse-battery";

/// Starts the service with wrong settings and checks that it ends at once, with one line that has all these words.
async fn is_refused(settings: &[(&str, &str)], words: &[&str]) {
    let ended = Launch::new(&["serve"])
        .env("PORT", "0")
        // No data can be stored there, so a start that should have been refused leaves nothing behind.
        .env("DATA_DIR", "/dev/null/none")
        .envs(settings)
        .run()
        .await;
    assert!(!matches!(ended.code, None | Some(0)), "{settings:?}: {ended:?}");
    assert!(ended.took < AT_ONCE, "{settings:?}: {ended:?}");
    assert_eq!(ended.output, "");
    let lines: Vec<_> = ended.log.lines().collect();
    assert_eq!(lines.len(), 1, "{settings:?}: {ended:?}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} for {settings:?}: {ended:?}");
    }
    assert!(!ended.log.contains(SECRET), "{ended:?}");
}

#[tokio::test]
async fn a_malformed_value_stops_the_start_and_is_named() {
    let malformed = [
        ("PORT", "eighty"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("HOST", "not a host"),
        ("DB_POOL_MIN_SIZE", "-1"),
        ("DB_POOL_MIN", "two"),
        ("POOL_MAX_SIZE", "0"),
        ("DB_POOL_SIZE", "1e3"),
        ("DB_POOL_MAX_OVERFLOW", "many"),
        ("DB_POOL_TIMEOUT", "-5"),
        ("DB_POOL_TIMEOUT", "soon"),
        ("DB_POOL_MAX_WAITERS", "∞"),
        ("DB_POOL_RECYCLE", "1 fortnight"),
        ("COMMAND_TIMEOUT", "0"),
        ("COMMAND_TIMEOUT", "NaN"),
        ("DB_ECHO", "perhaps"),
        ("DB_RETRY_ATTEMPTS", "0"),
        ("DB_RETRY_DELAY", "inf"),
        ("CACHE_TTL", "0"),
        ("CACHE_MODE", "telepathic"),
        ("POOL_PROFILE", "huge"),
        ("LOG_FORMAT", "xml"),
        ("REDIS_URL", "http://cache"),
        ("DATABASE_URL", "mysql://u@h/d"),
        ("DATABASE_URL", "postgresql://u:correct-horse-battery@h:x/d"),
        ("DATABASE_URL", "postgresql://u:correct-horse-battery@h/d?sslmode=maybe"),
        ("DB_PORT", "5432x"),
        ("DB_PASSWORD_FILE", "nowhere"),
        ("CENOTE_CONFIG", "nowhere.toml"),
        ("INSTANCES", "0"),
    ];
    stream::iter(malformed)
        .for_each_concurrent(AT_THE_SAME_TIME, async |(name, value)| {
            is_refused(&[(name, value)], &[name]).await;
        })
        .await;
}

#[tokio::test]
async fn settings_that_contradict_each_other_stop_the_start_and_are_both_named() {
    for (settings, words) in [
        (
            &[("POOL_MAX_SIZE", "5"), ("DB_POOL_SIZE", "6")][..],
            ["POOL_MAX_SIZE", "DB_POOL_SIZE"],
        ),
        (
            &[("DB_POOL_MIN", "5"), ("POOL_MIN_SIZE", "6")],
            ["DB_POOL_MIN", "POOL_MIN_SIZE"],
        ),
        (
            &[("DB_POOL_MIN", "9"), ("DB_POOL_MAX", "8")],
            ["DB_POOL_MIN", "DB_POOL_MAX"],
        ),
        (
            &[("DB_HOST", "h"), ("DB_PASS", SECRET), ("DB_PASSWORD", "x")],
            ["DB_PASS", "DB_PASSWORD"],
        ),
        (&[("CACHE_MODE", "strong")], ["CACHE_MODE", "REDIS_URL"]),
    ] {
        is_refused(settings, &words).await;
    }
}

#[tokio::test]
async fn a_flag_that_does_not_exist_stops_the_start() {
    let ended = Launch::new(&["serve", "--pool-sise=3"]).run().await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("--pool-sise"), "{ended:?}");
}

#[tokio::test]
async fn a_port_in_use_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let settings = [("PORT", port.as_str())];
    is_refused(&settings, &["PORT", &port, "in use"]).await;
}

/// Runs a command that cannot use its database, until it ends.
async fn ends(command: &str, url: &str) -> Ended {
    let launch = Launch::new(&[command]).env("PORT", "0").env("DATABASE_URL", url);
    let ended = launch.run().await;
    assert!(!matches!(ended.code, None | Some(0)), "{ended:?}");
    assert!(ended.took < AT_ONCE, "{ended:?}");
    ended
}

/// Waiting would not help, so the program does not wait for the pool's timeout.
#[tokio::test]
async fn a_wrong_password_or_a_missing_database_ends_the_program_with_the_reason() {
    let database = Database::create().await;
    let [_, _, _, password] = database.parts();
    let wrong = database.url.replace(password, SECRET);
    let missing = database.url.replace(&database.name, "nowhere");
    for command in ["serve", "migrate"] {
        let ended = ends(command, &wrong).await;
        assert!(ended.reason().contains("password authentication failed"), "{ended:?}");
        assert!(!ended.log.contains(SECRET), "{ended:?}");
        let ended = ends(command, &missing).await;
        assert!(ended.reason().contains("\"nowhere\" does not exist"), "{ended:?}");
        assert!(!ended.log.contains(password), "{ended:?}");
    }
    for (url, reason) in [(wrong, "password authentication failed"), (missing, "does not exist")] {
        let ended = ends("check", &url).await;
        assert!(ended.output.starts_with("FAIL  connect: "), "{ended:?}");
        assert!(ended.output.contains(reason), "{ended:?}");
        assert!(!(ended.output + &ended.log).contains(SECRET));
    }
}

#[tokio::test]
async fn the_log_says_how_the_pool_is_configured() {
    let database = Database::create().await;
    for (settings, expected) in [
        (&[][..], (2, 10, 0, 30.0)),
        (&[("POOL_PROFILE", "low")], (2, 5, 0, 30.0)),
        (&[("POOL_PROFILE", "medium")], (5, 20, 0, 30.0)),
        (&[("POOL_PROFILE", "high"), ("POOL_MIN_SIZE", "1")], (1, 50, 0, 30.0)),
        (
            &[
                ("DB_POOL_MIN_SIZE", "3"),
                ("DB_POOL_SIZE", "4"),
                ("DB_POOL_MAX_OVERFLOW", "5"),
                ("DB_POOL_TIMEOUT", "2.5"),
            ],
            (3, 4, 5, 2.5),
        ),
    ] {
        let service = Service::launch_with(&database, settings).await;
        let made = service.logged("pool initialized").await;
        let (min, max, overflow, timeout) = expected;
        assert_eq!(made["min"], min, "{settings:?}");
        assert_eq!(made["max"], max, "{settings:?}");
        assert_eq!(made["overflow"], overflow, "{settings:?}");
        assert_eq!(made["timeout"], timeout, "{settings:?}");
        assert_eq!(service.log().matches("pool initialized").count(), 1);
    }
}

#[tokio::test]
async fn more_connections_than_the_server_has_are_warned_of() {
    let database = Database::create().await;
    let few = [
        ("INSTANCES", "19"),
        ("DB_POOL_MAX", "10"),
        ("DB_POOL_MAX_OVERFLOW", "5"),
    ];
    let service = Service::start_with(&database, &few).await;
    service.logged("ready").await;
    assert!(!service.log().contains("max_connections"), "{}", service.log());
    drop(service);
    let many = [
        ("INSTANCES", "20"),
        ("DB_POOL_MAX", "10"),
        ("DB_POOL_MAX_OVERFLOW", "5"),
    ];
    let service = Service::start_with(&database, &many).await;
    let warning = service.logged("INSTANCES").await;
    assert_eq!(warning["level"], "WARN");
    assert_eq!(warning["wanted"], 300);
    assert_eq!(warning["available"], 297);
    assert!(warning["message"].as_str().unwrap().contains("max_connections"));
}

#[tokio::test]
async fn the_database_may_be_given_in_parts_and_its_password_in_a_file() {
    let database = Database::create().await;
    let [host, port, user, password] = database.parts();
    let parts = [
        ("DB_HOST", host),
        ("DB_PORT", port),
        ("DB_USER", user),
        ("DB_NAME", &database.name),
        ("PORT", "0"),
    ];
    let file = Launch::new(&["serve"])
        .envs(&parts)
        .env("DB_PASSWORD_FILE", "secret")
        .file("secret", &format!("{password}\n"));
    let direct = Launch::new(&["serve"]).envs(&parts).env("DB_PASS", password);
    let alias = Launch::new(&["serve"]).envs(&parts).env("DB_PASSWORD", password);
    for launch in [file, direct, alias] {
        let service = Service::over(launch.spawn(), &database).await;
        service.is_ready().await;
        service.write("key", "value").await;
        assert!(!service.log().contains(password));
    }
    assert!(database.session().await.number("SELECT version FROM kv").await == 3);
}

#[tokio::test]
async fn a_dotenv_file_and_a_toml_file_are_enough() {
    let database = Database::create().await;
    let [host, port, user, password] = database.parts();
    let dotenv = format!(
        "# the database\nexport DB_HOST={host}\nDB_PORT=\"{port}\"\nDB_USER={user}\nDB_PASS='{password}'\n\
         DB_NAME={}\nPORT=0\n",
        database.name
    );
    let toml = format!("port = 0\ndatabase_url = \"{}\"\ndb_pool_max_size = 3\n", database.url);
    for launch in [
        Launch::new(&["serve"]).file(".env", &dotenv),
        Launch::new(&["serve"]).file("cenote.toml", &toml),
        Launch::new(&["serve", "--config=my.toml"]).file("my.toml", &toml),
    ] {
        let service = Service::over(launch.spawn(), &database).await;
        service.is_ready().await;
        service.write("key", "value").await;
    }
}

/// The value and the origin that `cenote config` shows of a setting.
fn row<'a>(rows: &'a Value, name: &str) -> (&'a str, &'a str) {
    let rows = rows.as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name).unwrap();
    (row["value"].as_str().unwrap_or("-"), row["origin"].as_str().unwrap())
}

#[tokio::test]
async fn config_shows_what_is_in_force_and_where_it_comes_from() {
    let launch = |form: &[&str]| {
        Launch::new(&[&["config", "--pool-max-size=9"], form].concat())
            .env("DB_POOL_MIN", "1")
            .env("DB_POOL_SIZE", "9")
            .file(".env", "DB_POOL_MIN=4\nDB_POOL_TIMEOUT=7\nDB_ECHO=yes\n")
            .file("cenote.toml", "db_pool_timeout = 8\ncommand_timeout = 6\n")
    };
    let ended = launch(&["--json"]).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let rows: Value = serde_json::from_str(&ended.output).unwrap();
    for (name, value, origin) in [
        ("DB_POOL_MAX_SIZE", "9", "command line"),
        ("DB_POOL_MIN_SIZE", "1", "DB_POOL_MIN"),
        ("DB_POOL_TIMEOUT", "7s", ".env"),
        ("DB_ECHO", "true", ".env"),
        ("COMMAND_TIMEOUT", "6s", "cenote.toml"),
        ("DB_POOL_RECYCLE", "1800s", "default"),
    ] {
        let (shown, from) = row(&rows, name);
        assert_eq!(shown, value, "{name}");
        assert!(from.contains(origin), "{name} from {from}");
    }
    let ended = launch(&[]).run().await;
    let line = ended.output.lines().find(|line| line.starts_with("COMMAND_TIMEOUT"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[..2], ["COMMAND_TIMEOUT", "6s"]);
}

#[tokio::test]
async fn config_redacts_every_secret() {
    let url = format!("postgresql://ada:{SECRET}@db.example.org:6432/data");
    let redis = format!("redis://ada:{SECRET}@cache.example.org/1");
    for form in [&["config"][..], &["config", "--json"]] {
        for launch in [
            Launch::new(form).env("DATABASE_URL", &url).env("REDIS_URL", &redis),
            Launch::new(form).file(".env", &format!("DATABASE_URL={url}\nREDIS_URL={redis}\n")),
            Launch::new(form)
                .env("DB_HOST", "db.example.org")
                .env("DB_PASS", SECRET),
            Launch::new(form)
                .env("DB_HOST", "db.example.org")
                .env("DB_PASSWORD_FILE", "secret")
                .file("secret", SECRET),
        ] {
            let ended = launch.run().await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert!(ended.output.contains("***"), "{ended:?}");
            assert!(ended.output.contains("db.example.org"), "{ended:?}");
            assert!(!(ended.output + &ended.log).contains(SECRET));
        }
    }
}

#[tokio::test]
async fn a_name_that_looks_like_a_misspelt_setting_is_warned_of() {
    let ended = Launch::new(&["config"]).env("DB_POOL_TIMOUT", "3").run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.log.contains("DB_POOL_TIMOUT"), "{ended:?}");
    assert!(ended.log.contains("DB_POOL_TIMEOUT"), "{ended:?}");
}

#[tokio::test]
async fn statements_are_logged_when_asked_for_and_without_their_values() {
    let service = Service::start(&[("DB_ECHO", "true")]).await;
    service.write("key-in-the-open", "value-in-the-open").await;
    crate::support::eventually("the statement is logged", async || {
        service.log().contains("INSERT INTO \\\"public\\\".kv").then_some(())
    })
    .await;
    assert!(!service.log().contains("in-the-open"), "{}", service.log());
}

#[tokio::test]
async fn the_longest_and_the_shortest_spans_of_time_work() {
    let redis = redis().await;
    let url = redis.url();
    for mode in ["local", "strong", "bounded"] {
        // A delay of ten years would hold up the stop below.
        let longest = SPANS.iter().filter(|name| **name != "SHUTDOWN_DELAY");
        let longest: Vec<_> = longest.map(|name| (*name, "87600h")).collect();
        let cache = [("REDIS_URL", &*url), ("CACHE_MODE", mode), ("SHUTDOWN_DELAY", "0")];
        let service = Service::start(&[longest, cache.to_vec()].concat()).await;
        service.uses_its_cache().await;
        let version = service.write("key", "value").await;
        assert_eq!(service.read("key").await.json(200)["version"], version);
        let ended = service.stop(SOON).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.log.contains("panic"), "{ended:?}");
    }
    // Those for which 0 means "off" or "at once".
    let none = [
        "DB_POOL_RECYCLE",
        "DB_POOL_IDLE_TIMEOUT",
        "DB_SLOW_QUERY",
        "DB_RETRY_DELAY",
        "SHUTDOWN_DELAY",
        "SHUTDOWN_TIMEOUT",
    ];
    let service = Service::start(&none.map(|name| (name, "0"))).await;
    service.write("key", "value").await;
    let ended = service.stop(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.log.contains("panic"), "{ended:?}");
}

/// Numbers and times at their smallest and largest. Times are as small as a start can cope with.
const EXTREMES: [(&str, &[&str]); 27] = [
    ("DB_POOL_MIN_SIZE", &["0", "10"]),
    ("DB_POOL_MAX_SIZE", &["1", "1000"]),
    ("DB_POOL_MAX_OVERFLOW", &["0", "1000"]),
    ("DB_POOL_TIMEOUT", &["0.2", "315000000"]),
    ("DB_POOL_MAX_WAITERS", &["0", "10000000"]),
    ("DB_QUEUE_MAX_BYTES", &["1", "1099511627776"]),
    ("DB_QUEUE_MAX_WAIT", &["0.001", "315000000"]),
    ("DB_POOL_RECYCLE", &["0.001", "0", "315000000"]),
    ("DB_POOL_IDLE_TIMEOUT", &["0.001", "0", "315000000"]),
    ("DB_CONNECT_TIMEOUT", &["2", "315000000"]),
    ("COMMAND_TIMEOUT", &["2", "315000000"]),
    ("DB_STATEMENT_CACHE", &["0", "1000000"]),
    ("DB_SLOW_QUERY", &["0.001", "0", "315000000"]),
    ("DB_RETRY_ATTEMPTS", &["1", "100"]),
    ("DB_RETRY_DELAY", &["0", "315000000"]),
    ("CACHE_TTL", &["0.001", "315000000"]),
    ("CACHE_NEAR_BYTES", &["65536", "1099511627776"]),
    ("HTTP_CORES", &["1", "8"]),
    ("HTTP_MAX_CONNECTIONS", &["1", "10000000"]),
    ("HTTP_HEADER_TIMEOUT", &["1", "315000000"]),
    ("HTTP_BODY_TIMEOUT", &["1", "315000000"]),
    ("HTTP_IDLE_TIMEOUT", &["1", "315000000"]),
    ("HTTP_MAX_BODY", &["1", "1073741824"]),
    ("SHUTDOWN_DELAY", &["0", "1"]),
    ("SHUTDOWN_TIMEOUT", &["0", "315000000"]),
    ("INSTANCES", &["1", "100000"]),
    ("POOL_PROFILE", &["low", "very-high"]),
];

/// How many programs a test starts at the same time: most of a start is waiting.
const AT_THE_SAME_TIME: usize = 4;

#[tokio::test]
async fn each_setting_alone_at_its_smallest_and_largest_starts_a_service_that_answers() {
    let database = Database::create().await;
    let starts = EXTREMES
        .into_iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, *value)));
    stream::iter(starts)
        .for_each_concurrent(AT_THE_SAME_TIME, async |(name, value)| {
            let service = Service::start_with(&database, &[(name, value)]).await;
            // Where one connection is allowed, the service may not have noticed the end of the one before.
            let answer = eventually("an answer", async || {
                let answer = service.get("/read/nothing").await;
                let is_full = name == "HTTP_MAX_CONNECTIONS" && answer.status == 503;
                (!is_full).then_some(answer)
            })
            .await;
            assert_eq!(answer.status, 404, "{name}={value}");
            let ended = service.stop(SOON).await;
            assert_eq!(ended.code, Some(0), "{name}={value}: {ended:?}");
        })
        .await;
}

#[tokio::test]
async fn an_explicit_size_of_the_pool_wins_over_the_rest_of_its_profile() {
    let database = Database::create().await;
    for profile in ["low", "high", "very-high"] {
        let settings = [("POOL_PROFILE", profile), ("DB_POOL_MAX_SIZE", "1")];
        let service = Service::start_with(&database, &settings).await;
        let stats = service.get("/pool-stats").await;
        assert!(stats.text().contains("\"max\":1"), "{}", stats.text());
        service.stop(SOON).await;
    }
}
