//! The files that are generated from the table.

use std::fs;
use std::path::Path;

use cenote::settings;

use crate::world::World;

/// Compares a file with the expected text, or writes the file if the environment variable `UPDATE` is set.
fn in_sync(path: &str, expected: &str) {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, expected).unwrap();
    }
    let actual = fs::read_to_string(&file).unwrap();
    assert!(
        actual == expected,
        "{path} is out of date; run `UPDATE=1 cargo test -p cenote settings`"
    );
}

#[test]
fn the_settings_example_is_in_sync_with_the_table() {
    in_sync(".env.example", &settings::docs::env_example());
}

#[test]
fn the_settings_document_is_in_sync_with_the_table() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md"));
    let document = fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once("<!-- settings:begin").unwrap();
    let (marker, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once("<!-- settings:end -->").unwrap();
    let table = settings::docs::markdown();
    in_sync(
        "docs/settings.md",
        &format!("{before}<!-- settings:begin{marker}-->\n{table}<!-- settings:end -->{after}"),
    );
}

#[test]
fn the_settings_example_loads_as_it_is_and_with_every_line_uncommented() {
    let example = settings::docs::env_example();
    World::new().file(".env", &example).settings();
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let uncommented: String = example.lines().map(uncomment).collect();
    let loaded = World::new().file(".env", &uncommented).loaded();
    let defaults = World::new().settings();
    assert_eq!(loaded.settings.http, defaults.http);
    assert_eq!(loaded.settings.postgres.pool, defaults.postgres.pool);
    assert_eq!(loaded.settings.cache, defaults.cache);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}
