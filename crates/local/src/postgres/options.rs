//! The options of a server: settings, access rules, certificates. Invariant: they are on the command line or in the run
//! directory, never in the data directory, so they end with the handle.

use std::{ffi::OsString, fmt, fs, path::Path};

use cenote_secret::Secret;

use crate::{
    error::{Doing, Error, Result},
    supervise::Account,
};

/// Settings for servers whose data need not survive the machine: no waiting for the disk, and no shared memory outside
/// the data directory that a killed server would leave behind. `synchronous_commit` stays on, so that commits behave
/// as they do elsewhere. WAL is kept for replicas that are being copied or are away; a slot for each would keep it even
/// for those that are gone.
const TEMPORARY: [&str; 5] = [
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "dynamic_shared_memory_type=mmap",
    "wal_keep_size=256MB",
];

/// The files in the run directory.
const ACCESS_RULES: &str = "pg_hba.conf";
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";
const CLIENT_AUTHORITY: &str = "client-ca.crt";

#[derive(Clone, Default)]
pub(super) struct Options {
    /// Of two with the same name the later one counts.
    pub(super) settings: Vec<(String, String)>,
    /// The first one that matches a connection decides.
    pub(super) access_rules: Vec<String>,
    /// Certificate chain and key, PEM.
    pub(super) tls: Option<(String, Secret<String>)>,
    /// Certificates, PEM.
    pub(super) client_authority: Option<String>,
}

/// Shows no values of settings and no rules, because they may hold passwords.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field(
                "settings",
                &self.settings.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .field("access_rules", &self.access_rules.len())
            .field("tls", &self.tls.is_some())
            .field("client_authority", &self.client_authority.is_some())
            .finish()
    }
}

impl Options {
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in &self.settings {
            check_setting(name, value)?;
        }
        match self.access_rules.iter().find(|rule| rule.contains('\n')) {
            Some(_) => Err(Error::InvalidSetting {
                name: "access_rule".to_owned(),
                reason: "an access rule is a single line",
            }),
            None => Ok(()),
        }
    }

    /// Writes the files that [`arguments`](Self::arguments) names; `data` must be there already.
    pub(super) fn write_files(&self, account: &Account, run: &Path, data: &Path) -> Result<()> {
        if !self.access_rules.is_empty() {
            let own = data.join("pg_hba.conf");
            let own = fs::read_to_string(&own).doing(|| format!("reading {}", own.display()))?;
            let rules = format!("{}\n{own}", self.access_rules.join("\n"));
            account.create_file(&run.join(ACCESS_RULES), &rules)?;
        }
        if let Some((certificate, key)) = &self.tls {
            account.create_file(&run.join(CERTIFICATE), certificate)?;
            account.create_file(&run.join(KEY), key.expose())?;
        }
        if let Some(certificates) = &self.client_authority {
            account.create_file(&run.join(CLIENT_AUTHORITY), certificates)?;
        }
        Ok(())
    }

    /// Everything but the program, the data directory and the port.
    pub(super) fn arguments(&self, run: &Path, socket_dir: &Path, temporary: bool) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut set = |name: &str, value: OsString| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            arguments.extend(["-c".into(), setting]);
        };
        set("listen_addresses", "127.0.0.1".into());
        let mut sockets = OsString::from("\"");
        sockets.push(socket_dir); // the quotes are for a comma in the path
        sockets.push("\"");
        set("unix_socket_directories", sockets);
        set("logging_collector", "off".into());
        if temporary {
            TEMPORARY
                .iter()
                .filter_map(|setting| setting.split_once('='))
                .for_each(|(name, value)| set(name, value.into()));
        }
        if !self.access_rules.is_empty() {
            set("hba_file", run.join(ACCESS_RULES).into());
        }
        if self.tls.is_some() {
            set("ssl", "on".into());
            set("ssl_cert_file", run.join(CERTIFICATE).into());
            set("ssl_key_file", run.join(KEY).into());
        }
        if self.client_authority.is_some() {
            set("ssl_ca_file", run.join(CLIENT_AUTHORITY).into());
        }
        for (name, value) in &self.settings {
            set(name, value.into());
        }
        arguments
    }
}

fn check_setting(name: &str, value: &str) -> Result<()> {
    let invalid = |reason| {
        Err(Error::InvalidSetting {
            name: name.to_owned(),
            reason,
        })
    };
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    match name {
        _ if name.is_empty() || !name.chars().all(named) => invalid("a name consists of letters, digits, `_` and `.`"),
        _ if value.contains('\0') => invalid("the value contains a NUL byte"),
        "port" | "listen_addresses" | "unix_socket_directories" | "logging_collector" | "data_directory" => {
            invalid("a private server chooses this itself")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_the_server_depends_on_are_refused() {
        for name in ["port", "listen_addresses", "", "work mem"] {
            assert!(check_setting(name, "1").is_err(), "{name}");
        }
        assert!(check_setting("work_mem", "1MB").is_ok());
    }

    #[test]
    fn a_key_is_not_shown() {
        let options = Options {
            tls: Some(("certificate".into(), Secret::new("secret key".into()))),
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
