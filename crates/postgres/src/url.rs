//! Reads connection strings: what libpq understands and the driver does not is taken out here, the rest is the
//! driver's.
//!
//! Invariant: a complaint is put together from what was understood. It never quotes the text, which may hold a piece
//! of a password with a bare `@` or blank in it.

use std::{borrow::Cow, error::Error as _, path::PathBuf};

use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::{
    role::TargetSession,
    tls::{ClientCertificate, Roots, Tls, Verify},
};

/// Why a text is no connection string. Continues a sentence that starts with "the database URL", and quotes nothing
/// of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(Cow<'static, str>);

impl From<&'static str> for InvalidUrl {
    fn from(problem: &'static str) -> Self {
        Self(Cow::Borrowed(problem))
    }
}

impl From<String> for InvalidUrl {
    fn from(problem: String) -> Self {
        Self(Cow::Owned(problem))
    }
}

type Result<T> = std::result::Result<T, InvalidUrl>;

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// What a connection string says.
#[derive(Debug)]
pub(crate) struct Url {
    pub(crate) server: Config,
    pub(crate) tls: Tls,
    pub(crate) target_session: TargetSession,
}

/// Reads a `postgresql://` URL or a `host=… user=…` list.
pub(crate) fn parse(text: &str) -> Result<Url> {
    if text.contains('\0') {
        return Err("holds a NUL character".into());
    }
    let mut ours = Ours::default();
    let theirs = match SCHEMES.iter().find(|scheme| text.starts_with(**scheme)) {
        Some(scheme) => {
            // The driver ends the credentials at the first @ and would take the rest of the password for the host.
            if text.matches('@').count() > 1 {
                return Err(
                    "has more than one @; write those in the user or the password as %40".into(),
                );
            }
            take_from_url(text, scheme.len(), &mut ours)?
        }
        None if !text.contains('=') || is_other_url(text) => {
            return Err("must start with postgresql:// or postgres://, \
                        or be a list such as `host=… user=… dbname=…`"
                .into());
        }
        None => take_from_list(text, &mut ours)?,
    };
    let mut server: Config = theirs.parse().map_err(complaint)?;
    check(&server)?;
    let (tls, target_session) = ours.apply(&mut server)?;
    Ok(Url {
        server,
        tls,
        target_session,
    })
}

/// Whether the text starts with some scheme.
fn is_other_url(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
    text.split_once("://")
        .is_some_and(|(scheme, _)| scheme.chars().all(plain))
}

/// The options the driver does not know, or not all values of. Empty means not set, as in libpq.
#[derive(Default)]
struct Ours {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    sslcert: Option<String>,
    sslkey: Option<String>,
    target_session_attrs: Option<String>,
}

impl Ours {
    /// Takes the option if it is one of these; the last of a name counts.
    fn take(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "sslmode" => &mut self.sslmode,
            "sslrootcert" => &mut self.sslrootcert,
            "sslcert" => &mut self.sslcert,
            "sslkey" => &mut self.sslkey,
            "target_session_attrs" => &mut self.target_session_attrs,
            _ => return false,
        };
        *place = Some(value.to_owned()).filter(|value| !value.is_empty());
        true
    }

    fn apply(self, server: &mut Config) -> Result<(Tls, TargetSession)> {
        let roots = self.sslrootcert.map(|file| match file.as_str() {
            "system" => Roots::System,
            _ => Roots::File(PathBuf::from(file)),
        });
        // libpq's rules: with the system's authorities, whom anyone can ask for a certificate, only the full check
        // means something; and to name authorities is to ask that they be checked.
        let default = match roots {
            Some(Roots::System) => "verify-full",
            _ => "prefer",
        };
        let mode = self.sslmode.as_deref().unwrap_or(default);
        let (ssl_mode, verify) = match mode {
            "disable" => (SslMode::Disable, Verify::Nothing),
            "prefer" => (SslMode::Prefer, Verify::Nothing),
            "require" if roots.is_some() => (SslMode::Require, Verify::Authority),
            "require" => (SslMode::Require, Verify::Nothing),
            "verify-ca" => (SslMode::Require, Verify::Authority),
            "verify-full" => (SslMode::Require, Verify::Host),
            _ => {
                return Err("has an invalid value for option `sslmode` \
                            (disable, prefer, require, verify-ca or verify-full)"
                    .into());
            }
        };
        server.ssl_mode(ssl_mode);
        let certificate = match (self.sslcert, self.sslkey) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                certificate: certificate.into(),
                key: key.into(),
            }),
            (None, None) => None,
            _ => return Err("has only one of the options `sslcert` and `sslkey`".into()),
        };
        let tls = Tls {
            verify,
            roots,
            certificate,
        };
        tls.check(server)
            .map_err(|problem| format!("asks for {problem}"))?;
        let target_session = match self.target_session_attrs {
            None => TargetSession::Any,
            Some(name) => TargetSession::from_name(&name).ok_or(
                "has an invalid value for option `target_session_attrs` \
                 (any, read-write, read-only, primary, standby or prefer-standby)",
            )?,
        };
        Ok((tls, target_session))
    }
}

/// Takes our options out of a URL's query and returns the URL without them.
fn take_from_url(text: &str, scheme: usize, ours: &mut Ours) -> Result<String> {
    // The driver looks for the query behind the credentials.
    let start = text[scheme..].find('@').map_or(scheme, |at| scheme + at);
    let Some(query) = text[start..].find('?').map(|mark| start + mark) else {
        return Ok(text.to_owned());
    };
    let mut rest = Vec::new();
    for option in text[query + 1..].split('&') {
        let taken = match option.split_once('=') {
            Some((name, value)) => ours.take(&decode(name)?, &decode(value)?),
            None => false,
        };
        if !taken {
            rest.push(option);
        }
    }
    Ok(match rest.is_empty() {
        true => text[..query].to_owned(),
        false => format!("{}?{}", &text[..query], rest.join("&")),
    })
}

fn decode(text: &str) -> Result<Cow<'_, str>> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map_err(|_| "has an option that is not UTF-8".into())
}

/// Takes our options out of a list and returns the list without them.
fn take_from_list(text: &str, ours: &mut Ours) -> Result<String> {
    let mut rest = String::with_capacity(text.len());
    let mut left = text.trim_start();
    while !left.is_empty() {
        let (name, after) = left
            .split_once('=')
            .ok_or("is not a PostgreSQL connection string")?;
        let (value, after) = value(after.trim_start())?;
        if !ours.take(name.trim_end(), &value) {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            rest += &format!("{name}='{value}' ");
        }
        left = after.trim_start();
    }
    Ok(rest)
}

/// The value at the beginning of the text, quoted or not, and what follows it.
fn value(text: &str) -> Result<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let mut value = String::new();
    let mut characters = quoted.unwrap_or(text).chars();
    loop {
        let rest = characters.as_str();
        match characters.next() {
            Some('\\') => value.extend(characters.next()),
            Some('\'') if quoted.is_some() => return Ok((value, characters.as_str())),
            Some(c) if quoted.is_none() && c.is_whitespace() => return Ok((value, rest)),
            Some(c) => value.push(c),
            None if quoted.is_some() => return Err("has a quote that does not end".into()),
            None => return Ok((value, rest)),
        }
    }
}

/// Options of other programs. Only these may be quoted: the "option" the driver met may as well be the second word of
/// a password.
const FOREIGN_OPTIONS: [&str; 14] = [
    "client_encoding",
    "command_timeout",
    "fallback_application_name",
    "gssencmode",
    "passfile",
    "pool_size",
    "prepared_statement_cache_size",
    "replication",
    "requirepeer",
    "service",
    "ssl",
    "sslcrl",
    "statement_cache_size",
    "timeout",
];

fn complaint(error: tokio_postgres::Error) -> InvalidUrl {
    let detail = error.source().map(ToString::to_string).unwrap_or_default();
    if detail.starts_with("invalid value for option") {
        // The driver names the option here, never the value.
        return format!("has an {detail}").into();
    }
    let foreign = |option: &&&str| detail == format!("unknown option `{option}`");
    match FOREIGN_OPTIONS.iter().find(foreign) {
        Some(option) => format!("has the unknown option `{option}`").into(),
        None if detail.starts_with("unknown option") => "has an unknown option".into(),
        None => "is not a PostgreSQL connection string".into(),
    }
}

/// What would otherwise only be found out when connecting.
pub(crate) fn check(server: &Config) -> Result<()> {
    let (hosts, addresses) = (server.get_hosts().len(), server.get_hostaddrs().len());
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err("does not give as many addresses as hosts".into());
    }
    let ports = server.get_ports().len();
    if ports > 1 && ports != hosts.max(addresses) {
        return Err("does not give as many ports as hosts".into());
    }
    if server.get_ports().contains(&0) {
        return Err("has port 0".into());
    }
    if server.get_user() == Some("") {
        return Err("has an empty user".into());
    }
    for host in server.get_hosts() {
        if let Host::Tcp(name) = host {
            check_host(name).map_err(|problem| format!("has a host that {problem}"))?;
        }
    }
    Ok(())
}

/// Says what is wrong with the name of a host: an empty one, or a character that no host name has, as when a piece of
/// a password was taken for one.
///
/// # Errors
///
/// The problem, as the end of a sentence that starts with the host.
pub fn check_host(name: &str) -> std::result::Result<(), &'static str> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if name.is_empty() {
        return Err("is empty");
    }
    match name.chars().all(plain) {
        true => Ok(()),
        false => Err("holds a character no host name has"),
    }
}

#[cfg(all(test, feature = "tls"))]
#[path = "url_tests.rs"]
mod tests;

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use super::*;

    #[test]
    fn without_tls_only_plain_connections_are_promised() {
        for options in [
            "sslmode=require",
            "sslrootcert=system",
            "sslcert=c&sslkey=k",
        ] {
            let complaint = parse(&format!("postgresql://h/d?{options}")).unwrap_err();
            let complaint = complaint.to_string();
            assert!(
                complaint.contains("built without"),
                "{options}: {complaint}"
            );
        }
        assert!(parse("postgresql://h/d?sslmode=prefer").is_ok());
    }
}
