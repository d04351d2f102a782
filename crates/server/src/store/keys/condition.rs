//! The condition of a change. Invariant: the database compares, with the version that is current while the row is locked.

/// The version of a key without a value. No value has it: the first write makes version 1.
pub(crate) const ABSENT: i64 = 0;

/// A condition on the current version of a key; [`ABSENT`] if it has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The version is one of these.
    Among(Vec<i64>),
    /// The version is none of these.
    Unlike(Vec<i64>),
}

impl Condition {
    pub(crate) fn holds(&self, version: i64) -> bool {
        match self {
            Self::Among(versions) => versions.contains(&version),
            Self::Unlike(versions) => !versions.contains(&version),
        }
    }

    /// Returns the condition that holds where both hold.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Among(mut versions), other) | (other, Self::Among(mut versions)) => {
                versions.retain(|version| other.holds(*version));
                Self::Among(versions)
            }
            (Self::Unlike(mut versions), Self::Unlike(others)) => {
                versions.extend(others);
                Self::Unlike(versions)
            }
        }
    }

    /// Returns about the number of bytes that the condition adds to a statement.
    pub(super) fn bytes(&self) -> usize {
        let (Self::Among(versions) | Self::Unlike(versions)) = self;
        versions.len() * size_of::<i64>()
    }

    /// Returns the versions that must match and those that must not, each as the text of a PostgreSQL array. Arrays of
    /// different lengths cannot be sent as one array of arrays.
    pub(super) fn arrays(&self) -> [Option<String>; 2] {
        match self {
            Self::Among(versions) => [Some(array(versions)), None],
            Self::Unlike(versions) => [None, Some(array(versions))],
        }
    }
}

fn array(versions: &[i64]) -> String {
    let versions: Vec<String> = versions.iter().map(i64::to_string).collect();
    format!("{{{}}}", versions.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn condition() -> impl Strategy<Value = Condition> {
        let versions = proptest::collection::vec(0_i64..6, 0..5);
        (any::<bool>(), versions).prop_map(|(among, versions)| match among {
            true => Condition::Among(versions),
            false => Condition::Unlike(versions),
        })
    }

    proptest! {
        #[test]
        fn two_conditions_hold_together_where_each_does(one in condition(), other in condition()) {
            let both = one.clone().and(other.clone());
            for version in 0..7 {
                prop_assert_eq!(both.holds(version), one.holds(version) && other.holds(version));
            }
        }
    }
}
