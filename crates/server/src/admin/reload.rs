//! Asks for reloads of the settings, and what became of them. Invariant: who asks learns of a reload that read the files
//! after it asked.

use std::fmt;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use crate::settings::{SettingProblem, SettingsErrors};

/// Requests that may wait. A signal beyond them is dropped: the reloads that wait have yet to read the files.
const WAITING: usize = 16;

/// Asks for reloads. Clones ask the same task.
#[derive(Clone, Debug)]
pub(crate) struct Reloads(mpsc::Sender<ReloadRequest>);

/// A request that the task carries out.
#[derive(Debug)]
pub(crate) struct ReloadRequest {
    /// Who asked, for the log.
    pub(crate) by: &'static str,
    /// Gets the result. `None`: the log tells it.
    pub(crate) answer: Option<oneshot::Sender<Result<Reloaded, ReloadRefused>>>,
}

/// What a reload changed. The settings are named by their principal names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// The settings with new values, which hold from now on.
    #[schema(value_type = Vec<String>, example = json!(["LOG"]))]
    pub(crate) applied: Vec<&'static str>,
    /// The settings with new values that will hold after a restart.
    #[schema(value_type = Vec<String>, example = json!(["PORT"]))]
    pub(crate) needs_restart: Vec<&'static str>,
}

/// For the log and the audit: `applied: LOG; needs a restart: PORT`.
impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[&str]| match names {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        write!(
            f,
            "applied: {}; needs a restart: {}",
            list(&self.applied),
            list(&self.needs_restart)
        )
    }
}

/// Why a reload changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReloadRefused {
    /// These settings cannot be used.
    Faults(Vec<Fault>),
    /// The service ends.
    Ending,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its name.
    pub(crate) name: String,
    /// What is wrong with it, and where it was written. No secret.
    pub(crate) problem: String,
}

/// For the audit: `nothing changed: LOG`, with the settings that cannot be used.
impl fmt::Display for ReloadRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing changed")?;
        match self {
            Self::Faults(faults) => {
                let names: Vec<_> = faults.iter().map(|fault| &*fault.name).collect();
                write!(f, ": {}", names.join(", "))
            }
            Self::Ending => Ok(()),
        }
    }
}

impl From<&SettingsErrors> for ReloadRefused {
    fn from(errors: &SettingsErrors) -> Self {
        let fault = |problem: &SettingProblem| Fault {
            name: problem.name().to_owned(),
            problem: problem.to_string(),
        };
        Self::Faults(errors.problems().iter().map(fault).collect())
    }
}

impl Reloads {
    /// Creates the handle, and the receiver for the task.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (requests, received) = mpsc::channel(WAITING);
        (Self(requests), received)
    }

    /// Asks for a reload and does not wait for it.
    pub(crate) fn begin(&self, by: &'static str) {
        // It fails if as many wait as may, or if the service ends.
        let _ = self.0.try_send(ReloadRequest { by, answer: None });
    }

    /// Asks for a reload and waits for its result.
    ///
    /// # Errors
    ///
    /// Nothing was changed: a setting cannot be used, or the service ends.
    ///
    /// # Cancel safety
    ///
    /// A reload that was asked for goes on.
    pub(crate) async fn ask(&self, by: &'static str) -> Result<Reloaded, ReloadRefused> {
        let (answer, answered) = oneshot::channel();
        let answer = Some(answer);
        let sent = self.0.send(ReloadRequest { by, answer }).await;
        sent.map_err(|_| ReloadRefused::Ending)?;
        answered.await.unwrap_or(Err(ReloadRefused::Ending))
    }
}
