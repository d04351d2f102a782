//! The command line of `cenote key`.
//!
//! Invariant: what is wrong with an argument is said before the database is asked.

use std::time::Duration;

use clap::{Arg, ArgAction, Command, builder::ValueParser};

use crate::{
    auth::{ApiKey, KEY_PREFIX, Scopes},
    limits::Overrides,
    settings,
    store::api_keys::Lifetime,
};

/// How long a replaced key goes on if nothing else is said.
const OVERLAP: &str = "1d";
/// Longest name in characters.
const NAME: usize = 64;
/// The longest time that a key may be set to live: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Which key an operator means.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Id(i64),
    Key(ApiKey),
    Name(String),
}

/// The command line of `cenote key`.
pub(in crate::commands) fn command() -> Command {
    let sub = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let which = || {
        Arg::new("key")
            .required(true)
            .value_name("KEY")
            .value_parser(ValueParser::new(which))
    };
    let expires = || {
        Arg::new("expires")
            .long("expires")
            .value_name("TIME")
            .value_parser(ValueParser::new(lifetime))
            .help("When it expires: 90d, 12h, 30m, or never")
    };
    Command::new("key")
        .about("Create, list, rotate and revoke API keys")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            sub("create", "Create a key and print it, once")
                .arg(
                    Arg::new("name")
                        .long("name")
                        .required(true)
                        .value_name("NAME")
                        .value_parser(ValueParser::new(name))
                        .help("Who uses it, for the log and the list"),
                )
                .arg(
                    Arg::new("scope")
                        .long("scope")
                        .required(true)
                        .value_name("SCOPES")
                        .value_parser(ValueParser::new(Scopes::parse))
                        .help("What it may do: read, write, admin, metrics, separated by commas"),
                )
                .arg(expires())
                .arg(
                    Arg::new("limit")
                        .long("limit")
                        .value_name("LIMITS")
                        .value_parser(ValueParser::new(limits))
                        .help("Rate limits of this key instead of the general ones: read=1000/min; write=off"),
                )
                .args(settings::args()),
        )
        .subcommand(
            sub("list", "List all keys, without the keys themselves")
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON"))
                .args(settings::args()),
        )
        .subcommand(
            sub(
                "rotate",
                "Create a key like another one, which expires soon, and print it, once",
            )
            .arg(which().help("The number or the name of the old key"))
            .arg(
                Arg::new("overlap")
                    .long("overlap")
                    .value_name("TIME")
                    .default_value(OVERLAP)
                    .value_parser(ValueParser::new(duration))
                    .help("How long the old key is still accepted: 1d, 12h, 30m"),
            )
            .arg(expires())
            .args(settings::args()),
        )
        .subcommand(
            sub("revoke", "Revoke a key")
                .arg(which().help("The number of the key, its name, or the key itself"))
                .args(settings::args()),
        )
}

fn which(text: &str) -> Result<Target, String> {
    if let Ok(id) = text.parse() {
        return Ok(Target::Id(id));
    }
    match ApiKey::parse(text.as_bytes()) {
        Ok(key) => Ok(Target::Key(key)),
        Err(invalid) if text.starts_with(KEY_PREFIX) => Err(invalid.to_string()),
        Err(_) => Ok(Target::Name(text.to_owned())),
    }
}

/// A name can be told from a number and from a key.
fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.trim() != text || text.chars().any(char::is_control) {
        return Err("is empty, has blanks around it, or holds control characters".to_owned());
    }
    if text.chars().count() > NAME {
        return Err(format!("has more than {NAME} characters"));
    }
    match which(text) {
        Ok(Target::Name(name)) => Ok(name),
        _ => Err("could be mistaken for a number or a key".to_owned()),
    }
}

fn limits(text: &str) -> Result<String, String> {
    Overrides::parse(text).map_err(|invalid| invalid.to_string())?;
    Ok(text.to_owned())
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    match text {
        "never" => Ok(Lifetime::Never),
        _ => match duration(text)? {
            Duration::ZERO => Err("is no time at all".to_owned()),
            time => Ok(Lifetime::In(time)),
        },
    }
}

/// Parses a whole number of minutes, hours, days or weeks.
fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || "is not a time such as 90d, 12h or 30m".to_owned();
    let unit = text.chars().next_back().ok_or_else(malformed)?;
    let seconds = match unit {
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(malformed()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| malformed())?;
    let time = Duration::from_secs(u64::from(number) * seconds);
    match time <= LONGEST {
        true => Ok(time),
        false => Err("is more than a hundred years".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_minutes_hours_days_or_weeks() {
        for (text, seconds) in [
            ("30m", 1_800),
            ("12h", 43_200),
            ("90d", 7_776_000),
            ("2w", 1_209_600),
            ("0m", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "1.5d", "-1d", "1 d", "90", "1y", "90d ", "4294967295w", "9é"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(lifetime("0d").is_err());
        assert_eq!(lifetime("never"), Ok(Lifetime::Never));
    }

    #[test]
    fn a_name_is_neither_a_number_nor_a_key() {
        assert_eq!(name("billing service").as_deref(), Ok("billing service"));
        for bad in [
            "",
            " ",
            " a",
            "a\n",
            "7",
            "-7",
            "cnk_x",
            "cnk_0000000000000000000000000000002C8GjS",
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert!(name(&"x".repeat(65)).is_err());
        assert!(
            which("cnk_0000000000000000000000000000002C8GjT").is_err(),
            "a typing error is not a name"
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
