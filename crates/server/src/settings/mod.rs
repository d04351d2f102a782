//! The settings of the service: command line over environment over `.env` over a TOML file over the default.
//!
//! Invariant: nothing here reads the process's environment or current directory by itself, and [`load`] returns
//! [`Settings`] only if every setting in force passed every check.

mod changes;
mod database_target;
pub mod docs;
mod foreign;
mod live_password;
mod names;
mod origin;
pub(crate) mod parse;
mod problem;
mod report;
mod resolve;
mod rules;
mod sources;
mod suggest;
mod table;
mod typed;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cenote_cache::{Config as CacheConfig, Mode};
use clap::ArgMatches;

pub use crate::access::OpenGroup;
pub use crate::auth::{AuthConfig, AuthMode, CertificateScopes, ClaimRules, JwksUrl, KeySource};
pub use crate::store::{CacheMode, Migrate, SchemaName};
pub use cenote_secret::Secret;
pub(crate) use changes::Changes;
pub(crate) use live_password::LivePassword;
pub use origin::Origin;
pub(crate) use problem::SettingProblem;
pub use problem::SettingsErrors;
pub use report::{Report, ReportRow};
pub use sources::args;
pub use typed::{RedisFiles, Settings};

use resolve::Resolver;
use table::{CENOTE_CONFIG, TABLE};

/// The name of the service's cache: a part of every key in Redis.
const CACHE_NAME: &str = "kv";

/// The TOML file that is read if it exists and no other is named.
const DEFAULT_FILE: &str = "cenote.toml";

/// Settings that passed every check, and how they came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Every value in force and where it comes from.
    pub report: Report,
    /// What is probably a mistake, one line each: misspelt names, a URL that is not used.
    pub warnings: Vec<String>,
}

/// The sources of the settings other than files. The files are read each time.
#[derive(Clone)]
pub struct Sources {
    matches: ArgMatches,
    variables: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

/// Loads the settings once: see [`Sources`].
///
/// # Errors
///
/// As [`Sources::load`].
pub fn load<K: Into<OsString>, V: Into<OsString>>(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (K, V)>,
    directory: &Path,
) -> Result<Loaded, SettingsErrors> {
    Sources::new(matches, environment, directory).load()
}

impl Sources {
    /// Names the sources, and reads nothing yet.
    ///
    /// `matches` comes from a command with [`args`], and `environment` usually is [`std::env::vars_os`]. `directory` is
    /// where `.env` and `cenote.toml` are looked for, and where relative paths start.
    pub fn new<K: Into<OsString>, V: Into<OsString>>(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (K, V)>,
        directory: &Path,
    ) -> Self {
        let variables = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self {
            matches: matches.clone(),
            variables: variables.collect(),
            directory: directory.to_owned(),
        }
    }

    /// Reads the files and loads the settings. It blocks.
    ///
    /// # Errors
    ///
    /// All problems at once: names, values, conflicts, files that cannot be read. No message holds a secret.
    pub fn load(&self) -> Result<Loaded, SettingsErrors> {
        let mut resolver = Resolver {
            directory: self.directory.clone(),
            ..Resolver::default()
        };
        resolver.add_command_line(&self.matches);
        resolver.add_environment(&self.variables);
        resolver.add_dotenv(&self.directory.join(".env"), &self.variables);
        add_toml_file(&mut resolver);
        let (postgres, password) = database_target::config(&mut resolver);
        let mut settings = Settings {
            postgres,
            database_password: password,
            cache: CacheConfig::new(CACHE_NAME, Mode::Local),
            directory: self.directory.clone(),
            ..Settings::default()
        };
        for row in TABLE {
            row.apply(&mut resolver, &mut settings);
        }
        rules::apply(&mut resolver, &mut settings);
        match resolver.problems.is_empty() {
            true => Ok(Loaded {
                settings,
                report: Report::new(resolver.shown),
                warnings: resolver.warnings,
            }),
            false => Err(SettingsErrors(resolver.problems)),
        }
    }
}

/// May hold secrets of the environment, so it shows none of it.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Reads the TOML file that the sources above it name, or else the default one.
fn add_toml_file(resolver: &mut Resolver) {
    let path = resolver.get(&CENOTE_CONFIG);
    if path.is_none() && resolver.is_set(&CENOTE_CONFIG) {
        return;
    }
    let is_named = path.is_some();
    let path = path.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let shown = path.display().to_string().escape_debug().to_string();
    match fs::read_to_string(resolver.directory.join(&path)) {
        Ok(text) => {
            let origin = resolver.origin(&CENOTE_CONFIG);
            resolver.show(&CENOTE_CONFIG, &path, origin);
            resolver.add_toml(&text, &shown);
        }
        Err(error) if !is_named && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => resolver.problem_with(&CENOTE_CONFIG, format!("cannot read {shown:?}: {error}")),
    }
}
