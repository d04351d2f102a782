//! What is wrong with the settings.
//!
//! Invariant: no message holds a secret.

use std::fmt;

/// All that is wrong with the settings. `Display` prints one line per problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsErrors(pub(super) Vec<SettingProblem>);

impl SettingsErrors {
    /// The problems, in the order in which they were found.
    pub(crate) fn problems(&self) -> &[SettingProblem] {
        &self.0
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// One problem. `Display` prints one line, which begins with the name at fault and the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingProblem {
    pub(super) subject: String,
    pub(super) message: String,
}

impl SettingProblem {
    /// The name at fault as it was written, or the file.
    pub(crate) fn name(&self) -> &str {
        self.subject.split(' ').next().unwrap_or_default()
    }
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}
