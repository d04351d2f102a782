//! A user, as the database returns it and as the API shows it. Invariant: its texts are not copied between the two.

use cenote_postgres::tokio_postgres::Row;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User<'a> {
    #[schema(minimum = 1)]
    pub(crate) id: i64,
    #[schema(example = "Ada")]
    pub(crate) name: &'a str,
    #[schema(example = "ada@example.org")]
    pub(crate) email: &'a str,
}

/// A row whose last columns are `id, name, email`.
pub(crate) struct UserRow(pub(super) Row);

impl UserRow {
    pub(crate) fn user(&self) -> User<'_> {
        let first = self.0.len() - 3;
        User {
            id: self.0.get(first),
            name: self.0.get(first + 1),
            email: self.0.get(first + 2),
        }
    }

    pub(super) fn id(&self) -> i64 {
        self.0.get(self.0.len() - 3)
    }
}

impl Serialize for UserRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.user().serialize(serializer)
    }
}
