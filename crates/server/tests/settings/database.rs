//! The database as a URL, as its parts, or not set.

use tokio_postgres::config::SslMode;

use crate::world::{World, env, host};

#[test]
fn a_url_and_its_parts_in_one_source_must_agree() {
    let url = ("DATABASE_URL", "postgresql://u:p@h:5433/d");
    for (part, same, other) in [
        ("DB_HOST", "h", "other"),
        ("DB_PORT", "5433", "5432"),
        ("DB_USER", "u", "other"),
        ("DB_PASS", "p", "other"),
        ("DB_PASSWORD", "p", "other"),
        ("DB_NAME", "d", "other"),
    ] {
        env(&[url, (part, same)]).settings();
        let errors = env(&[url, (part, other)]).errors();
        assert!(
            errors.starts_with(&format!("{part} from the environment: differs")),
            "{errors}"
        );
        assert!(errors.ends_with("in DATABASE_URL from the environment"), "{errors}");
    }
}

#[test]
fn parts_fill_in_what_the_url_leaves_open() {
    let it = env(&[
        ("DATABASE_URL", "postgresql:///?sslmode=require"),
        ("DB_HOST", "h"),
        ("DB_PORT", "7"),
        ("DB_USER", "u"),
        ("DB_PASS", "p@/?"),
        ("DB_NAME", "d"),
    ])
    .settings();
    let config = it.postgres;
    assert_eq!(host(&config), "h");
    assert_eq!(config.server.get_ports(), [7]);
    assert_eq!(config.server.get_user(), Some("u"));
    assert_eq!(config.server.get_password(), Some(&b"p@/?"[..]));
    assert_eq!(config.server.get_dbname(), Some("d"));
    assert_eq!(config.server.get_ssl_mode(), SslMode::Require);
    let it = env(&[("DATABASE_URL", "postgresql://h/d"), ("DB_PORT", "7")]).settings();
    assert_eq!(it.postgres.server.get_ports(), [7]);
}

#[test]
fn parts_alone_name_a_database_and_combine_across_sources() {
    let world = env(&[("DB_PASSWORD", "p"), ("DB_PORT", "7")]);
    let world = world.file(".env", "DB_HOST=b\nDB_PASS=q\n");
    let config = world.settings().postgres;
    assert_eq!((host(&config).as_str(), config.server.get_ports()), ("b", &[7][..]));
    assert_eq!(config.server.get_password(), Some(&b"p"[..]));
    let config = env(&[("DB_NAME", "d")]).settings().postgres;
    assert_eq!(host(&config), "localhost");
}

#[test]
fn a_url_from_above_replaces_the_parts_below() {
    let world = env(&[("DATABASE_URL", "postgresql://a/x")]);
    let world = world.file(".env", "DB_HOST=b\nDB_USER=u\nDB_PASS=hunter2\n");
    let config = world.settings().postgres;
    assert_eq!(host(&config), "a");
    assert_eq!((config.server.get_user(), config.server.get_password()), (None, None));
}

#[test]
fn parts_from_above_replace_the_url_below_with_a_warning() {
    let world = env(&[("DB_HOST", "b")]).file(".env", "DATABASE_URL=postgresql://u:p@a/x\n");
    let loaded = world.loaded();
    let config = loaded.settings.postgres;
    assert_eq!(host(&config), "b");
    assert_eq!((config.server.get_user(), config.server.get_password()), (None, None));
    assert_eq!(
        loaded.warnings,
        ["DATABASE_URL from .env line 1 is not used: DB_HOST from the environment takes precedence and replaces it"]
    );
}

#[test]
fn a_password_alone_names_no_database() {
    let errors = env(&[("DB_PASSWORD", "hunter2")]).errors();
    let expected = "DB_PASSWORD from the environment: names no database";
    assert!(errors.starts_with(expected), "{errors}");
}

#[test]
fn a_host_with_a_port_in_it_is_refused_at_once_by_the_name_of_the_other_setting() {
    for (value, cure) in [
        ("localhost:5432", "DB_PORT"),
        ("[::1]:5432", "DB_PORT"),
        ("postgres://u:hunter2@h/d", "DATABASE_URL"),
        ("tcp://172.17.0.2:5432", "DATABASE_URL"),
        ("db.example.org/shop", "DB_NAME"),
        ("u:hunter2@h", "DB_USER"),
        ("my host", "character"),
    ] {
        let errors = env(&[("DB_HOST", value)]).errors();
        assert!(
            errors.starts_with("DB_HOST from the environment: ") && errors.contains(cure),
            "{errors}"
        );
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn another_programs_name_for_the_database_is_told_of_where_none_is_set() {
    for (name, value, cure) in [
        ("PGHOST", "db", "DB_HOST"),
        ("PGDATABASE", "shop", "DB_NAME"),
        ("POSTGRES_USER", "me", "DB_USER"),
        ("POSTGRES_DB", "shop", "DB_NAME"),
        ("POSTGRES_URL", "postgres://u:hunter2@h/d", "DATABASE_URL"),
        ("DATABASE_URI", "postgres://u:hunter2@h/d", "DATABASE_URL"),
        ("SQLALCHEMY_DATABASE_URI", "postgres://u:hunter2@h/d", "DATABASE_URL"),
        ("DB_CONNECTION_STRING", "postgres://u:hunter2@h/d", "DATABASE_URL"),
        (
            "JDBC_DATABASE_URL",
            "jdbc:postgresql://h/d?password=hunter2",
            "DATABASE_URL",
        ),
        ("APP_DATABASE_URL", "postgres://u:hunter2@h/d", "DATABASE_URL"),
        ("DB_DSN", "db.example.org:1521/XEPDB1", "Oracle"),
        ("DB_DSN", "postgres://u:hunter2@h/d", "DATABASE_URL"),
        ("db_host", "db", "DB_HOST"),
        ("Database_Url", "postgres://u:hunter2@h/d", "DATABASE_URL"),
    ] {
        for (world, place) in [
            (env(&[(name, value)]), "the environment"),
            (World::new().file(".env", &format!("{name}={value}\n")), ".env line 1"),
        ] {
            let errors = world.errors();
            assert!(
                errors.starts_with(&format!("{name} from {place}: is not read; ")),
                "{errors}"
            );
            assert!(
                errors.contains(cure) && errors.contains("no database is set"),
                "{errors}"
            );
            assert!(!errors.contains("hunter2"), "{errors}");
        }
        // A user who names a database, or wants a private one, is not bothered.
        env(&[(name, value), ("DATABASE_URL", "postgresql://h/d")]).settings();
        env(&[(name, value), ("DB_HOST", "h")]).settings();
        let private = env(&[(name, value), ("DATA_DIR", "/data")]).settings();
        assert!(!private.names_database());
    }
}

#[test]
fn another_programs_name_for_the_server_is_told_of_where_only_the_name_of_the_database_is_set() {
    let oracle = [
        ("DB_USER", "scott"),
        ("DB_PASS", "tiger"),
        ("DB_DSN", "db.example.org:1521/XEPDB1"),
    ];
    let errors = env(&oracle).errors();
    assert!(
        errors.starts_with("DB_DSN from the environment: ") && errors.contains("Oracle"),
        "{errors}"
    );
    let errors = env(&[("DB_NAME", "shop"), ("PGHOST", "db")]).errors();
    assert!(errors.starts_with("PGHOST from the environment: "), "{errors}");
    env(&[("DB_NAME", "shop"), ("PGUSER", "me"), ("POSTGRES_DB", "x")]).settings();
}
