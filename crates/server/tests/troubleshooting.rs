//! `docs/troubleshooting.md` explains every message that a user may see at the start: it must contain each sentence of
//! the source files that make such messages.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The files and folders in which messages of the start are made.
const PLACES: [&str; 29] = [
    "crates/server/src/commands",
    "crates/server/src/startup",
    "crates/server/src/settings",
    "crates/server/src/store/schema",
    "crates/server/src/store/requirements.rs",
    "crates/server/src/dotenv.rs",
    "crates/server/src/open_files.rs",
    "crates/server/src/telemetry",
    "crates/local/src/error.rs",
    "crates/postgres/src/config.rs",
    "crates/postgres/src/connect/url/conninfo.rs",
    "crates/postgres/src/invalid_config.rs",
    "crates/postgres/src/connect/url/mod.rs",
    "crates/postgres/src/connect/verifier.rs",
    "crates/cache/src/config.rs",
    "crates/cache/src/modes/poller.rs",
    "crates/cache/src/modes/reconnect.rs",
    "crates/cache/src/modes/row_reports.rs",
    "crates/cache/src/redis/connection.rs",
    "crates/cache/src/redis/current_session.rs",
    "crates/cache/src/redis/errors.rs",
    "crates/cache/src/redis/node_connection.rs",
    "crates/cache/src/redis/problem.rs",
    "crates/cache/src/redis/reports.rs",
    "crates/cache/src/redis/server.rs",
    "crates/cache/src/redis/session.rs",
    "crates/cache/src/redis/topology.rs",
    "crates/cache/src/url/mod.rs",
    "crates/cache/src/url/parser.rs",
];

/// Files whose sentences are help texts, documents and results.
const NO_MESSAGES: [&str; 9] = [
    "settings/table.rs",
    "settings/docs.rs",
    "key/arguments.rs",
    "admin/arguments.rs",
    "admin/report.rs",
    "top/model.rs",
    "top/screen.rs",
    "top/text.rs",
    "telemetry/request_fields.rs",
];

/// Sentences that need no explanation: help, results of checks, forms of values, parts of messages.
const CLEAR: [&str; 74] = [
    "A key-value and users API over pooled PostgreSQL",
    "Serve the API",
    "Watch a running service in the terminal: what is wrong, rates, connections, cache",
    "Show the figures once. The exit code is 3 if something is critical, and 1 if they cannot be read",
    "Try everything the service needs: PASS or FAIL for each",
    "Bring the database schema up to date",
    "Show the settings in force and where each comes from",
    "Print the description of the API",
    "the schema is up to date",
    "key-value round trip",
    "Total: {total} | Passed: {passed} | Failed: {failed}",
    "connected in {:.1} ms, first query took {:.1} ms",
    "no setting conflicts with the service's statements",
    "a commit survives a crash of the server",
    "{wanted} needed, {available} available",
    "{capacity} connections in {millis:.1} ms",
    "CREATE TEMP TABLE cenote_check (n int)",
    "a dropped transaction is rolled back",
    "an abandoned statement is cancelled on the server",
    "all tables exist in {}",
    "the server ends statements that take too long",
    "connected in {millis:.1} ms",
    "instances share them through Redis",
    "written, read from {sources}, deleted",
    "; docs at {scheme}://{here}/docs",
    "REDIS_URL is not set",
    "postgresql:// URL, or libpq key=value list",
    "seconds, more than 0",
    "milliseconds, more than 0",
    "whole number, {} to {}",
    "true or false",
    "restart; the password live",
    "host name, address or socket directory",
    "IP address or host name",
    "{values}; several are separated by commas",
    "tracing filter directives",
    "URL of Redis, or a comma-separated list of those of a cluster's nodes",
    "name of a schema; taken as it is written, upper and lower case included",
    "{flag} from the command line",
    "{name} from the environment",
    "{name} from .env line {line}",
    "{} from the environment {warning}",
    "{name} from .env line {line} {warning}",
    "{one:?} differs from {two:?} in {two_cited}; they name one setting",
    "timestamp with time zone",
    "timestamp without time zone",
    "function of the change feed",
    "triggers of the change feed",
    "unique index on {}.{column}",
    "NOT NULL of {name}",
    "what is missing",
    "process {pid}, application_name {name:?}",
    "it has ended by now",
    "set in the server's configuration",
    "set on the server's command line",
    "set for all databases",
    "set for the database",
    "set for the role",
    "set by the options of DATABASE_URL",
    "an error without a text",
    "an option db",
    "db, user, password and protocol",
    "still no connection to Redis",
    "the epoch could not be read",
    "{schema}.users",
    "keys of tokens",
    "{keys} loaded, and each has verified a first signature",
    "created {}; it is shown only now",
    "created {}; it is shown only now. The old key is accepted for another {}",
    "every instance that reaches the database refuses it within a second; one that does not, after AUTH_STALE",
    "key {id} {hint}… ({name}; scopes {scopes}; expires {expires})",
    "created the first API key",
    "the patterns are constants, and the tests use each of them",
    "one caller looks for the proof at a time, and the others take its result",
];

fn files(place: &Path, found: &mut Vec<PathBuf>) {
    if place.is_file() {
        found.push(place.to_owned());
        return;
    }
    for entry in fs::read_dir(place).unwrap() {
        files(&entry.unwrap().path(), found);
    }
}

/// The string literals of a source file, without those of its tests.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, here) = (&rest[..at], &rest[at..]);
        if here.starts_with("//") {
            rest = here.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(character) = here.strip_prefix('\'') {
            // A character, or a lifetime.
            let length = match character.starts_with('\\') {
                true => character.get(2..).and_then(|rest| rest.find('\'')).map(|end| end + 2),
                false => character.char_indices().nth(1).map(|(end, _)| end),
            };
            let end = length.filter(|end| character[*end..].starts_with('\''));
            rest = &character[end.map_or(0, |end| end + 1)..];
        } else if before.ends_with('r') || before.ends_with("r#") {
            let end = if before.ends_with('#') { "\"#" } else { "\"" };
            let (text, after) = here[1..].split_once(end).unwrap_or_default();
            found.push(text.to_owned());
            rest = after;
        } else if let Some(inner) = here.strip_prefix('"') {
            let mut text = String::new();
            let mut characters = inner.chars();
            while let Some(character) = characters.next() {
                match character {
                    '"' => break,
                    '\\' => match characters.next() {
                        // The string goes on after the blanks of the next line.
                        Some('\n') => {
                            let next = characters.as_str().trim_start();
                            characters = next.chars();
                        }
                        Some('n') => text.push('\n'),
                        Some(other) => text.push(other),
                        None => break,
                    },
                    other => text.push(other),
                }
            }
            found.push(text);
            rest = characters.as_str();
        } else {
            rest = &here[1..];
        }
    }
    found
}

/// Whether a string is a sentence, and not a name, an SQL statement or punctuation.
fn is_sentence(text: &str) -> bool {
    let is_sql = [
        "SELECT", "UPDATE", "INSERT", "ALTER", "CREATE", "SET ", "LOCK", "DELETE",
    ]
    .iter()
    .any(|word| text.trim_start().starts_with(word));
    let words = fixed(text).join(" ");
    let words = words
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| word.len() >= 2);
    !is_sql && text.contains(' ') && words.count() >= 3
}

/// The parts of a message that do not depend on its values.
fn fixed(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for character in text.chars() {
        match character {
            '{' => {
                depth += 1;
                parts.push(String::new());
            }
            '}' => depth -= 1,
            _ if depth > 0 => {}
            '\n' => parts.push(String::new()),
            other => parts.last_mut().unwrap().push(other),
        }
    }
    parts
}

/// The text without Markdown, and with single blanks.
fn plain(text: &str) -> String {
    let text = text.replace(['`', '\\'], "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_message_of_the_start_is_explained() {
    let document = Path::new(ROOT).join("docs/troubleshooting.md");
    let document = plain(&fs::read_to_string(document).unwrap());
    let mut places = Vec::new();
    for place in PLACES {
        files(&Path::new(ROOT).join(place), &mut places);
    }
    let mut sentences = 0;
    let mut missing = Vec::new();
    for place in places {
        let name = place.to_string_lossy().into_owned();
        let is_source = name.ends_with(".rs") && !name.ends_with("_tests.rs");
        if !is_source || NO_MESSAGES.iter().any(|other| name.ends_with(other)) {
            continue;
        }
        for text in literals(&fs::read_to_string(&place).unwrap()) {
            if !is_sentence(&text) || CLEAR.contains(&&*text) {
                continue;
            }
            sentences += 1;
            let parts = fixed(&text);
            // Lines that begin with blanks are commands that install something.
            let said = parts.iter().filter(|part| !part.starts_with("  "));
            let longest = said.max_by_key(|part| part.len()).unwrap();
            let longest = plain(longest.trim_matches([' ', ':', ';', ',', '(', ')', '.', '"']));
            if !document.contains(&longest) {
                missing.push(format!("{}: {text:?}", place.file_name().unwrap().display()));
            }
        }
    }
    assert!(sentences > 150, "only {sentences} messages were found");
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md does not explain:\n{}",
        missing.join("\n")
    );
}

#[test]
fn literals_are_found_as_they_are_written() {
    let source = r##"let a = "one \
        two"; // "no"
        let b = 'x'; let c = '"'; f::<'a>("three {} \"four\"", r#"five"#);"##;
    assert_eq!(literals(source), ["one two", "three {} \"four\"", "five"]);
    assert_eq!(fixed("a {b:?} c\nd"), ["a ", " c", "d"]);
}
