//! The one table of all settings.
//!
//! Invariant: names, flags, documentation, defaults and parsers come from here and are written nowhere else;
//! no name stands for two settings.

use std::time::Duration;

use super::database::DatabaseUrl;
use super::duration::{Milliseconds, Seconds, SecondsOrOff, Zero};
use super::parse::{
    Bytes, ConfigFile, DatabaseHost, Kind, ListenHost, Location, LogFilter, OneOf, Password, Switch, Text, Whole,
};
use super::redis::RedisServers;
use super::schema_name::SchemaIdentifier;
use super::typed::{CacheFeed, CacheModeName, LogFormat, Migrate, PoolProfile};

/// What holds when nobody sets a setting.
#[derive(Clone, Copy)]
pub(crate) enum Fallback {
    /// This value.
    Is(&'static str),
    /// Nothing, or a value that follows from other settings; in words.
    Else(&'static str),
}
use Fallback::{Else, Is};

/// Everything about a setting but the type of its value.
pub(crate) struct About {
    pub(crate) group: &'static str,
    /// The principal name, then the aliases.
    pub(crate) names: &'static [&'static str],
    pub(crate) fallback: Fallback,
    pub(crate) help: &'static str,
}

impl About {
    pub(crate) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }
}

/// The flag of a name: `DB_HOST` is `db-host`.
pub(crate) fn flag(name: &str) -> String {
    // Every flag is cenote's own already.
    let name = name.strip_prefix("CENOTE_").unwrap_or(name);
    name.to_ascii_lowercase().replace('_', "-")
}

/// The key of a name in the TOML file.
pub(crate) fn toml_key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// A row of the table.
pub(crate) struct Setting<K> {
    pub(crate) about: About,
    pub(crate) kind: K,
}

/// A row whose type does not matter.
pub(crate) trait Row: Sync {
    fn about(&self) -> &About;
    fn describe(&self) -> String;
    fn placeholder(&self) -> &'static str;
    fn secret(&self) -> bool;
    fn indirect(&self) -> bool;
    fn switch(&self) -> bool;
}

impl<K: Kind> Row for Setting<K> {
    fn about(&self) -> &About {
        &self.about
    }

    fn describe(&self) -> String {
        self.kind.describe()
    }

    fn placeholder(&self) -> &'static str {
        K::PLACEHOLDER
    }

    fn secret(&self) -> bool {
        K::SECRET
    }

    fn indirect(&self) -> bool {
        K::INDIRECT
    }

    fn switch(&self) -> bool {
        K::SWITCH
    }
}

/// What a name refers to.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    pub(crate) row: &'static dyn Row,
    /// The name as the table spells it, without `_FILE`.
    pub(crate) name: &'static str,
    /// Whether the value is in a file the text names.
    pub(crate) file: bool,
}

impl Named {
    /// The name in full, with `_FILE` if it has it.
    pub(crate) fn full(&self) -> String {
        format!("{}{}", self.name, if self.file { "_FILE" } else { "" })
    }
}

/// Every name of every setting, with and without `_FILE`.
pub(crate) fn all_names() -> impl Iterator<Item = Named> {
    TABLE.iter().flat_map(|row| {
        let forms: &[bool] = if row.indirect() { &[false, true] } else { &[false] };
        row.about()
            .names
            .iter()
            .flat_map(move |name| forms.iter().map(move |&file| Named { row: *row, name, file }))
    })
}

/// Finds an exact name.
pub(crate) fn find(name: &str) -> Option<Named> {
    all_names().find(|named| match name.strip_prefix(named.name) {
        Some("") => !named.file,
        Some("_FILE") => named.file,
        _ => false,
    })
}

macro_rules! settings {
    ($($group:literal {
        $($name:ident $(or $alias:ident)* : $kind:ty = $value:expr, $fallback:expr, $help:literal;)*
    })*) => {
        $($(
            pub(crate) static $name: Setting<$kind> = Setting {
                about: About {
                    group: $group,
                    names: &[stringify!($name) $(, stringify!($alias))*],
                    fallback: $fallback,
                    help: $help,
                },
                kind: $value,
            };
        )*)*

        /// Every setting, in the order in which they are documented.
        pub(crate) static TABLE: &[&dyn Row] = &[$($(&$name),*),*];
    };
}

/// More connections than any server takes.
const MANY: usize = 100_000;

settings! {
    "Database" {
        DATABASE_URL: DatabaseUrl = DatabaseUrl, Else("none: a private PostgreSQL is started"),
            "Where the database is. SQLAlchemy's postgresql+asyncpg:// is understood";
        DB_HOST: DatabaseHost = DatabaseHost, Else("localhost if another DB_ name is set"),
            "Host of the database, instead of DATABASE_URL";
        DB_PORT: Whole<u16> = Whole(1..=65_535), Else("5432"),
            "Port of the database";
        DB_USER: Text = Text("text"), Else("the user who runs the process"),
            "User of the database";
        DB_PASS or DB_PASSWORD: Password = Password, Else("none"),
            "Password of the database user; the file of DB_PASS_FILE is read again for every connection";
        DB_NAME: Text = Text("text"), Else("the name of the user"),
            "Name of the database";
        DB_SCHEMA: SchemaIdentifier = SchemaIdentifier, Is("public"),
            "Schema of the database that the service's tables are in; it is made if it is missing";
        MIGRATE: OneOf<Migrate> = OneOf(Migrate::WORDS), Is("auto"),
            "What serve does about a schema that is not up to date: auto = add what is missing; check = end with what is \
             missing; off = look at nothing";
        DATA_DIR: Location = Location, Else("~/.local/share/cenote/postgres; as root /var/lib/cenote/postgres"),
            "Directory where the private PostgreSQL keeps its data when no database is set";
        INSTANCES: Whole<usize> = Whole(1..=MANY), Is("1"),
            "How many instances share the database; used to warn when their connections cannot fit";
    }
    "Pool" {
        POOL_PROFILE: OneOf<PoolProfile> = OneOf(PoolProfile::WORDS), Else("none"),
            "Sizes in one word, warm/most: low 2/5, medium 5/20, high 10/50, very-high 20/100; explicit sizes win";
        DB_POOL_MIN_SIZE or POOL_MIN_SIZE or DB_POOL_MIN: Whole<usize> = Whole(0..=MANY), Is("2"),
            "Connections kept open when idle. The default is lowered to DB_POOL_MAX_SIZE where that is less";
        DB_POOL_MAX_SIZE or POOL_MAX_SIZE or DB_POOL_MAX or DB_POOL_SIZE: Whole<usize> = Whole(1..=MANY), Is("10"),
            "Most connections, overflow aside";
        DB_POOL_MAX_OVERFLOW: Whole<usize> = Whole(0..=MANY), Is("0"),
            "Connections beyond DB_POOL_MAX_SIZE under load, closed when given back";
        DB_POOL_TIMEOUT: Seconds = Seconds(Zero::Plain), Is("30"),
            "Longest wait for a connection in seconds; 0 = do not wait";
        DB_POOL_MAX_WAITERS: Whole<usize> = Whole(0..=10_000_000), Is("10000"),
            "Most requests waiting for a connection; beyond it they get a 503 at once";
        DB_QUEUE_MAX_BYTES: Bytes = Bytes(1..=1 << 40), Is("67108864"),
            "Most bytes of requests waiting to share a statement, keys read and keys written each; beyond it they get a 503 at once";
        DB_QUEUE_MAX_WAIT: Seconds = Seconds(Zero::Refused), Is("2"),
            "Longest expected wait to share a statement in seconds; a request that has to expect more gets a 503 at once";
        DB_POOL_RECYCLE: SecondsOrOff = SecondsOrOff, Is("1800"),
            "Lifetime of a connection in seconds, jittered; 0 = no limit";
        DB_POOL_IDLE_TIMEOUT: SecondsOrOff = SecondsOrOff, Is("300"),
            "Seconds after which an idle connection is closed, never below DB_POOL_MIN_SIZE; 0 = never";
        DB_CONNECT_TIMEOUT: Seconds = Seconds(Zero::Refused), Is("5"),
            "Longest time for opening one connection in seconds, TLS and login included";
    }
    "Statements" {
        COMMAND_TIMEOUT: Seconds = Seconds(Zero::Refused), Is("5"),
            "Longest time for one statement in seconds; it is cancelled on the server too. With CACHE_MODE strong or bounded \
             the server ends it after 1 s at the latest";
        DB_STATEMENT_CACHE: Whole<usize> = Whole(0..=1_000_000), Is("256"),
            "Prepared statements kept per connection; 0 = none";
        DB_ECHO: Switch = Switch, Is("false"),
            "Log every SQL statement";
        DB_SLOW_QUERY: SecondsOrOff = SecondsOrOff, Is("1"),
            "Log statements that take longer, in seconds; 0 = off";
        DB_RETRY_ATTEMPTS: Whole<u32> = Whole(1..=100), Is("3"),
            "Attempts at what may be retried, the first included; 1 = no retry";
        DB_RETRY_DELAY: Seconds = Seconds(Zero::Plain), Is("1.0"),
            "Delay before the first retry in seconds; grows exponentially, with jitter";
    }
    "Cache" {
        REDIS_URL: RedisServers = RedisServers, Else("none: in-process cache only"),
            "Where Redis is: redis://[[user]:password@]host[:port][/database], rediss:// with TLS, unix:///path/of/the/socket; several nodes of a cluster separated by commas";
        REDIS_TLS_CA: Location = Location, Else("the authorities that the system trusts"),
            "File (PEM) with the authorities that may sign the certificate of a rediss:// server";
        REDIS_TLS_CERT: Location = Location, Else("none"),
            "File (PEM) with the certificate to show to a rediss:// server, and its chain; needs REDIS_TLS_KEY";
        REDIS_TLS_KEY: Location = Location, Else("none"),
            "File (PEM) with the private key of REDIS_TLS_CERT";
        CACHE_MODE: OneOf<CacheModeName> = OneOf(CacheModeName::WORDS),
            Else("strong with REDIS_URL, else local; off with several INSTANCES and no REDIS_URL"),
            "What a cached read guarantees: local = in this process, which must be the only one that writes; \
             strong = no stale reads through any instance; \
             bounded = stale by CACHE_MAX_STALENESS_MS at most; ttl = plain cache-aside; off = no cache. \
             strong, bounded and ttl need REDIS_URL";
        CACHE_TTL: Seconds = Seconds(Zero::Refused), Is("300"),
            "Lifetime of a cached value in seconds; of what is known to be absent, a tenth of it, but 1 s at least";
        CACHE_MAX_STALENESS_MS: Milliseconds = Milliseconds, Else("1000 with CACHE_MODE=bounded"),
            "Oldest answer in milliseconds; only with CACHE_MODE=bounded";
        CACHE_STALE_ON_ERROR: Switch = Switch, Is("false"),
            "Answer with an older cached value, marked as such, while the database is down";
        CACHE_NEAR_BYTES: Bytes = Bytes(65_536..=1 << 40), Is("67108864"),
            "Most memory for values kept in this process, keys and bookkeeping included; modes local and bounded";
        CACHE_FEED: OneOf<CacheFeed> = OneOf(CacheFeed::WORDS), Is("off"),
            "Whether writes that bypass the service are seen: notify = by triggers that it adds to its table";
    }
    "HTTP" {
        HOST: ListenHost = ListenHost, Is("127.0.0.1"),
            "Address to listen on";
        PORT: Whole<u16> = Whole(0..=65_535), Is("8000"),
            "Port to listen on; 0 = any free port";
        HTTP_CORES: Whole<usize> = Whole(1..=1024), Else("as many as the process may use"),
            "Cores that requests are served on, each by a thread of its own";
        HTTP_MAX_CONNECTIONS: Whole<usize> = Whole(1..=10_000_000), Is("20000"),
            "Most client connections at a time";
        HTTP_HEADER_TIMEOUT: Seconds = Seconds(Zero::Refused), Is("10"),
            "Longest wait for a request's first byte and head in seconds";
        HTTP_BODY_TIMEOUT: Seconds = Seconds(Zero::Refused), Is("15"),
            "Longest wait for a request's body in seconds";
        HTTP_IDLE_TIMEOUT: Seconds = Seconds(Zero::Refused), Is("75"),
            "Seconds after which an idle keep-alive connection is closed";
        HTTP_MAX_BODY: Bytes = Bytes(1..=1 << 30), Is("1048576"),
            "Largest request body in bytes; 64k and 1m work too";
        HTTP_ANSWER_MEMORY: Bytes = Bytes(1 << 20..=1 << 40), Is("67108864"),
            "Most bytes of large answers, above 32 KiB each, that are made or wait for their clients to take them; beyond it they get a 503";
        SHUTDOWN_DELAY: Seconds = Seconds(Zero::Plain), Is("1"),
            "Seconds between /health/ready turning 503 and the listener closing";
        SHUTDOWN_TIMEOUT: Seconds = Seconds(Zero::Plain), Is("30"),
            "Longest wait for running requests at shutdown in seconds";
    }
    "Log" {
        LOG or RUST_LOG: LogFilter = LogFilter, Is("info"),
            "What is logged, as tracing filter directives: info,cenote=debug";
        LOG_FORMAT: OneOf<LogFormat> = OneOf(LogFormat::WORDS), Is("auto"),
            "Form of the log: auto = pretty on a terminal, else json";
    }
    "Configuration" {
        CENOTE_CONFIG: ConfigFile = ConfigFile, Else("cenote.toml if it exists"),
            "TOML file with settings, as lower-case names";
    }
}

/// The default of `CACHE_MAX_STALENESS_MS`, which holds in one mode only.
pub(crate) const MAX_STALENESS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_stands_for_two_settings() {
        let mut seen = HashSet::new();
        for named in all_names() {
            assert!(seen.insert(named.full()), "{}", named.full());
            let found = find(&named.full()).unwrap();
            assert_eq!(found.full(), named.full());
        }
        assert!(find("DB_HOST_FILE_FILE").is_none());
        assert!(find("db_host").is_none());
    }

    #[test]
    fn every_help_text_fits_a_table_cell() {
        for row in TABLE {
            let help = row.about().help;
            assert!(!help.is_empty() && !help.contains(['|', '\n']), "{help}");
            assert!(!help.ends_with('.'), "{help}");
        }
    }
}
