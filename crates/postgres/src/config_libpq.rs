//! A configuration from what a machine has for libpq: a service file, the `PG*` variables and a passfile.
//!
//! Invariant: nothing of this is read unless [`Config::from_libpq`] is called.

use std::path::PathBuf;

use tokio_postgres::config::Host;

use crate::{
    Config, InvalidConfig, InvalidUrl,
    connect::{
        credentials::Password,
        passfile::Wanted,
        url::libpq_defaults::{Completed, Variables, complete},
    },
};

/// The default of libpq, for which a passfile says `localhost`.
const DEFAULT_SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl Config {
    /// Creates a configuration with defaults from a connection string, and takes what it does not set from where `psql` takes it,
    /// in this order:
    ///
    /// 1. the service that `service=` or `PGSERVICE` names, in `PGSERVICEFILE`, `~/.pg_service.conf` or
    ///    `$PGSYSCONFDIR/pg_service.conf`
    /// 2. the variables `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE` and so on
    /// 3. without a host: the socket in `/var/run/postgresql` or `/tmp`; without a database: the one named as the user
    /// 4. without a password: the passfile of `passfile=` or `PGPASSFILE`, or `~/.pgpass`. It must not be readable by others. It is
    ///    read again for each new connection.
    ///
    /// The string may be empty. Reads files, so call it before the work of a runtime begins.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = cenote_postgres::Config::from_libpq("service=shop")?;
    /// let whatever_psql_uses = cenote_postgres::Config::from_libpq("")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`from_url`](Self::from_url), also for what was added; there is no such service; or the passfile has different passwords
    /// for several hosts. No error quotes a value.
    pub fn from_libpq(text: &str) -> Result<Self, InvalidConfig> {
        of(text, &|name| std::env::var(name).ok())
    }
}

fn of(text: &str, variables: Variables<'_>) -> Result<Config, InvalidConfig> {
    let Completed { options, passfile } = complete(text, variables)?;
    let mut config = options.config()?;
    let server = &mut config.server;
    if server.get_user().is_none()
        && let Some(user) = ["USER", "LOGNAME"].iter().find_map(|name| variables(name))
    {
        server.user(user);
    }
    if server.get_dbname().is_none()
        && let Some(user) = server.get_user().map(str::to_owned)
    {
        server.dbname(user);
    }
    if server.get_password().is_none()
        && let Some(path) = passfile
    {
        config.password = from_passfile(&config, path)?;
    }
    Ok(config)
}

fn from_passfile(config: &Config, path: PathBuf) -> Result<Option<Password>, InvalidUrl> {
    let server = &config.server;
    let (Some(user), Some(database)) = (server.get_user(), server.get_dbname()) else {
        return Ok(None);
    };
    let names = server.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => match path.to_str() {
            Some(path) if !DEFAULT_SOCKETS.contains(&path) => path.to_owned(),
            _ => "localhost".to_owned(),
        },
    });
    let mut hosts: Vec<String> = names.collect();
    if hosts.is_empty() {
        hosts = server.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let ports = server.get_ports();
    let wanted = hosts.into_iter().enumerate().map(|(index, host)| Wanted {
        host,
        port: *ports.get(index).or(ports.first()).unwrap_or(&5432),
        database: database.to_owned(),
        user: user.to_owned(),
    });
    let password = Password::from_passfile(path, wanted.collect());
    password.map_err(|problem| format!("has no password, and its passfile cannot be used: {problem}").into())
}

#[cfg(test)]
#[path = "config_libpq_tests.rs"]
mod tests;
