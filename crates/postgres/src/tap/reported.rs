//! The settings whose values the server reports, such as the time zone and the role.
//!
//! Invariant: at the end of a transaction, a reported value that differs from that at the end of the previous one is
//! noticed.

/// The splitter keeps this many bytes of a message; a longer report is incomplete.
const CUT_OFF: usize = super::frame_splitter::KEPT;

/// The reported values, now and at the end of the last transaction.
#[derive(Default)]
pub(super) struct Reported {
    settings: Vec<Setting>,
    /// A value may differ.
    changed: bool,
}

struct Setting {
    name: Box<[u8]>,
    /// The value at the end of the last transaction. `None` if it was too long to be kept; such a value counts as
    /// different.
    before: Option<Box<[u8]>>,
    now: Option<Box<[u8]>>,
}

impl Reported {
    /// Takes the body of a ParameterStatus message: name and value, each with a zero byte at its end.
    pub(super) fn set(&mut self, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0);
        let name = parts.next().unwrap_or_default();
        let now = match body.len() < CUT_OFF {
            true => parts.next().map(Box::from),
            false => None,
        };
        self.changed = true;
        match self.settings.iter_mut().find(|setting| *setting.name == *name) {
            Some(setting) => setting.now = now,
            None => self.settings.push(Setting {
                name: name.into(),
                before: None,
                now,
            }),
        }
    }

    /// Returns whether any value differs from that of the last call.
    pub(super) fn settle(&mut self) -> bool {
        if !std::mem::take(&mut self.changed) {
            return false;
        }
        let mut differs = false;
        for setting in &mut self.settings {
            differs |= setting.now.is_none() || setting.now != setting.before;
            setting.before.clone_from(&setting.now);
        }
        differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_start() -> Reported {
        let mut reported = Reported::default();
        reported.set(b"TimeZone\0UTC\0");
        reported.set(b"is_superuser\0off\0");
        reported.settle();
        reported
    }

    #[test]
    fn what_comes_back_within_a_transaction_has_not_changed() {
        let mut reported = after_start();
        assert!(!reported.settle());
        reported.set(b"TimeZone\0CET\0");
        reported.set(b"TimeZone\0UTC\0");
        assert!(!reported.settle());
    }

    #[test]
    fn a_change_is_told_once() {
        let mut reported = after_start();
        reported.set(b"TimeZone\0CET\0");
        assert!(reported.settle());
        assert!(!reported.settle());
        reported.set(b"TimeZone\0UTC\0");
        assert!(reported.settle());
        reported.set(b"in_hot_standby\0off\0");
        assert!(reported.settle());
    }

    #[test]
    fn what_is_too_long_to_be_compared_counts_as_changed() {
        let mut reported = after_start();
        let long = [&b"application_name\0"[..], &[b'x'; 60], b"\0"].concat();
        for _ in 0..2 {
            reported.set(&long[..CUT_OFF]);
            assert!(reported.settle());
        }
    }
}
