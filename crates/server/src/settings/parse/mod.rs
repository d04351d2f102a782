//! The kinds of value that a setting can have: how each is parsed, printed and described.
//!
//! Invariant: for every kind `parse(show(value)) == value`, unless the kind is secret. No parser panics, and no
//! complaint quotes the text: the caller knows whether it may.
//!
//! A type of another part of the service needs no kind of its own: [`Parsed`] takes its parser. [`List`] takes several
//! values of a kind.

mod choice;
mod database;
mod duration;
mod host;
mod list;
mod number;
mod text;

pub(crate) use choice::{OneOf, Switch};
pub(crate) use database::{DatabaseUrl, RedisServers};
pub(crate) use duration::{Milliseconds, PositiveSeconds, Seconds, SecondsOrOff};
pub(crate) use host::{DatabaseHost, ListenHost};
pub(crate) use list::List;
pub(crate) use number::{Bytes, Whole};
pub(crate) use text::{Location, Parsed, Password, Text};

/// How the documentation describes a kind: what stands for the value in `--help`, and the values that are allowed.
pub(crate) struct Form(pub(crate) &'static str, pub(crate) String);

/// A kind of value.
pub(crate) trait Kind: Sync {
    /// The value after parsing.
    type Value: Clone + PartialEq;

    /// Whether the value is secret.
    const SECRET: bool = false;
    /// Whether a complaint may quote the text. A URL with a password is easily written in place of a host or a name.
    const QUOTED: bool = true;
    /// Whether the bare flag means `true`.
    const SWITCH: bool = false;

    /// Parses the value. The error continues a sentence that starts with the value: "is not a whole number".
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// Prints the value, without its secrets.
    fn show(&self, value: &Self::Value) -> String;

    /// Describes the values that are allowed.
    fn form(&self) -> Form;

    /// Whether a value may hold this character.
    fn allows(&self, c: char) -> bool {
        !c.is_control() && !is_invisible(c)
    }
}

/// Joiners, spaces of no width, marks of direction and of byte order: they are copied along with a text, unseen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Kinds without parameters: `Name: Value, "PLACEHOLDER", "description", parse, show, { what differs from a usual kind };`
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $value:ty, $placeholder:literal, $description:literal, $parse:expr, $show:expr
        $(, { $($overruled:item)* })?;)*) => { $(
        $(#[$doc])*
        pub(crate) struct $name;

        impl $crate::settings::parse::Kind for $name {
            type Value = $value;
            $($($overruled)*)?

            fn parse(&self, text: &str) -> Result<$value, String> {
                $parse(text)
            }

            fn show(&self, value: &$value) -> String {
                $show(value)
            }

            fn form(&self) -> $crate::settings::parse::Form {
                $crate::settings::parse::Form($placeholder, $description.to_owned())
            }
        }
    )* };
}
use kinds;
