//! The settings of the service: command line over environment over `.env` over a TOML file over the default.
//!
//! Invariant: nothing here reads the process's environment or current directory on its own, and a
//! [`Settings`] value exists only if every setting in force passed every check.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let matches = clap::Command::new("serve").args(cenote::settings::args()).get_matches();
//! let loaded = cenote::settings::load(&matches, std::env::vars_os(), &std::env::current_dir()?)?;
//! print!("{}", loaded.report.text());
//! # Ok(())
//! # }
//! ```

mod assemble;
mod database;
pub mod docs;
mod dotenv;
mod duration;
mod error;
mod foreign;
mod near;
mod parse;
mod redis;
mod report;
mod resolve;
mod schema_name;
mod server;
mod sources;
mod table;
mod typed;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

pub use cenote_secret::Secret;
pub use error::{Problem, SettingsErrors};
pub use report::{Report, ReportRow};
pub use schema_name::SchemaName;
pub use sources::{Origin, args};
pub use typed::{
    CacheFeed, CacheMode, CacheSettings, HttpSettings, LogFormat, LogSettings, Migrate, PoolSettings, RedisTls,
    RetrySettings, Settings, ShutdownSettings, StatementSettings,
};

use parse::Kind;
use resolve::{Found, Resolver};
use sources::{Cited, Layer};

/// The TOML file that is read if it exists and no other is named.
const DEFAULT_FILE: &str = "cenote.toml";

/// Settings that passed every check, and how they came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the rest of the program needs.
    pub settings: Settings,
    /// What is in force and where it comes from.
    pub report: Report,
    /// What looks wrong but need not be, one line each: misspelt names, a URL that is not used.
    pub warnings: Vec<String>,
}

/// Reads the settings.
///
/// `matches` comes from a command with [`args`], `environment` is usually [`std::env::vars_os`], and `directory` is
/// where `.env` and `cenote.toml` are looked for and relative paths start.
///
/// # Errors
///
/// All problems at once: names, values, conflicts, files that cannot be read. No message holds a secret.
pub fn load<K, V>(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (K, V)>,
    directory: &Path,
) -> Result<Loaded, SettingsErrors>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    let variables: Vec<(OsString, OsString)> = environment
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let mut resolver = Resolver::new(directory);
    resolver.push(sources::command_line(matches));
    resolver.push(sources::environment(&variables));
    resolver.push(sources::dotenv(&directory.join(".env"), &variables));
    let file = file_layer(&mut resolver, directory);
    resolver.push(file);
    let settings = assemble::settings(&mut resolver);
    if !resolver.problems.is_empty() {
        return Err(SettingsErrors::new(resolver.problems));
    }
    Ok(Loaded {
        settings,
        report: Report::new(resolver.shown),
        warnings: resolver.warnings,
    })
}

fn file_layer(resolver: &mut Resolver<'_>, directory: &Path) -> Layer {
    let setting = &table::CENOTE_CONFIG;
    let found = resolver.search(setting, resolver.everywhere());
    resolver.show_found(setting, &found);
    let (path, origin) = match found {
        Found::Value(path, origin) => (path, origin),
        Found::Unreadable => return Layer::default(),
        Found::Nothing => (PathBuf::from(DEFAULT_FILE), Origin::Default),
    };
    let shown = setting.kind.show(&path).escape_debug().to_string();
    match fs::read_to_string(directory.join(&path)) {
        Ok(text) => {
            resolver.show(setting, &path, origin);
            sources::toml(&text, &shown)
        }
        Err(error) if origin == Origin::Default && error.kind() == io::ErrorKind::NotFound => Layer::default(),
        Err(error) => {
            let cited = Cited(setting.about.name(), &origin);
            let message = format!("cannot read {shown:?}: {error}");
            resolver.problem(cited, message);
            Layer::default()
        }
    }
}
