//! Compares the settings in force with those of a later load.
//!
//! Invariant: values are compared as they were parsed, so another spelling of a value is no change; secrets are compared
//! as texts and never printed.

use super::report::Report;
use super::resolve::{Reload, Row};
use super::table::TABLE;

/// The settings that differ, by principal name, in the order of the documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// A reload applies them.
    pub(crate) live: Vec<&'static str>,
    /// They need a restart.
    pub(crate) restart: Vec<&'static str>,
}

impl Changes {
    /// Compares the settings in force with others.
    pub(crate) fn between(running: &Report, loaded: &Report) -> Self {
        let mut changes = Self::default();
        let rows = TABLE.iter().zip(running.rows()).zip(loaded.rows());
        for ((row, before), after) in rows {
            if !before.has_value_of(after) {
                changes.add(*row);
            }
        }
        changes
    }

    fn add(&mut self, row: &dyn Row) {
        let about = row.about();
        match about.reload {
            Reload::Live => self.live.push(about.name()),
            Reload::Restart => self.restart.push(about.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;
    use crate::settings::{args, load};

    fn report(variables: &[(&str, &str)]) -> Report {
        let matches = Command::new("serve").args(args()).get_matches_from(["serve"]);
        let directory = tempfile::tempdir().unwrap();
        let loaded = load(&matches, variables.iter().copied(), directory.path());
        loaded.unwrap().report
    }

    fn changes(before: &[(&str, &str)], after: &[(&str, &str)]) -> (Vec<&'static str>, Vec<&'static str>) {
        let Changes { live, restart } = Changes::between(&report(before), &report(after));
        (live, restart)
    }

    #[test]
    fn another_spelling_or_another_place_of_a_value_is_no_change() {
        for (before, after) in [
            (("LOG", "info, cenote=debug"), ("RUST_LOG", "info,cenote=debug")),
            (("DB_POOL_TIMEOUT", "30"), ("DB_POOL_TIMEOUT", "30s")),
            (("HTTP_MAX_BODY", "1m"), ("HTTP_MAX_BODY", "1048576")),
            (("PORT", "8000"), ("PORT", "")),
            (("DB_ECHO", "no"), ("DB_ECHO", "false")),
        ] {
            assert_eq!(changes(&[before], &[after]), (vec![], vec![]), "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_change_is_named_with_what_follows_from_it() {
        let small = [("POOL_PROFILE", "low"), ("PORT", "1")];
        let live = vec!["POOL_PROFILE", "DB_POOL_MIN_SIZE", "DB_POOL_MAX_SIZE"];
        assert_eq!(
            changes(&small, &[("POOL_PROFILE", "high"), ("PORT", "2")]),
            (live, vec!["PORT"])
        );
    }

    #[test]
    fn a_secret_that_changed_is_noticed_and_not_printed() {
        for (name, before, after) in [
            ("AUTH_PEPPER", "hunter2", "hunter3"),
            ("DATABASE_URL", "postgres://u:hunter2@h/d", "postgres://u:hunter3@h/d"),
        ] {
            let (one, other) = (report(&[(name, before)]), report(&[(name, after)]));
            assert_eq!(Changes::between(&one, &other).restart, [name]);
            let printed = format!("{one:?} {} {}", one.text(), one.json());
            assert!(!printed.contains("hunter"), "{printed}");
        }
    }

    #[test]
    fn what_is_not_adopted_differs_still() {
        let (mut running, loaded) = (report(&[]), report(&[("PORT", "1"), ("LOG", "warn")]));
        running.adopt(loaded.clone(), &["PORT"]);
        let expected = Changes {
            live: vec![],
            restart: vec!["PORT"],
        };
        assert_eq!(Changes::between(&running, &loaded), expected);
    }
}
