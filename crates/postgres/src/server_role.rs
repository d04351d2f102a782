//! The role of a server: primary or standby, writable or not. Invariant: the names and their meaning are libpq's.

use tokio_postgres::{Client, SimpleQueryMessage, config::TargetSessionAttrs};

use crate::ConnectionError;

/// Asks for the role in one round trip. `transaction_read_only` is, outside a transaction, that of the session's next
/// one.
const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";

/// The servers that a pool connects to: libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetSession {
    /// Any server.
    #[default]
    Any,
    /// Servers whose sessions may write: a primary whose `default_transaction_read_only` is off.
    ReadWrite,
    /// Servers whose sessions may not write.
    ReadOnly,
    /// The primary.
    Primary,
    /// Only standbys.
    Standby,
    /// A standby, or any server if there is no standby.
    PreferStandby,
}

/// The role of a server, as a session sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerRole {
    pub(crate) standby: bool,
    pub(crate) read_only: bool,
}

impl TargetSession {
    pub(crate) const NAMES: [(&'static str, Self); 6] = [
        ("any", Self::Any),
        ("read-write", Self::ReadWrite),
        ("read-only", Self::ReadOnly),
        ("primary", Self::Primary),
        ("standby", Self::Standby),
        ("prefer-standby", Self::PreferStandby),
    ];

    /// Returns the value with this name in libpq.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, target)| *target)
    }

    /// Returns the name in libpq.
    pub fn as_str(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, target)| *target == self);
        found.map_or("any", |(name, _)| name)
    }

    /// Whether a server with this role is suitable.
    pub(crate) fn suits(self, role: ServerRole) -> bool {
        match self {
            Self::Any => true,
            Self::ReadWrite => !role.read_only,
            Self::ReadOnly => role.read_only,
            Self::Primary => !role.standby,
            Self::Standby | Self::PreferStandby => role.standby,
        }
    }
}

impl From<TargetSessionAttrs> for TargetSession {
    fn from(attributes: TargetSessionAttrs) -> Self {
        match attributes {
            TargetSessionAttrs::ReadWrite => Self::ReadWrite,
            TargetSessionAttrs::ReadOnly => Self::ReadOnly,
            _ => Self::Any,
        }
    }
}

impl ServerRole {
    /// Returns the role from the parameters of a new session. Servers report them since PostgreSQL 14.
    pub(crate) fn reported<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let standby = parameter("in_hot_standby")? == "on";
        let read_only = parameter("default_transaction_read_only")? == "on";
        Some(Self {
            standby,
            read_only: standby || read_only,
        })
    }

    /// Asks the server for its role.
    pub(crate) async fn ask(client: &Client) -> Result<Self, ConnectionError> {
        let answer = client.simple_query(QUESTION).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.ok_or_else(|| ConnectionError::Failed("the server does not say its role".to_owned()))?;
        Ok(Self {
            standby: row.try_get(0)? == Some("t"),
            read_only: row.try_get(1)? == Some("on"),
        })
    }
}
