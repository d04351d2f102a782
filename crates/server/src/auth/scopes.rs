//! What a caller may do: a set of scopes. Invariant: no scope implies another, so what is not named is not granted.

use std::fmt;

/// A permission. Each route needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Scope {
    /// Read keys and users.
    Read = 1,
    /// Change keys and users.
    Write = 1 << 1,
    /// Operate the service.
    Admin = 1 << 2,
    /// Read the metrics.
    Metrics = 1 << 3,
}

impl Scope {
    /// All scopes, in the order in which they are shown.
    pub(crate) const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Admin, Self::Metrics];

    /// The scope's name in keys, tokens and messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// Finds a scope by its exact name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub(crate) const ALL: Self = Self::of(&Scope::ALL);

    /// The set of these scopes.
    pub(crate) const fn of(scopes: &[Scope]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < scopes.len() {
            bits |= scopes[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Whether the scope is in the set.
    pub(crate) const fn has(self, scope: Scope) -> bool {
        self.0 & scope as u8 != 0
    }

    /// Whether the set is empty.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a scope.
    pub(crate) fn add(&mut self, scope: Scope) {
        self.0 |= scope as u8;
    }

    /// The scopes of both sets.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The scopes of a list that spaces or commas separate. Names that are no scope are ignored: a token usually has
    /// scopes of other services too.
    pub(crate) fn of_known(list: &str) -> Self {
        let mut scopes = Self::default();
        names(list)
            .filter_map(Scope::of_name)
            .for_each(|scope| scopes.add(scope));
        scopes
    }

    /// Parses a list that spaces or commas separate.
    ///
    /// # Errors
    ///
    /// A name that is no scope, or no name at all. The complaint continues a sentence that starts with the list.
    pub(crate) fn parse(list: &str) -> Result<Self, String> {
        let mut scopes = Self::default();
        for name in names(list) {
            match Scope::of_name(name) {
                Some(scope) => scopes.add(scope),
                None => return Err(format!("holds {name:?}, which is not a scope: {}", Self::ALL)),
            }
        }
        match scopes.is_empty() {
            true => Err(format!("names no scope: {}", Self::ALL)),
            false => Ok(scopes),
        }
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split([' ', ',']).filter(|name| !name.is_empty())
}

/// The names, separated by commas.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for scope in Scope::ALL.into_iter().filter(|scope| self.has(*scope)) {
            write!(f, "{separator}{}", scope.name())?;
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_separated_by_spaces_or_commas_and_shown_with_commas() {
        for list in ["read,write", "write read", " read, write ", "read read,,write"] {
            assert_eq!(Scopes::parse(list).unwrap().to_string(), "read,write", "{list:?}");
        }
    }

    #[test]
    fn no_scope_implies_another() {
        for scope in Scope::ALL {
            let alone = Scopes::of(&[scope]);
            for other in Scope::ALL {
                assert_eq!(alone.has(other), scope == other, "{scope:?} and {other:?}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused_in_a_key_and_ignored_in_a_token() {
        for list in ["", " , ", "read,wrote", "Read", "admin*"] {
            assert!(Scopes::parse(list).is_err(), "{list:?}");
        }
        assert_eq!(
            Scopes::of_known("openid read Write profile"),
            Scopes::of(&[Scope::Read])
        );
        assert!(Scopes::of_known("openid").is_empty());
    }
}
