//! What libpq adds to a connection string: a service, the `PG*` variables, the default socket, and where the passfile is.
//!
//! Invariant: an option of the string wins over one of the service, and that over a variable.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    ConnectionString, conninfo,
    options::{Given, Options, Result},
};
use crate::{InvalidUrl, connect::service_file};

/// libpq's variables and their options.
const VARIABLES: [(&str, &str); 33] = [
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCLIENTENCODING", "client_encoding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGGSSDELEGATION", "gssdelegation"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGGSSLIB", "gsslib"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGKRBSRVNAME", "krbsrvname"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGMAXPROTOCOLVERSION", "max_protocol_version"),
    ("PGMINPROTOCOLVERSION", "min_protocol_version"),
    ("PGOPTIONS", "options"),
    ("PGPASSFILE", "passfile"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLCOMPRESSION", "sslcompression"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// The directory of the socket, where one of these is: as Debian builds libpq, and as PostgreSQL does.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// The variables of the environment.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A connection string with what libpq adds.
pub(crate) struct Completed {
    pub(crate) options: ConnectionString,
    /// The passfile, if there may be one. It counts only if no password is given.
    pub(crate) passfile: Option<PathBuf>,
}

/// The options so far: a value that is there is not replaced.
#[derive(Default)]
struct Collected(BTreeMap<String, (Given, Origin)>);

/// Where an option comes from.
enum Origin {
    Text,
    Service,
    Variable(&'static str),
}

impl Collected {
    fn add(&mut self, name: &str, value: String, origin: Origin) {
        let value = || (Given::new(name, value), origin);
        self.0.entry(name.to_owned()).or_insert_with(value);
    }

    /// Takes an option out. An empty one counts as not set.
    fn take(&mut self, name: &str) -> Option<String> {
        let (given, _) = self.0.remove(name)?;
        Some(given.value).filter(|value| !value.is_empty())
    }
}

/// Completes a connection string, which may be empty.
pub(crate) fn complete(text: &str, variables: Variables<'_>) -> Result<Completed> {
    let mut collected = Collected::default();
    if !text.trim_ascii().is_empty() {
        for given in conninfo::read(text)? {
            // The last one counts.
            collected.0.insert(given.name.clone(), (given, Origin::Text));
        }
    }
    for (name, value) in service(&mut collected, variables)? {
        collected.add(&name, value, Origin::Service);
    }
    for (variable, option) in VARIABLES {
        if let Some(value) = variables(variable) {
            collected.add(option, value, Origin::Variable(variable));
        }
    }
    let passfile = collected.take("passfile").map(PathBuf::from);
    let mut options = Options::default();
    for (given, origin) in collected.0.into_values() {
        options.take(given).map_err(|problem| match origin {
            Origin::Text => problem,
            Origin::Service => InvalidUrl::from(format!("uses a service that {problem}")),
            Origin::Variable(name) => format!("is completed by {name}, and {problem}").into(),
        })?;
    }
    if options.get("host").or(options.get("hostaddr")).is_none() {
        let mut sockets = SOCKETS.into_iter();
        let socket = sockets.find(|directory| Path::new(directory).is_dir());
        options.set("host", socket.unwrap_or("localhost").to_owned());
    }
    Ok(Completed {
        options: ConnectionString(options),
        passfile: passfile.or_else(|| Some(home(variables)?.join(".pgpass"))),
    })
}

/// Returns the options of the service that is asked for, if one is.
fn service(collected: &mut Collected, variables: Variables<'_>) -> Result<Vec<(String, String)>> {
    let file = collected.take("servicefile").or_else(|| variables("PGSERVICEFILE"));
    let Some(name) = collected.take("service").or_else(|| variables("PGSERVICE")) else {
        return Ok(Vec::new());
    };
    let own = file
        .map(PathBuf::from)
        .or_else(|| Some(home(variables)?.join(".pg_service.conf")));
    let shared = variables("PGSYSCONFDIR").map(|folder| Path::new(&folder).join("pg_service.conf"));
    for file in own.into_iter().chain(shared) {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("uses a service whose file cannot be read: {error}").into()),
        };
        if let Some(options) = service_file::find(&text, &name)? {
            return Ok(options);
        }
    }
    Err("uses a service that is in no service file (PGSERVICEFILE, ~/.pg_service.conf)".into())
}

fn home(variables: Variables<'_>) -> Option<PathBuf> {
    variables("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}
