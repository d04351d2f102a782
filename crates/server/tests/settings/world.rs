//! Arguments, environment and files from which a test loads the settings.
//!
//! Invariant: nothing of the real environment is used.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use cenote::settings::{self, Loaded, Settings, SettingsErrors};
use cenote_postgres::Config;
use tempfile::TempDir;
use tokio_postgres::config::Host;

/// Built once, because the checks of clap take long without optimization.
static COMMAND: LazyLock<clap::Command> = LazyLock::new(|| {
    let mut command = clap::Command::new("serve").no_binary_name(true).args(settings::args());
    command.build();
    command
});

/// The arguments, environment and files of a start.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join(name), text).unwrap();
        self
    }

    pub(crate) fn load(&self) -> Result<Loaded, SettingsErrors> {
        let matches = COMMAND.clone().get_matches_from(&self.args);
        settings::load(&matches, self.env.clone(), self.directory.path())
    }

    pub(crate) fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    pub(crate) fn settings(&self) -> Settings {
        self.loaded().settings
    }

    pub(crate) fn errors(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    pub(crate) fn origin(&self, name: &str) -> String {
        self.loaded().report.origin(name).unwrap().to_string()
    }
}

pub(crate) fn env(variables: &[(&str, &str)]) -> World {
    variables
        .iter()
        .fold(World::new(), |world, (name, value)| world.env(name, value))
}

pub(crate) fn host(config: &Config) -> String {
    match config.server.get_hosts() {
        [Host::Tcp(name)] => name.clone(),
        hosts => format!("{hosts:?}"),
    }
}

/// The smallest and the largest size of the pool.
pub(crate) fn sizes(settings: &Settings) -> (u32, u32) {
    let pool = &settings.postgres.pool;
    (pool.min_size.unwrap(), pool.max_size)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
