//! Compares the settings in force with those of a later load.
//!
//! Invariant: values are compared as they were parsed, so another spelling of a value is no change; secrets are compared
//! as texts and never printed.

use super::report::Report;
use super::resolve::{About, Reload};
use super::table::TABLE;

/// The settings that differ, in the order of the documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes(Vec<Change>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    name: &'static str,
    reload: Reload,
}

impl Changes {
    /// Compares the settings in force with others.
    pub(crate) fn between(running: &Report, loaded: &Report) -> Self {
        let rows = TABLE.iter().zip(running.rows().iter().zip(loaded.rows()));
        let changed = rows.filter(|(_, (before, after))| !before.has_value_of(after));
        let change = |about: &About| Change {
            name: about.name(),
            reload: about.reload,
        };
        Self(changed.map(|(row, _)| change(row.about())).collect())
    }

    /// Notes that these are not applied, because what they belong to is not in use, or something else needs a restart too.
    pub(crate) fn hold_back(&mut self, names: &[&str]) {
        self.set(names, Reload::Restart);
    }

    /// Notes that nothing but the password of this URL is new.
    pub(crate) fn only_password_of(&mut self, url: &str) {
        self.set(&[url], Reload::Live);
    }

    fn set(&mut self, names: &[&str], reload: Reload) {
        for change in self.0.iter_mut().filter(|change| names.contains(&change.name)) {
            change.reload = reload;
        }
    }

    /// Notes that what a setting stands for has changed, such as the content of a file, or what an administrator set.
    pub(crate) fn note(&mut self, name: &'static str) {
        if self.0.iter().any(|change| change.name == name) {
            return;
        }
        let reload = Reload::Live;
        self.0.push(Change { name, reload });
        let place = |name| TABLE.iter().position(|row| row.about().name() == name);
        self.0.sort_by_key(|change| place(change.name));
    }

    /// The names of those that a reload applies.
    pub(crate) fn live(&self) -> Vec<&'static str> {
        self.named(|reload| reload == Reload::Live)
    }

    /// The names of those that need a restart.
    pub(crate) fn restart(&self) -> Vec<&'static str> {
        self.named(|reload| reload != Reload::Live)
    }

    fn named(&self, is_wanted: impl Fn(Reload) -> bool) -> Vec<&'static str> {
        let wanted = self.0.iter().filter(|change| is_wanted(change.reload));
        wanted.map(|change| change.name).collect()
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
        let changes = Changes::between(&report(before), &report(after));
        (changes.live(), changes.restart())
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
            assert_eq!(Changes::between(&one, &other).restart(), [name]);
            let printed = format!("{one:?} {} {}", one.text(), one.json());
            assert!(!printed.contains("hunter"), "{printed}");
        }
    }

    #[test]
    fn what_is_not_adopted_differs_still() {
        let (mut running, loaded) = (report(&[]), report(&[("PORT", "1"), ("LOG", "warn")]));
        running.adopt(loaded.clone(), &["PORT"]);
        let changes = Changes::between(&running, &loaded);
        assert_eq!((changes.live(), changes.restart()), (vec![], vec!["PORT"]));
    }

    #[test]
    fn what_is_held_back_needs_a_restart_and_what_is_noted_is_live_in_the_order_of_the_documentation() {
        let after = [
            ("LOG", "warn"),
            ("TLS_CERT", "a"),
            ("TLS_KEY", "b"),
            ("DATABASE_URL", "postgres://h"),
        ];
        let mut changes = Changes::between(&report(&[]), &report(&after));
        changes.note("DB_POOL_MAX_SIZE");
        changes.note("LOG");
        changes.hold_back(&["TLS_CERT", "TLS_KEY", "PORT"]);
        assert_eq!(changes.live(), ["DB_POOL_MAX_SIZE", "LOG"]);
        assert_eq!(changes.restart(), ["DATABASE_URL", "TLS_CERT", "TLS_KEY"]);
        changes.only_password_of("DATABASE_URL");
        assert_eq!(changes.live(), ["DATABASE_URL", "DB_POOL_MAX_SIZE", "LOG"]);
    }
}
