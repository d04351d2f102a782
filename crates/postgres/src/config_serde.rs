//! A configuration as a document: the feature `serde`.
//!
//! Invariant: no password is written; what is written is read back as the same configuration, without its password and its
//! functions.

use std::{path::PathBuf, time::Duration};

use cenote_pool::serde_duration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{Config, Password, Reset, Retry, config_spelling as spell};

/// The names and defaults of a document.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    /// A connection string.
    url: String,
    /// A file with nothing but the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
    #[serde(with = "serde_duration::optional")]
    lookup_interval: Option<Duration>,
    #[serde(with = "serde_duration::optional")]
    command_timeout: Option<Duration>,
    statement_cache: usize,
    reset: Reset,
    retry: Retry,
    echo: bool,
    #[serde(with = "serde_duration::optional")]
    slow_query: Option<Duration>,
    #[serde(with = "serde_duration")]
    degraded_latency: Duration,
    pool: cenote_pool::Config,
}

impl Default for Document {
    fn default() -> Self {
        Self::new(String::new(), &Config::default())
    }
}

impl Document {
    fn new(url: String, config: &Config) -> Self {
        Self {
            url,
            password_file: config.password.as_ref().and_then(Password::file).map(Into::into),
            lookup_interval: config.lookup_interval,
            command_timeout: config.command_timeout,
            statement_cache: config.statement_cache,
            reset: config.reset,
            retry: config.retry,
            echo: config.echo,
            slow_query: config.slow_query,
            degraded_latency: config.degraded_latency,
            pool: config.pool.clone(),
        }
    }
}

/// With the feature `serde`. A table with `url`, `password_file`, and the fields of this type that are plain values; what is
/// absent has its default; in a table `pool` that of [`cenote_pool::Config`], so that `time_uses` is off unless the table says
/// otherwise. Times are as in [`cenote_pool::serde_duration`].
///
/// ```toml
/// url = "postgresql://app@db/shop?sslmode=verify-full&sslrootcert=system"
/// password_file = "/run/secrets/db"
/// command_timeout = "2s"
///
/// [pool]
/// max_size = 20
/// idle_timeout = "none"
/// ```
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        let mut config = match document.url.is_empty() {
            true => Self::default(),
            // The error quotes no value.
            false => Self::from_url(&document.url).map_err(|problem| de::Error::custom(format!("`url` {problem}")))?,
        };
        config.password = document.password_file.map(Password::from_file);
        config.lookup_interval = document.lookup_interval;
        config.command_timeout = document.command_timeout;
        config.statement_cache = document.statement_cache;
        config.reset = document.reset;
        config.retry = document.retry;
        config.echo = document.echo;
        config.slow_query = document.slow_query;
        config.degraded_latency = document.degraded_latency;
        config.pool = document.pool;
        Ok(config)
    }
}

/// With the feature `serde`. Passwords and functions are left out; the name of a password's file is kept.
///
/// # Errors
///
/// `server` has a setting that no connection string can express, such as a timeout of half a second.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let url = spell::without_password(self).map_err(ser::Error::custom)?;
        Document::new(url, self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCUMENT: &str = r#"
        url = "postgresql://app:hunter2@db,[::1]:5433/shop?sslmode=verify-full&sslrootcert=system&keepalives=0"
        password_file = "/run/secrets/db"
        command_timeout = "2s"
        slow_query = "none"
        reset = "always"
        retry = { attempts = 5, delay = 0.25 }
        pool = { max_size = 20, idle_timeout = "none", acquire_timeout = 3 }
    "#;

    #[test]
    fn a_document_is_read_and_written_without_its_password() {
        let config: Config = toml::from_str(DOCUMENT).unwrap();
        assert_eq!(config.server.get_password(), Some("hunter2".as_bytes()));
        assert_eq!(config.command_timeout, Some(Duration::from_secs(2)));
        assert_eq!((config.slow_query, config.reset), (None, Reset::Always));
        assert_eq!(
            (config.retry.attempts, config.retry.delay),
            (5, Duration::from_millis(250))
        );
        assert_eq!((config.pool.max_size, config.pool.idle_timeout), (20, None));
        assert_eq!(config.pool.acquire_timeout, Duration::from_secs(3));

        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("hunter2"), "{written}");
        let again: Config = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
        assert!(written.contains("/run/secrets/db"));
    }

    #[test]
    fn a_wrong_document_is_refused_and_no_value_quoted() {
        for text in [
            "url = 'postgresql://u:hunter2@h:nothing/d'",
            "url = 'hunter2'",
            "command_timeout = 'soon'",
            "password = 'hunter2'",
            "pool = { max_sise = 1 }",
        ] {
            let problem = toml::from_str::<Config>(text).unwrap_err();
            assert!(!problem.message().contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn what_no_connection_string_expresses_is_an_error() {
        let mut config = Config::from_url("host=h").unwrap();
        config.server.connect_timeout(Duration::from_millis(500));
        assert!(serde_json::to_string(&config).is_err());
    }

    fn option() -> impl Strategy<Value = String> {
        let words = [
            "sslmode=allow",
            "sslmode=disable",
            "sslmode=require",
            "sslmode=verify-ca sslrootcert='/a b'",
            "keepalives=0",
            "keepalives_idle=3",
            "keepalives_interval=4",
            "keepalives_count=5",
            "connect_timeout=6",
            "tcp_user_timeout=7",
            "channel_binding=require sslmode=require",
            "load_balance_hosts=random",
            "target_session_attrs=standby",
            "hostaddr=10.0.0.1,10.0.0.2",
            "port=1,2",
            "port=7",
            "sslcert=c sslkey=k",
            "sslnegotiation=direct sslmode=require",
        ];
        prop_oneof![
            proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
            ("(user|dbname|options|application_name)", "[a-z '\\\\=]{1,6}")
                .prop_map(|(name, value)| format!("{name}={}", spell::quoted(&value))),
        ]
    }

    proptest! {
        #[test]
        fn any_configuration_is_read_back_as_it_was_written(options in proptest::collection::vec(option(), 0..6)) {
            let Ok(config) = Config::from_url(&format!("host=a,b password=hunter2 {}", options.join(" "))) else {
                return Ok(());
            };
            let written = serde_json::to_string(&config).unwrap();
            prop_assert!(!written.contains("hunter2"));
            let mut again: Config = serde_json::from_str(&written).unwrap();
            again.server.password("hunter2");
            prop_assert_eq!(&again.server, &config.server);
            prop_assert_eq!((&again.tls, again.target_session), (&config.tls, config.target_session));
        }
    }
}
