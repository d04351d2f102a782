//! Decides which database the settings mean: that of `DATABASE_URL`, of its parts `DB_HOST` and so on, or none.
//!
//! Invariant: the password of one source never joins the host of another. A URL and parts combine only if they stand in
//! the same source and do not contradict each other.

use cenote_postgres::{Config, ConnectionString};

use super::live_password::{LivePassword, PasswordSource};
use super::origin::{Cited, Origin};
use super::resolve::{Resolver, Row};
use super::table as t;

/// The parts, in the order in which a message cites them.
static PARTS: [&dyn Row; 5] = [&t::DB_HOST, &t::DB_NAME, &t::DB_USER, &t::DB_PASS, &t::DB_PORT];

/// The configuration of the database, and its password. It names no host if the settings name no database, or if there is a
/// problem.
pub(super) fn config(r: &mut Resolver) -> (Config, Option<LivePassword>) {
    let part_sources = PARTS.iter().filter_map(|part| r.source_of(*part));
    let (url_source, parts_source) = (r.source_of(&t::DATABASE_URL), part_sources.min());
    if url_source.is_none() && !r.is_set(&t::DB_HOST) {
        refuse_foreign_names(r, parts_source.is_some());
    }
    choose_source(r, url_source, parts_source);
    let parts = read_parts(r);
    // A part that cannot be parsed already is a problem.
    let first_part = PARTS.iter().find(|part| r.has_value(**part));
    let names_database = [&t::DB_HOST as &dyn Row, &t::DB_NAME, &t::DB_USER]
        .iter()
        .any(|part| r.is_set(*part));
    let config = match (r.get(&t::DATABASE_URL), first_part) {
        (Some(url), _) => join(r, url, parts),
        // The URL is not readable, or there is nothing.
        (None, first) if r.is_set(&t::DATABASE_URL) || first.is_none() => None,
        (None, Some(part)) if !names_database => {
            // A leftover password would otherwise lead to some server on this machine.
            let message = "names no database; set DATABASE_URL beside it, or DB_HOST, DB_USER and DB_NAME";
            r.problem_with(*part, message);
            None
        }
        // A URL without options contradicts no part.
        (None, _) => "postgresql://".parse().ok().and_then(|url| join(r, url, parts)),
    };
    let mut config = config.unwrap_or_default();
    let password = password(r, &config).map(LivePassword::new);
    config.password = password.as_ref().map(LivePassword::for_postgres);
    (config, password)
}

/// Where the password is. A file is read again for every connection.
fn password(r: &Resolver, config: &Config) -> Option<PasswordSource> {
    let text = std::str::from_utf8(config.server.get_password()?).ok()?;
    let in_file = match r.has_value(&t::DB_PASS) {
        true => r.file_of(&t::DB_PASS).map(PasswordSource::File),
        false => r.file_of(&t::DATABASE_URL).map(PasswordSource::DatabaseUrl),
    };
    Some(in_file.unwrap_or_else(|| PasswordSource::Text(text.to_owned().into())))
}

/// Drops what a higher source replaces: a part replaces a URL from below, and a URL the parts from below.
fn choose_source(r: &mut Resolver, url: Option<usize>, parts: Option<usize>) {
    let Some(url) = url else { return };
    let is_part = |setting| PARTS.iter().any(|part| part.about().name() == setting);
    let is_url = |setting| setting == t::DATABASE_URL.about.name();
    if parts.is_none_or(|parts| parts >= url) {
        r.entries.retain(|entry| !is_part(entry.setting) || entry.source == url);
        return;
    }
    let is_above = |part: &&&dyn Row| r.source_of(**part).is_some_and(|source| source < url);
    if let Some(part) = PARTS.iter().find(is_above) {
        let (url, part) = (r.cite(&t::DATABASE_URL), r.cite(*part));
        r.warn(format!("{url} is not used: {part} takes precedence and replaces it"));
    }
    r.entries
        .retain(|entry| !is_url(entry.setting) && (!is_part(entry.setting) || entry.source < url));
}

/// Refuses names by which other programs know their database, where the settings lead to no server: the service would
/// use an empty private database, or the server on this machine, in place of the one that the user means.
fn refuse_foreign_names(r: &mut Resolver, has_parts: bool) {
    // DATA_DIR says where the private database is, and so asks for one.
    let wants_private = r.is_set(&t::DATA_DIR);
    for found in std::mem::take(&mut r.foreign) {
        let (is_refused, consequence) = match has_parts {
            true => (found.names_server(), "; no host is set"),
            false => (
                !wants_private,
                "; no database is set. For an empty private one set DATA_DIR",
            ),
        };
        if is_refused {
            r.problem(Cited("", &found.origin), found.advice() + consequence);
        }
    }
}

/// A part: its setting, libpq's option, what messages call it, and the value.
struct Part(&'static dyn Row, &'static str, &'static str, Option<String>);

fn read_parts(r: &mut Resolver) -> [Part; 5] {
    let host = r.get(&t::DB_HOST).map(|hosts| hosts.join(","));
    let port = r.get(&t::DB_PORT).map(|port| port.to_string());
    let password = r.get(&t::DB_PASS).map(|password| password.into_exposed());
    [
        Part(&t::DB_HOST, "host", "host", host),
        Part(&t::DB_PORT, "port", "port", port),
        Part(&t::DB_USER, "user", "user", r.get(&t::DB_USER)),
        Part(&t::DB_PASS, "password", "password", password),
        Part(&t::DB_NAME, "dbname", "database name", r.get(&t::DB_NAME)),
    ]
}

/// Fills in what the URL leaves open. What the URL says, the parts must say too.
fn join(r: &mut Resolver, mut url: ConnectionString, parts: [Part; 5]) -> Option<Config> {
    for Part(row, option, what, value) in parts {
        let Some(value) = value else { continue };
        if !url.fill_in(option, &value) {
            r.problem_with(row, format!("differs from the {what} in {}", r.cite(&t::DATABASE_URL)));
        }
    }
    if url.get("host").or(url.get("hostaddr")).is_none() {
        url.set("host", "localhost");
        r.show(&t::DB_HOST, &vec!["localhost".to_owned()], Origin::Default);
    }
    let config = url
        .config()
        .map_err(|problem| r.problem_with(&t::DATABASE_URL, problem));
    config.ok()
}
