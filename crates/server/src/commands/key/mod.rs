//! `cenote key`: creates, lists, rotates and revokes API keys.
//!
//! Invariant: a new key is printed once, alone on standard output; everything else goes to standard error.

mod arguments;
mod audit;

use std::{process::ExitCode, slice, time::Duration};

use clap::ArgMatches;
use ring::rand::SystemRandom;

use self::arguments::Target;
pub(super) use self::arguments::command;
use super::{fail, fail_with, print, with_log};
use crate::{
    auth::{ApiKey, Scopes},
    output::{self, Output},
    settings::{Loaded, Settings},
    startup::{self, Backend, key_hasher},
    store::api_keys::{Admin, AdminError, Lifetime, ListedKey, NewKey, StoredKey, Which},
};

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
    with_log(loaded, |settings, _| perform(settings, action))
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

async fn perform(settings: Settings, action: Action) -> ExitCode {
    let database = match startup::open(settings).await {
        Ok(database) => database,
        Err(error) => return fail_with(&error),
    };
    let backend = database.backend.with_api_keys();
    let done = match backend.bring_up_to_date_as_set().await {
        Ok(()) => act(&backend, action).await,
        Err(error) => fail("the database cannot be used", &error),
    };
    database.close().await;
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
    let stored = admin.create(&new).await;
    let changed = stored.as_ref().map(slice::from_ref);
    audit::record(&backend.settings, "create", changed).await;
    let stored = stored?;
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
    let rotated = admin.rotate(&which, &digest, key.hint(), overlap, lifetime).await;
    let changed = rotated.as_ref().map(slice::from_ref);
    audit::record(&backend.settings, "rotate", changed).await;
    let stored = rotated?;
    output::complain(format_args!(
        "created {}; it is shown only now. The old key is accepted for another {}",
        described(&stored),
        shown(overlap)
    ));
    Ok(show(&key))
}

async fn revoke(backend: &Backend, admin: &Admin<'_>, target: &Target) -> Result<ExitCode, AdminError> {
    let revoked = admin.revoke(&target.which(backend)).await;
    audit::record(&backend.settings, "revoke", revoked.as_deref()).await;
    for stored in revoked? {
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
    fn a_time_is_shown_in_the_largest_unit_that_divides_it() {
        for (seconds, text) in [(86_400, "1d"), (5_400, "90m"), (7_200, "2h"), (61, "61s")] {
            assert_eq!(shown(Duration::from_secs(seconds)), text);
        }
    }
}
