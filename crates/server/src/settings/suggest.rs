//! Recognises misspelt names.
//!
//! Invariant: a name that is plainly another program's is left alone; an environment holds many of those.

use super::names;

/// Names with these beginnings are meant for cenote, however they end.
const OWN_PREFIXES: [&str; 4] = ["DB_POOL_", "CACHE_", "POOL_", "HTTP_"];

/// The name that was probably meant, in the table's spelling.
pub(super) fn closest(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    names::all_names()
        .map(|named| named.name)
        .filter(|known| name.len().abs_diff(known.len()) <= tolerance(known))
        .map(|known| (strsim::osa_distance(&name, &known), known))
        .filter(|(distance, known)| *distance <= tolerance(known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// How many typing errors still make the name recognisable: HOME is not HOST and LANG is not LOG.
fn tolerance(known: &str) -> usize {
    match known.len() {
        0..5 => 0,
        5..8 => 1,
        _ => 2,
    }
}

/// A warning about a name in an environment, unless the name is nothing to do with cenote.
pub(super) fn warning(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    if names::find(name).is_some() || foreign(&upper) {
        return None;
    }
    match closest(name) {
        Some(known) => Some(format!("is not a setting; did you mean {known}?")),
        None if OWN_PREFIXES.iter().any(|own| upper.starts_with(own)) => Some("is not a setting and is ignored".into()),
        None => None,
    }
}

/// Whether the name is one that a proxy or CGI sets, or Kubernetes for a Service: `CACHE_SERVICE_HOST`,
/// `CACHE_PORT_6379_TCP_ADDR`.
fn foreign(upper: &str) -> bool {
    let of_proxy = [
        "HTTP_PROXY",
        "HTTP_HOST",
        "HTTP_USER_AGENT",
        "HTTP_ACCEPT",
        "HTTP_COOKIE",
        "CACHE_DIR",
    ];
    of_proxy.iter().any(|beginning| upper.starts_with(beginning))
        || ["_SERVICE_PORT", "_TCP"].iter().any(|part| upper.contains(part))
        || upper.ends_with("_SERVICE_HOST")
        || matches!(upper, "CACHE_PORT" | "HTTP_PORT" | "POOL_PORT")
        // The authorities of the system, for every program that uses TLS.
        || matches!(upper, "SSL_CERT_FILE" | "SSL_CERT_DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
        for (name, meant) in [
            ("DB_POOL_MAXSIZE", "DB_POOL_MAX_SIZE"),
            ("db_pool_max_size", "DB_POOL_MAX_SIZE"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("DB_PASWORD", "DB_PASSWORD"),
            ("DB_HSOT", "DB_HOST"),
            ("REDIS_URL_FIEL", "REDIS_URL_FILE"),
        ] {
            let warning = warning(name).unwrap();
            assert!(warning.contains(&format!("did you mean {meant}?")), "{name}: {warning}");
        }
        for name in [
            "DB_POOL_PRE_PING",
            "CACHE_STRATEGY",
            "HTTP_WORKERS",
            "POOL_RECYCLING_TIME",
        ] {
            assert!(warning(name).is_some(), "{name}");
        }
    }

    #[test]
    fn ordinary_names_are_left_alone() {
        for name in [
            "PATH",
            "HOME",
            "HOST",
            "PORT",
            "LANG",
            "LOG",
            "LOGNAME",
            "USER",
            "PWD",
            "SHELL",
            "TERM",
            "HOSTNAME",
            "DISPLAY",
            "EDITOR",
            "SHLVL",
            "_",
            "",
            "MAIL",
            "TZ",
            "OLDPWD",
            "TMPDIR",
            "XDG_DATA_DIRS",
            "XDG_CACHE_HOME",
            "DB_NAME",
            "DB_PASS_FILE",
            "RUST_LOG",
            "RUST_BACKTRACE",
            "CARGO_HOME",
            "HTTP_PROXY",
            "http_proxy",
            "https_proxy",
            "NO_PROXY",
            "PGHOST",
            "PGUSER",
            "DB_SERVICE_HOST",
            "CACHE_SERVICE_HOST",
            "CACHE_PORT",
            "CACHE_PORT_6379_TCP_ADDR",
            "CENOTE_SERVICE_PORT",
            "LC_ALL",
            "PS1",
            "LS_COLORS",
            "INVOCATION_ID",
            "LOG_DIR",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "CENOTE_URL",
            "CENOTE_KEY",
            "CENOTE_KEY_FILE",
        ] {
            assert_eq!(warning(name), None, "{name}");
        }
    }
}
