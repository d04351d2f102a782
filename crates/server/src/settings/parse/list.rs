//! Lists whose items are separated by commas.
//!
//! Invariant: no item is empty, and none holds a comma.

use super::{Form, Kind};

/// Values of one kind, at least one, separated by commas. Blanks around a comma do not count.
pub(crate) struct List<K>(pub(crate) K);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    const SECRET: bool = K::SECRET;
    const QUOTED: bool = K::QUOTED;

    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        if text.trim().is_empty() {
            return Err("is empty".into());
        }
        let item = |text: &str| match text {
            "" => Err("has an empty item".into()),
            _ => self.0.parse(text),
        };
        text.split(',').map(|text| item(text.trim())).collect()
    }

    fn show(&self, values: &Self::Value) -> String {
        let items: Vec<_> = values.iter().map(|value| self.0.show(value)).collect();
        items.join(",")
    }

    fn form(&self) -> Form {
        let Form(placeholder, values) = self.0.form();
        Form(placeholder, format!("{values}; several are separated by commas"))
    }

    fn allows(&self, c: char) -> bool {
        self.0.allows(c)
    }
}
