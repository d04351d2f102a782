//! The sources of settings, and which of them wins.

use std::fs;

use cenote::settings;

use crate::world::{World, env, millis, secs};

#[test]
fn a_conflict_is_found_in_every_source_and_names_what_was_written() {
    let errors = World::new().arg("--db-pool-size=7").arg("--pool-max-size=8").errors();
    assert!(errors.contains("--pool-max-size from the command line"), "{errors}");
    assert!(errors.contains("--db-pool-size from the command line"), "{errors}");
    assert_eq!(
        World::new().file(".env", "DB_POOL_MAX=7\nDB_POOL_MAX=8\n").errors(),
        "DB_POOL_MAX from .env line 1: \"7\" differs from \"8\" in DB_POOL_MAX from .env line 2; \
         they name one setting"
    );
    let errors = World::new()
        .file("cenote.toml", "db_pool_max = 7\npool_max_size = 8\n")
        .errors();
    assert!(errors.contains("db_pool_max from cenote.toml line 1"), "{errors}");
    assert!(errors.contains("pool_max_size from cenote.toml line 2"), "{errors}");
}

#[test]
fn the_higher_source_wins_and_says_so() {
    let toml = || World::new().file("cenote.toml", "port = 4\n");
    let dotenv = || toml().file(".env", "PORT=3\n");
    let environment = || dotenv().env("PORT", "2");
    for (world, port, origin) in [
        (World::new(), 8000, "default"),
        (toml(), 4, "cenote.toml line 1"),
        (dotenv(), 3, ".env line 1"),
        (environment(), 2, "environment PORT"),
        (environment().arg("--port=1"), 1, "command line"),
    ] {
        assert_eq!(world.settings().port, port);
        assert_eq!(world.origin("PORT"), origin);
    }
}

#[test]
fn an_alias_in_a_higher_source_beats_the_principal_name_below() {
    let world = env(&[("DB_POOL_SIZE", "7")]).file(".env", "DB_POOL_MAX_SIZE=8\nDB_POOL_MAX=9\n");
    assert_eq!(world.settings().postgres.pool.max_size, 7);
    assert_eq!(world.origin("DB_POOL_MAX_SIZE"), "environment DB_POOL_SIZE");
}

#[test]
fn what_a_higher_source_overrides_is_not_looked_at() {
    let world = env(&[("PORT", "tcp://10.0.0.1:1"), ("DB_PASS_FILE", "/none")]);
    let world = world.arg("--port=5").arg("--db-pass=x").arg("--db-host=h");
    assert_eq!(world.settings().port, 5);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let world = env(&[("PORT", ""), ("DB_HOST", ""), ("DB_PASS_FILE", "")]);
    let world = world.file(".env", "PORT=3\nHOST=\n");
    let it = world.settings();
    assert_eq!((it.host.as_str(), it.port), ("127.0.0.1", 3));
    assert!(!it.names_database());
    // In the other sources an empty value is not written by accident, so it is an error.
    let errors = World::new().arg("--log-format=").errors();
    assert!(errors.contains("--log-format"), "{errors}");
    let errors = World::new().file("cenote.toml", "db_host = ''").errors();
    assert!(errors.contains("db_host"), "{errors}");
}

#[test]
fn a_toml_file_is_named_by_flag_environment_or_dotenv() {
    let file = || {
        World::new()
            .file("other.toml", "port = 1234")
            .file("cenote.toml", "port = 1")
    };
    for world in [
        file().arg("--config=other.toml"),
        file().env("CENOTE_CONFIG", "other.toml"),
        file().file(".env", "CENOTE_CONFIG=other.toml"),
    ] {
        assert_eq!(world.settings().port, 1234);
        assert_eq!(world.origin("PORT"), "other.toml line 1");
    }
    let errors = World::new().arg("--config=none.toml").errors();
    let expected = "--config from the command line: cannot read \"none.toml\": ";
    assert!(errors.starts_with(expected), "{errors}");
    let errors = World::new().file("cenote.toml", "cenote_config = 'x'").errors();
    assert!(errors.contains("cannot be set in the file it names"), "{errors}");
}

#[test]
fn toml_values_may_be_numbers_booleans_and_texts() {
    let text = "port = 9_000\ndb_echo = true\ndb_pool_timeout = 0.25\ncache_ttl = '5s'\nhttp_max_body = 0x100\n";
    let it = World::new().file("cenote.toml", text).settings();
    assert_eq!(it.port, 9000);
    assert!(it.postgres.echo);
    assert_eq!(it.postgres.pool.acquire_timeout, millis(250));
    assert_eq!(it.cache.ttl, secs(5));
    assert_eq!(it.http.max_body, 256);
}

#[test]
fn an_unknown_toml_key_is_an_error_with_a_suggestion() {
    let text = "db_pool_maxsize = 5\nPORT = 1\nwhatever = 1\n[pool]\nmin = 1\n";
    let errors = World::new().file("cenote.toml", text).errors();
    let mut lines: Vec<_> = errors.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "PORT from cenote.toml line 2: is not a setting; did you mean port?",
            "db_pool_maxsize from cenote.toml line 1: is not a setting; did you mean db_pool_max_size?",
            "pool from cenote.toml line 4: is not a setting; settings are not grouped in tables",
            "whatever from cenote.toml line 3: is not a setting",
        ]
    );
    assert_eq!(
        World::new().file("cenote.toml", "host = ['a']").errors(),
        "host from cenote.toml line 1: is not a text, a number or a boolean"
    );
}

#[test]
fn a_syntax_error_names_the_line_and_does_not_quote_it() {
    assert_eq!(
        World::new().file(".env", "PORT=1\nDB_PASS hunter2 and more\n").errors(),
        "DB_PASS from .env line 2: the line has no = after the name"
    );
    let errors = World::new()
        .file("cenote.toml", "port = 1\ndb_pass = 'hunter2\n")
        .errors();
    assert!(errors.starts_with("cenote.toml line 2: "), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn lines_of_other_programs_that_make_no_sense_give_a_warning_and_the_others_count() {
    let text = "hunter2 and more\nPORT=1\n=x\nSECRET_KEY=\"open\nHOST=::1\n";
    let loaded = World::new().file(".env", text).loaded();
    assert_eq!((loaded.settings.port, loaded.settings.host.as_str()), (1, "::1"));
    assert_eq!(
        loaded.warnings,
        [
            ".env line 1 is not read: it has no = after the name",
            ".env line 3 is not read: it does not start with a name",
            ".env line 4 is not read: it opens a quote that is never closed",
        ]
    );
}

#[test]
fn a_reference_to_what_is_not_set_is_an_error_in_a_setting_and_nothing_elsewhere() {
    let text = "OTHER=${NONE}\nPORT=${NONE:-7}\nDB_NAME=${WHO}\nDB_USER='${WHO}'\n";
    let errors = World::new().file(".env", text).errors();
    let expected = "DB_NAME from .env line 3: refers with ${…} to a variable that is not set\n\
                    DB_USER from .env line 4: refers with ${…} to a variable that is not set";
    assert_eq!(errors, expected);
    let world = env(&[("WHO", "me")]).file(".env", text);
    let config = world.settings().postgres;
    assert_eq!(
        (config.server.get_dbname(), config.server.get_user()),
        (Some("me"), Some("me"))
    );
}

#[test]
fn a_value_may_begin_with_a_number_sign() {
    let config = World::new().file(".env", "DB_NAME=#x\n").settings().postgres;
    assert_eq!(config.server.get_dbname(), Some("#x"));
}

#[test]
fn a_line_break_at_the_end_of_a_value_is_dropped_in_every_source() {
    for end in ["\n", "\r\n", "\r", "\n\n"] {
        let value = format!("shop{end}");
        for world in [
            env(&[("DB_NAME", &value)]),
            World::new().arg(&format!("--db-name={value}")),
            World::new().file(".env", &format!("DB_NAME=\"{value}\"\n")),
            World::new().file("cenote.toml", &format!("db_name = {value:?}\n")),
            env(&[("DB_NAME_FILE", "name")]).file("name", &value),
        ] {
            let config = world.settings().postgres;
            assert_eq!(config.server.get_dbname(), Some("shop"), "{value:?}");
        }
        for (name, text) in [
            ("DB_PASS", "secret"),
            ("DATABASE_URL", "postgresql://h/d"),
            ("REDIS_URL", "redis://h"),
            ("LOG", "info"),
            ("CACHE_MODE", "off"),
            ("PORT", "1"),
            ("HOST", "::1"),
            ("DATA_DIR", "/x"),
        ] {
            let world = env(&[("DB_USER", "u"), (name, &format!("{text}{end}"))]);
            let shown = world.loaded().report.text();
            assert!(!shown.contains("\\n") && !shown.contains("\\r"), "{name}: {shown}");
        }
    }
}

#[test]
fn what_nobody_sees_in_a_value_is_named_by_its_code_point() {
    for (name, value, named) in [
        ("DB_NAME", "sh\nop", "a control character, U+000A"),
        ("DB_NAME", "shop\t", "starts or ends with a blank"),
        ("DB_NAME", "\u{feff}shop", "an invisible character, U+FEFF"),
        ("DB_USER", "me\u{200b}", "an invisible character, U+200B"),
        ("DB_USER", " me", "starts or ends with a blank"),
        ("DB_PASS", "hunter\u{1b}2", "a control character, U+001B"),
        ("DATA_DIR", "/x\u{200b}", "an invisible character, U+200B"),
        ("DATABASE_URL", "\u{feff}postgresql://u:hunter2@h/d", "must start with"),
        (
            "DATABASE_URL",
            "postgresql://u:hunter2@h/d\u{200b}",
            "an invisible character, U+200B",
        ),
    ] {
        let errors = env(&[("DB_NAME", "x"), (name, value)]).errors();
        let found = errors
            .lines()
            .any(|line| line.starts_with(name) && line.contains(named));
        assert!(found && !errors.contains("hunter"), "{name} {value:?}: {errors}");
    }
}

#[test]
fn a_byte_order_mark_at_the_start_of_a_file_is_no_part_of_it() {
    let config = env(&[("DB_HOST", "h"), ("DB_PASS_FILE", "pw")])
        .file("pw", "\u{feff}hunter2\r\n")
        .settings()
        .postgres;
    assert_eq!(config.server.get_password(), Some(&b"hunter2"[..]));
    let it = World::new()
        .file("cenote.toml", "\u{feff}port = 7\n")
        .file(".env", "\u{feff}HOST=::1\n")
        .settings();
    assert_eq!((it.port, it.host.as_str()), (7, "::1"));
}

#[test]
fn a_directory_called_dotenv_is_no_file_of_settings() {
    let world = World::new();
    fs::create_dir(world.directory.path().join(".env")).unwrap();
    world.settings();
}

#[test]
fn a_name_and_its_file_in_one_source_agree_or_are_both_named() {
    let world = || env(&[("DB_HOST", "h"), ("DB_PASS_FILE", "pw")]).file("pw", "hunter2\r\n");
    let settings = world().settings();
    assert_eq!(settings.postgres.server.get_password(), Some(&b"hunter2"[..]));
    // The file is read again for every connection.
    let settings = format!("{settings:?}");
    let source = settings.split("database_password: ").nth(1).unwrap();
    let (source, _) = source.split_once("redis_password").unwrap();
    assert!(source.contains("File(\"") && source.contains("pw\")"), "{source}");
    world().env("DB_PASS", "hunter2").settings();
    let errors = world().env("DB_PASS", "hunter3").errors();
    assert!(errors.contains("DB_PASS from the environment"), "{errors}");
    assert!(errors.contains("DB_PASS_FILE from the environment"), "{errors}");
    assert!(!errors.contains("hunter"), "{errors}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_variable() {
    let errors = env(&[("DB_PASS_FILE", "/no/such/file"), ("DB_HOST", "h")]).errors();
    let expected = "DB_PASS_FILE from the environment: cannot read \"/no/such/file\": ";
    assert!(errors.starts_with(expected), "{errors}");
    let errors = env(&[("REDIS_URL_FILE", "empty")]).file("empty", "\n").errors();
    assert!(errors.contains("is empty"), "{errors}");
}

#[test]
fn a_secret_file_named_for_the_wrong_setting_is_not_quoted() {
    assert_eq!(
        env(&[("PORT_FILE", "pw")]).file("pw", "hunter2").errors(),
        "PORT_FILE from the environment: the value is not a whole number"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_matters_only_if_it_is_a_setting() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let command = clap::Command::new("serve").args(settings::args());
    let matches = command.get_matches_from(["serve"]);
    let directory = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let variable = (OsString::from(name), OsString::from_vec(vec![0xff]));
        settings::load(&matches, [variable], directory.path())
    };
    assert!(load("OTHER").is_ok());
    assert_eq!(
        load("DB_HOST").unwrap_err().to_string(),
        "DB_HOST from the environment: is not UTF-8"
    );
}
