//! Decides which database the settings mean: `DATABASE_URL`, its parts `DB_HOST` and so on, or none.
//!
//! Invariant: the password of one place never joins the host of another: a URL and parts combine only if they
//! stand in the same layer and do not contradict each other.

use std::ops::Range;
use std::path::PathBuf;

use cenote_postgres::Config;

use super::database::Dsn;
use super::parse::{DatabaseHost, Kind, Password, Text, Whole};
use super::resolve::{Found, Resolver};
use super::sources::{Cited, Origin};
use super::table::{self as t, Setting};

/// The database, or `None` where no setting names one.
pub(crate) fn database(r: &mut Resolver<'_>) -> Option<Config> {
    let url_layer = r.layer_of(&t::DATABASE_URL);
    let parts_layer = [
        r.layer_of(&t::DB_HOST),
        r.layer_of(&t::DB_PORT),
        r.layer_of(&t::DB_USER),
        r.layer_of(&t::DB_PASS),
        r.layer_of(&t::DB_NAME),
    ]
    .into_iter()
    .flatten()
    .min();
    if url_layer.is_none() && r.layer_of(&t::DB_HOST).is_none() {
        refuse_foreign_names(r, parts_layer.is_some());
    }
    match (url_layer, parts_layer) {
        (Some(url), Some(parts)) if parts < url => {
            r.show_nothing(&t::DATABASE_URL);
            let parts = Parts::read(r, 0..url);
            parts.warn_of_replaced_url(r, url);
            parts.into_config(r)
        }
        (Some(url), _) => {
            let parts = Parts::read(r, url..url + 1);
            match r.search(&t::DATABASE_URL, url..url + 1) {
                Found::Value(dsn, origin) => {
                    r.show(&t::DATABASE_URL, &dsn, origin.clone());
                    parts.join(r, dsn, &origin)
                }
                _ => None,
            }
        }
        (None, _) => {
            r.show_nothing(&t::DATABASE_URL);
            Parts::read(r, r.everywhere()).into_config(r)
        }
    }
}

/// Where no setting leads to a server, but some other program's name does, an empty private database, or the one on
/// this machine, would be taken for the right one.
fn refuse_foreign_names(r: &mut Resolver<'_>, has_parts: bool) {
    // A setting that says where the private database is kept asks for one.
    let wants_private = r.layer_of(&t::DATA_DIR).is_some();
    for found in std::mem::take(&mut r.foreign) {
        let counts = match has_parts {
            true => found.names_server(),
            false => !wants_private,
        };
        if counts {
            let consequence = match has_parts {
                true => "; no host is set",
                false => "; no database is set. For an empty private one set DATA_DIR",
            };
            r.problem(Cited("", &found.origin), found.advice() + consequence);
        }
    }
}

struct Part<T>(Option<(T, Origin)>);

impl<T> Part<T> {
    fn read<K: Kind<Value = T>>(r: &mut Resolver<'_>, setting: &Setting<K>, layers: Range<usize>) -> Self {
        let found = r.search(setting, layers);
        r.show_found(setting, &found);
        Self(match found {
            Found::Value(value, origin) => Some((value, origin)),
            _ => None,
        })
    }
}

/// The settings that together do the work of a URL.
struct Parts {
    host: Part<<DatabaseHost as Kind>::Value>,
    port: Part<<Whole<u16> as Kind>::Value>,
    user: Part<<Text as Kind>::Value>,
    password: Part<<Password as Kind>::Value>,
    /// Where the password stands, if that is a file.
    password_file: Option<PathBuf>,
    name: Part<<Text as Kind>::Value>,
}

impl Parts {
    fn read(r: &mut Resolver<'_>, layers: Range<usize>) -> Self {
        Self {
            host: Part::read(r, &t::DB_HOST, layers.clone()),
            port: Part::read(r, &t::DB_PORT, layers.clone()),
            user: Part::read(r, &t::DB_USER, layers.clone()),
            password: Part::read(r, &t::DB_PASS, layers.clone()),
            password_file: r.file_of(&t::DB_PASS, layers.clone()),
            name: Part::read(r, &t::DB_NAME, layers),
        }
    }

    /// How to refer to the parts in a message: by the first of them.
    fn cited(&self) -> Option<Cited<'_>> {
        let host = self.host.0.as_ref().map(|(_, origin)| Cited("DB_HOST", origin));
        let name = self.name.0.as_ref().map(|(_, origin)| Cited("DB_NAME", origin));
        let user = self.user.0.as_ref().map(|(_, origin)| Cited("DB_USER", origin));
        let pass = self.password.0.as_ref().map(|(_, origin)| Cited("DB_PASS", origin));
        let port = self.port.0.as_ref().map(|(_, origin)| Cited("DB_PORT", origin));
        host.or(name).or(user).or(pass).or(port)
    }

    fn warn_of_replaced_url(&self, r: &mut Resolver<'_>, layer: usize) {
        let Some(cited) = self.cited() else { return };
        if let Some(origin) = r.origin_in(&t::DATABASE_URL, layer) {
            let url = Cited("DATABASE_URL", &origin);
            let warning = format!("{url} is not used: {cited} takes precedence and replaces it");
            r.warnings.push(warning);
        }
    }

    /// Builds a configuration from the parts alone.
    fn into_config(self, r: &mut Resolver<'_>) -> Option<Config> {
        let cited = self.cited()?;
        if self.host.0.is_none() && self.user.0.is_none() && self.name.0.is_none() {
            // A leftover password would otherwise lead to some server on this machine.
            r.problem(
                cited,
                "names no database; set DATABASE_URL beside it, or DB_HOST, DB_USER and DB_NAME",
            );
            return None;
        }
        let mut server = tokio_postgres::Config::new();
        match &self.host.0 {
            Some((host, _)) => set_host(&mut server, host),
            None => set_default_host(r, &mut server),
        }
        if let Some((port, _)) = self.port.0 {
            server.port(port);
        }
        if let Some((user, _)) = self.user.0 {
            server.user(user);
        }
        if let Some((password, _)) = self.password.0 {
            server.password(password.expose());
        }
        if let Some((name, _)) = self.name.0 {
            server.dbname(name);
        }
        let mut config = Config::new(server);
        config.password = self.password_file.map(cenote_postgres::Password::from_file);
        Some(config)
    }

    /// Fills in what the URL leaves open; what it says, the parts must say too.
    fn join(self, r: &mut Resolver<'_>, mut dsn: Dsn, url: &Origin) -> Option<Config> {
        let url = Cited("DATABASE_URL", url);
        let differs = |what: &str| format!("differs from the {what} in {url}");
        // The port first: filling it in reads the URL's text again.
        if let Some((port, origin)) = self.port.0 {
            let cited = Cited("DB_PORT", &origin);
            if !dsn.names_port() {
                if let Err(complaint) = dsn.set_port(port) {
                    r.problem(cited, complaint);
                }
            } else if dsn.config.server.get_ports().iter().any(|other| *other != port) {
                r.problem(cited, differs("port"));
            }
        }
        let mut config = dsn.config;
        config.password = self.password_file.map(cenote_postgres::Password::from_file);
        let server = &mut config.server;
        let no_host = server.get_hosts().is_empty() && server.get_hostaddrs().is_empty();
        match self.host.0 {
            Some((host, _)) if no_host => set_host(server, &host),
            Some((host, origin)) => {
                let mut other = tokio_postgres::Config::new();
                set_host(&mut other, &host);
                if other.get_hosts() != server.get_hosts() {
                    r.problem(Cited("DB_HOST", &origin), differs("host"));
                }
            }
            None if no_host => set_default_host(r, server),
            None => {}
        }
        if let Some((user, origin)) = self.user.0 {
            if server.get_user().is_none() {
                server.user(user);
            } else if server.get_user() != Some(&user) {
                r.problem(Cited("DB_USER", &origin), differs("user"));
            }
        }
        if let Some((password, origin)) = self.password.0 {
            let password = password.expose();
            if server.get_password().is_none() {
                server.password(password);
            } else if server.get_password() != Some(password.as_bytes()) {
                r.problem(Cited("DB_PASS", &origin), differs("password"));
            }
        }
        if let Some((name, origin)) = self.name.0 {
            if server.get_dbname().is_none() {
                server.dbname(name);
            } else if server.get_dbname() != Some(&name) {
                r.problem(Cited("DB_NAME", &origin), differs("database name"));
            }
        }
        Some(config)
    }
}

fn set_default_host(r: &mut Resolver<'_>, config: &mut tokio_postgres::Config) {
    let host = "localhost".to_owned();
    config.host(&host);
    r.show(&t::DB_HOST, &host, Origin::Default);
}

fn set_host(config: &mut tokio_postgres::Config, host: &str) {
    for host in host.split(',') {
        config.host(host);
    }
}
