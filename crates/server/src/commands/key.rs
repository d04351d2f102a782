//! `cenote key`: creates, lists, rotates and revokes API keys.
//!
//! Invariant: a new key is printed once, alone on standard output; everything else goes to standard error.

use std::{process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::ValueParser};
use ring::rand::SystemRandom;
use tokio::runtime::Handle;

use super::{fail, fail_with, print, with_log};
use crate::{
    auth::{ApiKey, Scopes},
    limits::Overrides,
    output::{self, Output},
    settings::{self, Loaded, Settings},
    startup::{Backend, key_hasher},
    store::api_keys::{Admin, AdminError, Lifetime, ListedKey, NewKey, StoredKey, Which},
};

/// How long a replaced key goes on if nothing else is said.
const OVERLAP: &str = "1d";
/// Longest name in characters.
const NAME: usize = 64;
/// The longest time that a key may be set to live: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The command line of `cenote key`.
pub(super) fn command() -> Command {
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

pub(super) fn run(loaded: Loaded, action: &str, arguments: &ArgMatches) -> ExitCode {
    let action = match action {
        "create" => Action::Create(Box::new(Create {
            name: taken(arguments, "name").unwrap_or_default(),
            scopes: taken(arguments, "scope").unwrap_or_default(),
            lifetime: taken(arguments, "expires").unwrap_or(Lifetime::Never),
            limits: taken(arguments, "limit"),
        })),
        "rotate" => match taken(arguments, "key") {
            Some(target) => Action::Rotate {
                target,
                overlap: taken(arguments, "overlap").unwrap_or_default(),
                lifetime: taken(arguments, "expires").unwrap_or(Lifetime::AsBefore),
            },
            None => return ExitCode::FAILURE,
        },
        "revoke" => match taken(arguments, "key") {
            Some(target) => Action::Revoke(target),
            None => return ExitCode::FAILURE,
        },
        _ => Action::List {
            json: arguments.get_flag("json"),
        },
    };
    with_log(loaded, |settings| perform(settings, action))
}

fn taken<T: Clone + Send + Sync + 'static>(arguments: &ArgMatches, name: &str) -> Option<T> {
    arguments.get_one::<T>(name).cloned()
}

enum Action {
    Create(Box<Create>),
    List {
        json: bool,
    },
    Rotate {
        target: Target,
        overlap: Duration,
        lifetime: Lifetime,
    },
    Revoke(Target),
}

struct Create {
    name: String,
    scopes: Scopes,
    lifetime: Lifetime,
    limits: Option<String>,
}

/// Which key an operator means.
#[derive(Clone, Debug)]
enum Target {
    Id(i64),
    Key(ApiKey),
    Name(String),
}

async fn perform(settings: Settings, action: Action) -> ExitCode {
    let (backend, private) = match Backend::open(settings, &[Handle::current()]).await {
        Ok(opened) => opened,
        Err(error) => return fail("no database", &error),
    };
    let done = match backend.with_api_keys().bring_up_to_date_as_set().await {
        Ok(()) => act(&backend, action).await,
        Err(error) => fail("the database cannot be used", &error),
    };
    backend.close(private).await;
    done
}

async fn act(backend: &Backend, action: Action) -> ExitCode {
    let admin = Admin {
        pool: &backend.pool,
        schema: &backend.settings.schema,
    };
    let done = match action {
        Action::Create(new) => create(backend, &admin, *new).await,
        Action::List { json } => list(&admin, json).await,
        Action::Rotate {
            target,
            overlap,
            lifetime,
        } => rotate(backend, &admin, &target, overlap, lifetime).await,
        Action::Revoke(target) => revoke(backend, &admin, &target).await,
    };
    done.unwrap_or_else(|error| fail_with(&error))
}

async fn create(backend: &Backend, admin: &Admin<'_>, new: Create) -> Result<ExitCode, AdminError> {
    let Some(key) = generate() else {
        return Ok(fail("cannot create a key", &"the system has no random numbers"));
    };
    let new = NewKey {
        digest: key_hasher(&backend.settings.auth).digest(&key).0,
        hint: key.hint().to_owned(),
        name: new.name,
        scopes: new.scopes.to_string(),
        limits: new.limits,
        expires: match new.lifetime {
            Lifetime::In(time) => Some(time),
            Lifetime::Never | Lifetime::AsBefore => None,
        },
    };
    let stored = admin.create(&new).await?;
    output::complain(format_args!("created {}; it is shown only now", described(&stored)));
    if !backend.settings.auth.mode.has_keys() {
        output::complain("note: the service accepts keys only with AUTH=keys or AUTH=keys+jwt");
    }
    Ok(show(&key))
}

async fn rotate(
    backend: &Backend,
    admin: &Admin<'_>,
    target: &Target,
    overlap: Duration,
    lifetime: Lifetime,
) -> Result<ExitCode, AdminError> {
    let Some(key) = generate() else {
        return Ok(fail("cannot create a key", &"the system has no random numbers"));
    };
    let digest = key_hasher(&backend.settings.auth).digest(&key).0;
    let which = target.which(backend);
    let stored = admin.rotate(&which, &digest, key.hint(), overlap, lifetime).await?;
    output::complain(format_args!(
        "created {}; it is shown only now. The old key is accepted for another {}",
        described(&stored),
        shown(overlap)
    ));
    Ok(show(&key))
}

async fn revoke(backend: &Backend, admin: &Admin<'_>, target: &Target) -> Result<ExitCode, AdminError> {
    for stored in admin.revoke(&target.which(backend)).await? {
        output::complain(format_args!("revoked {}", described(&stored)));
    }
    output::complain(format_args!(
        "every instance that reaches the database refuses it within a second; one that does not, after AUTH_STALE"
    ));
    Ok(ExitCode::SUCCESS)
}

async fn list(admin: &Admin<'_>, json: bool) -> Result<ExitCode, AdminError> {
    let keys = admin.list().await?;
    Ok(print(|output| match json {
        // Cannot fail: the fields are texts and numbers.
        true => output.line(serde_json::to_string_pretty(&keys).unwrap_or_default()),
        false => table(output, &keys),
    }))
}

/// Writes columns that are as wide as their widest cell.
fn table(output: &mut Output, keys: &[ListedKey]) {
    const HEAD: [&str; 9] = [
        "NUMBER",
        "KEY",
        "NAME",
        "SCOPES",
        "STATE",
        "CREATED",
        "EXPIRES",
        "LAST USED",
        "LIMITS",
    ];
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(keys.iter().map(|key| {
        [
            key.id.to_string(),
            format!("{}…", key.hint),
            key.name.clone(),
            key.scopes.clone(),
            key.state.clone(),
            key.created.clone(),
            or_dash(&key.expires),
            or_dash(&key.last_used),
            or_dash(&key.limits),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        output.line(line.trim_end());
    }
}

fn generate() -> Option<ApiKey> {
    ApiKey::generate(&SystemRandom::new()).ok()
}

/// Prints a new key.
fn show(key: &ApiKey) -> ExitCode {
    print(|output| output.line(key.expose()))
}

fn described(key: &StoredKey) -> String {
    let StoredKey {
        id,
        name,
        scopes,
        hint,
        expires,
    } = key;
    let expires = expires.as_deref().unwrap_or("never");
    format!("key {id} {hint}… ({name}; scopes {scopes}; expires {expires})")
}

impl Target {
    fn which(&self, backend: &Backend) -> Which {
        match self {
            Self::Id(id) => Which::Id(*id),
            Self::Key(key) => Which::Digest(key_hasher(&backend.settings.auth).digest(key).0),
            Self::Name(name) => Which::Name(name.clone()),
        }
    }
}

fn which(text: &str) -> Result<Target, String> {
    if let Ok(id) = text.parse() {
        return Ok(Target::Id(id));
    }
    match ApiKey::parse(text.as_bytes()) {
        Ok(key) => Ok(Target::Key(key)),
        Err(invalid) if text.starts_with(crate::auth::KEY_PREFIX) => Err(invalid.to_string()),
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

/// The time in the largest unit that divides it.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / unit)
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
        assert_eq!(shown(Duration::from_secs(86_400)), "1d");
        assert_eq!(shown(Duration::from_secs(5_400)), "90m");
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
