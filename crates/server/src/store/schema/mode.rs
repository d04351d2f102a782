//! How far `serve` goes when the schema is not up to date.
//!
//! Invariant: the words are those of the setting `MIGRATE`.

/// What `serve` does about a schema that is not up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrate {
    /// It adds what is missing.
    #[default]
    Auto,
    /// It ends with an error that names what is missing.
    Check,
    /// It does not look.
    Off,
}

impl Migrate {
    pub(crate) const WORDS: &[(&'static str, Self)] =
        &[("auto", Self::Auto), ("check", Self::Check), ("off", Self::Off)];
}
