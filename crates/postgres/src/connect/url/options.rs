//! Decides what happens to each option of libpq: it is used, is ignored because it makes no difference, or is refused
//! with advice.
//!
//! Invariant: the table has every option of libpq, and none is ignored that would make a difference.

use std::collections::BTreeMap;

use crate::InvalidUrl;

pub(super) type Result<T> = std::result::Result<T, InvalidUrl>;

/// One `name=value` of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) value: String,
    /// Whether the name may be printed: it is certainly not a part of a password.
    pub(super) printable: bool,
}

impl Given {
    pub(super) fn new(name: &str, value: String) -> Self {
        Self {
            name: name.to_owned(),
            value,
            printable: true,
        }
    }
}

/// What happens to an option.
enum Fate {
    Honoured,
    /// It makes no difference, because this client does not use GSSAPI or compression.
    Ignored,
    /// These values are the default behaviour. For any other value: what to do instead.
    Only(&'static [&'static str], &'static str),
    /// What to do instead.
    Refused(&'static str),
}
use Fate::{Honoured, Ignored, Only, Refused};

const NO_OAUTH: Fate = Refused("logins by OAuth are not supported");
const NO_KEYS: Fate = Refused("give the password");
const NO_REVOCATION: Fate = Refused("revocation lists are not read");

/// The options of libpq 18.
const OPTIONS: [(&str, Fate); 52] = [
    ("application_name", Honoured),
    ("channel_binding", Honoured),
    (
        "client_encoding",
        Only(
            &["UTF8", "utf8", "UTF-8", "utf-8", "unicode", "UNICODE", "auto"],
            "the connection always uses UTF8",
        ),
    ),
    ("connect_timeout", Honoured),
    ("dbname", Honoured),
    ("fallback_application_name", Honoured),
    ("gssdelegation", Ignored),
    (
        "gssencmode",
        Only(
            &["disable", "prefer"],
            "there is no encryption by GSSAPI; use sslmode=require or verify-full",
        ),
    ),
    ("gsslib", Ignored),
    ("host", Honoured),
    ("hostaddr", Honoured),
    ("keepalives", Honoured),
    ("keepalives_count", Honoured),
    ("keepalives_idle", Honoured),
    ("keepalives_interval", Honoured),
    ("krbsrvname", Ignored),
    ("load_balance_hosts", Honoured),
    (
        "max_protocol_version",
        Only(&["3.0", "3.2", "latest"], "the protocol is 3.0"),
    ),
    ("min_protocol_version", Only(&["3.0"], "the protocol is 3.0")),
    ("oauth_client_id", NO_OAUTH),
    ("oauth_client_secret", NO_OAUTH),
    ("oauth_issuer", NO_OAUTH),
    ("oauth_scope", NO_OAUTH),
    ("options", Honoured),
    (
        "passfile",
        Refused(
            "give the password, or a file with nothing but the password (DB_PASS_FILE; in code Password::from_file, \
             or Config::from_libpq, which reads passfiles)",
        ),
    ),
    ("password", Honoured),
    ("port", Honoured),
    (
        "replication",
        Only(
            &["false", "off", "no", "0"],
            "a pool has no use for replication connections",
        ),
    ),
    (
        "require_auth",
        Refused("the kind of login cannot be prescribed; channel_binding=require makes sure of SCRAM"),
    ),
    (
        "requirepeer",
        Refused("the owner of a socket is not checked; restrict the socket's directory"),
    ),
    ("requiressl", Honoured),
    ("scram_client_key", NO_KEYS),
    ("scram_server_key", NO_KEYS),
    (
        "service",
        Refused("write out what the service file says of it; in code Config::from_libpq"),
    ),
    (
        "servicefile",
        Refused("write out what the service file says; in code Config::from_libpq"),
    ),
    (
        "ssl_max_protocol_version",
        Only(&["TLSv1.3"], "TLS 1.2 and 1.3 are spoken; restrict them at the server"),
    ),
    (
        "ssl_min_protocol_version",
        Only(
            &["TLSv1", "TLSv1.1", "TLSv1.2"],
            "TLS 1.2 and 1.3 are spoken; restrict them at the server",
        ),
    ),
    ("sslcert", Honoured),
    (
        "sslcertmode",
        Only(
            &["allow"],
            "leave it out, and give sslcert and sslkey if the server asks for a certificate",
        ),
    ),
    ("sslcompression", Ignored),
    ("sslcrl", NO_REVOCATION),
    ("sslcrldir", NO_REVOCATION),
    ("sslkey", Honoured),
    ("sslkeylogfile", Refused("keys are not logged")),
    ("sslmode", Honoured),
    ("sslnegotiation", Honoured),
    (
        "sslpassword",
        Refused("keys cannot be encrypted; write a decrypted one with `openssl pkey`"),
    ),
    ("sslrootcert", Honoured),
    ("sslsni", Only(&["1"], "the name of the host is always sent")),
    ("target_session_attrs", Honoured),
    ("tcp_user_timeout", Honoured),
    ("user", Honoured),
];

/// Options of other clients, and what to write instead.
const FOREIGN: [(&str, &str); 32] = [
    ("ApplicationName", "write application_name"),
    ("async_fallback", "leave it out"),
    (
        "command_timeout",
        "set COMMAND_TIMEOUT; in code Config::command_timeout",
    ),
    ("connectTimeout", "write connect_timeout"),
    ("connection_limit", "set DB_POOL_MAX_SIZE; in code pool.max_size"),
    ("currentSchema", "write options=-c%20search_path%3D…"),
    ("database", "write dbname"),
    ("hostname", "write host"),
    ("loginTimeout", "write connect_timeout"),
    ("max_overflow", "set DB_POOL_MAX_OVERFLOW; in code pool.max_overflow"),
    ("passwd", "write password"),
    ("pgbouncer", "leave it out"),
    ("pool_max_conns", "set DB_POOL_MAX_SIZE; in code pool.max_size"),
    ("pool_min_conns", "set DB_POOL_MIN_SIZE; in code pool.min_size"),
    ("pool_recycle", "set DB_POOL_RECYCLE; in code pool.max_lifetime"),
    ("pool_size", "set DB_POOL_MAX_SIZE; in code pool.max_size"),
    ("pool_timeout", "set DB_POOL_TIMEOUT; in code pool.acquire_timeout"),
    ("prepareThreshold", "leave it out"),
    (
        "prepared_statement_cache_size",
        "set DB_STATEMENT_CACHE; in code Config::statement_cache",
    ),
    ("prepared_statement_name_func", "leave it out"),
    ("schema", "write options=-c%20search_path%3D…"),
    ("search_path", "write options=-c%20search_path%3D…"),
    ("server_settings", "write options=-c%20name%3Dvalue"),
    ("socketTimeout", "set COMMAND_TIMEOUT; in code Config::command_timeout"),
    ("ssl", "write sslmode=require, or sslmode=verify-full with sslrootcert"),
    (
        "sslaccept",
        "write sslmode=verify-full with sslrootcert, or sslmode=require",
    ),
    (
        "sslfactory",
        "write sslmode=verify-full with sslrootcert, or sslmode=require",
    ),
    (
        "statement_cache_size",
        "set DB_STATEMENT_CACHE; in code Config::statement_cache",
    ),
    ("statement_timeout", "write options=-c%20statement_timeout%3D…"),
    ("timeout", "write connect_timeout"),
    ("timezone", "write options=-c%20TimeZone%3D…"),
    ("username", "write user"),
];

/// Whether libpq has this option.
pub(super) fn is_known(name: &str) -> bool {
    OPTIONS.iter().any(|(known, _)| *known == name)
}

/// Whether the value must not be printed, nor what follows it in the text.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(
        name,
        "password" | "passwd" | "sslpassword" | "oauth_client_secret" | "scram_client_key" | "scram_server_key"
    )
}

/// The options that are used. An empty one counts as not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<&'static str, String>);

impl Options {
    /// # Errors
    ///
    /// Names the first option that cannot be honoured, and quotes no value.
    pub(super) fn new(given: Vec<Given>) -> Result<Self> {
        let mut options = Self::default();
        for one in given {
            options.take(one)?;
        }
        Ok(options)
    }

    /// Takes an option.
    ///
    /// # Errors
    ///
    /// It cannot be honoured. The error names it and quotes no value.
    pub(super) fn take(&mut self, given: Given) -> Result<()> {
        let Given { name, value, printable } = given;
        let Some((name, fate)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(&name, printable));
        };
        match fate {
            Honoured if *name == "requiressl" => {
                let mode = if value.starts_with('1') { "require" } else { "prefer" };
                self.set("sslmode", mode.to_owned());
            }
            Honoured => self.set(name, value),
            Ignored => {}
            Only(values, _) if value.is_empty() || values.contains(&value.as_str()) => {}
            Only(_, cure) => {
                return Err(format!("has an unsupported value for option `{name}`: {cure}").into());
            }
            Refused(_) if value.is_empty() => {}
            Refused(cure) => {
                return Err(format!("has the option `{name}`, which is not supported: {cure}").into());
            }
        }
        Ok(())
    }

    pub(super) fn set(&mut self, name: &'static str, value: String) {
        match value.is_empty() {
            true => self.0.remove(name),
            false => self.0.insert(name, value),
        };
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

fn unknown(name: &str, printable: bool) -> InvalidUrl {
    if let Some((name, cure)) = FOREIGN.iter().find(|(known, _)| *known == name) {
        return format!("has the unknown option `{name}`: {cure}").into();
    }
    let is_word =
        !name.is_empty() && name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match printable && is_word {
        true => format!("has the unknown option `{name}`").into(),
        // It may be a part of a password.
        false => "has an unknown option".into(),
    }
}
