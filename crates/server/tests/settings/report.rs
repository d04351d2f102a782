//! What `cenote config` and `--help` print.

use cenote::settings;

use crate::world::env;

#[test]
fn the_report_has_every_setting_with_value_and_origin_and_no_secret() {
    let world = env(&[
        ("DATABASE_URL", "postgresql+asyncpg://user:hunter2@host/db"),
        ("DB_PASS", "hunter2"),
        ("REDIS_URL", "redis://:hunter2@cache:6379/1"),
    ]);
    let report = world.file(".env", "#\n#\nPORT=80\n").loaded().report;
    let text = report.text();
    let row = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find(|line| line.split(' ').next() == Some(name));
        let words: Vec<_> = line.unwrap().split_whitespace().collect();
        words.join(" ")
    };
    for expected in [
        "DATABASE_URL postgresql://user:***@host:5432/db environment DATABASE_URL",
        "DB_PASS *** environment DB_PASS",
        "REDIS_URL redis://:***@cache:6379/1 environment REDIS_URL",
        "PORT 80 .env line 3",
        "DB_POOL_RECYCLE 1800s default",
        "POOL_PROFILE - default",
    ] {
        let name = expected.split(' ').next().unwrap();
        assert_eq!(row(name), expected);
    }
    assert_eq!(text.lines().count(), report.rows().len());
    assert!(!text.contains("hunter2"), "{text}");

    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), report.rows().len());
    let find = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(find("PORT")["value"], "80");
    assert_eq!(find("PORT")["origin"], ".env line 3");
    assert!(find("POOL_PROFILE")["value"].is_null());
}

#[test]
fn the_columns_of_the_report_are_aligned_whatever_the_values_hold() {
    let text = env(&[("DB_NAME", "a b\"c'"), ("DB_USER", "ü")]).loaded().report.text();
    let column = |line: &str, origin: &str| line.chars().count() - origin.chars().count();
    let lines: Vec<_> = text.lines().collect();
    let default = lines.iter().find(|line| line.starts_with("PORT")).unwrap();
    let user = lines.iter().find(|line| line.starts_with("DB_USER")).unwrap();
    assert_eq!(column(default, "default"), column(user, "environment DB_USER"));
}

#[test]
fn the_help_lists_principal_flags_with_default_and_variables() {
    let mut command = clap::Command::new("serve").term_width(0).args(settings::args());
    command.clone().debug_assert();
    let help = command.render_long_help().to_string();
    assert!(help.contains("--db-pool-max-size <N>"), "{help}");
    let variables = "[env: DB_POOL_MAX_SIZE, POOL_MAX_SIZE, DB_POOL_MAX, DB_POOL_SIZE]";
    assert!(help.contains(variables), "{help}");
    assert!(!help.contains("--pool-max-size"), "{help}");
    assert!(!help.contains("--db-pass-file"), "{help}");
}
