//! What a server may be asked to be: primary or standby, writable or not. Invariant: the names and their meaning are
//! libpq's.

use tokio_postgres::{Client, SimpleQueryMessage, config::TargetSessionAttrs};

use crate::ConnectionError;

/// Asks for a role in one round trip. Outside a transaction the second is that of the session's next one.
const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";

/// Which servers a pool connects to: libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSession {
    /// Any.
    #[default]
    Any,
    /// Those whose sessions may write: a primary whose `default_transaction_read_only` is off.
    ReadWrite,
    /// Those whose sessions may not write.
    ReadOnly,
    /// The primary.
    Primary,
    /// Standbys.
    Standby,
    /// Standbys; if none is to be had, any.
    PreferStandby,
}

/// What a server is, as far as a session sees it.
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

    /// The one that libpq calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, target)| *target)
    }

    /// libpq's name.
    pub fn as_str(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, target)| *target == self);
        found.map_or("any", |(name, _)| name)
    }

    /// Whether a server of this role is what is looked for.
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
    /// The role as servers since PostgreSQL 14 report it by themselves when a session starts.
    pub(crate) fn reported<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let standby = parameter("in_hot_standby")? == "on";
        let read_only = parameter("default_transaction_read_only")? == "on";
        Some(Self {
            standby,
            read_only: standby || read_only,
        })
    }

    /// Asks the server.
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
