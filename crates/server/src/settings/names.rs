//! The names of each setting: principal name and aliases, each also with `_FILE`.
//!
//! Invariant: no name stands for two settings.

use super::resolve::Row;
use super::table::TABLE;

/// A name of a setting.
pub(super) struct Named {
    pub(super) row: &'static dyn Row,
    /// The name in full, with `_FILE` if the text is the path of the file that holds the value.
    pub(super) name: String,
    pub(super) is_file: bool,
}

impl Named {
    /// The flag without its dashes: `DB_HOST` is `db-host`.
    pub(super) fn flag(&self) -> String {
        // Every flag is cenote's own already.
        let name = self.name.strip_prefix("CENOTE_").unwrap_or(&self.name);
        name.to_ascii_lowercase().replace('_', "-")
    }
}

/// Returns every name of every setting.
pub(super) fn all_names() -> impl Iterator<Item = Named> {
    TABLE.iter().flat_map(|row| {
        let names = row.about().names.iter();
        let named = names.flat_map(|name| [(name.to_string(), false), (format!("{name}_FILE"), true)]);
        let named = named.filter(|(_, is_file)| !is_file || row.about().may_be_in_file());
        named.map(|(name, is_file)| Named {
            row: *row,
            name,
            is_file,
        })
    })
}

/// Finds an exact name.
pub(super) fn find(name: &str) -> Option<Named> {
    all_names().find(|named| named.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_stands_for_two_settings() {
        let mut seen = HashSet::new();
        for named in all_names() {
            assert!(seen.insert(named.name.clone()), "{}", named.name);
            let found = find(&named.name).unwrap();
            assert_eq!(found.name, named.name);
        }
        assert!(find("DB_HOST_FILE_FILE").is_none());
        assert!(find("db_host").is_none());
    }
}
