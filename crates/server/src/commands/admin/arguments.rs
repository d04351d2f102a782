//! The command line of `cenote admin`.
//!
//! Invariant: no argument is a secret: every user of the machine sees the arguments of a command.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use crate::{http_client::HttpUrl, settings, telemetry};

/// Seconds until the command gives up. A flush takes about two leases of the cache, a pause two seconds at most.
const PATIENCE: &str = "30";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    State,
    Pause {
        seconds: Option<u32>,
    },
    Resume,
    Resize {
        min: Option<u32>,
        max: Option<u32>,
        overflow: Option<u32>,
    },
    Drain {
        host: String,
        restore: bool,
    },
    Log {
        filter: String,
    },
    Flush,
    Reload,
}

/// What the command line says about the service.
pub(in crate::commands) struct Options {
    pub(super) url: Option<HttpUrl>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    /// The certificate of the client, and its private key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(in crate::commands) timeout: Duration,
    pub(in crate::commands) json: bool,
}

/// The command line of `cenote admin`.
pub(in crate::commands) fn command() -> Command {
    let sub = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let whole = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .value_parser(value_parser!(u32))
            .help(help)
    };
    let subcommands = [
        sub("state", "Show what can be changed, as it is now"),
        sub("pause", "Stop handing out connections to the database; requests wait").arg(
            whole("seconds", "It ends by itself after this time, 1 to 3600 [default: 60]")
                .value_parser(value_parser!(u32).range(1..=3600)),
        ),
        sub("resume", "End a pause"),
        sub("resize", "Change the limits of the pool; what is left out stays")
            .arg(whole("min", "Connections that are kept open"))
            .arg(whole("max", "Connections, without the overflow"))
            .arg(whole("overflow", "Further connections under load")),
        sub("drain", "Take a host of the database out of use")
            .arg(
                Arg::new("host")
                    .required(true)
                    .value_name("HOST")
                    .help("The host, as `state` shows it"),
            )
            .arg(switch("restore", "Use it again")),
        sub("log", "Change what is logged").visible_alias("log-level").arg(
            Arg::new("filter")
                .required(true)
                .value_name("FILTER")
                .value_parser(telemetry::parse_filter)
                .help("As in the setting LOG: info,cenote=debug"),
        ),
        sub("flush", "Drop everything that is cached, on all instances"),
        sub(
            "reload",
            "Read the settings again, and apply those that need no restart",
        ),
    ];
    let url = url().long("url");
    Command::new("admin")
        .about("Administer a running service: pause, resize, drain, log, flush, reload")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(subcommands.map(|sub| sub.arg(url.clone()).args(of_service()).args(settings::args())))
}

/// The argument that says where the service is.
pub(in crate::commands) fn url() -> Arg {
    Arg::new("url")
        .value_name("URL")
        .value_parser(|text: &str| text.parse::<HttpUrl>())
        .help("Where the service is [default: CENOTE_URL, or HOST and PORT of the settings]")
}

/// The options that say how the service is asked.
pub(in crate::commands) fn of_service() -> [Arg; 6] {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    [
        file(
            "key-file",
            "File with the API key or token [default: CENOTE_KEY, or the file of CENOTE_KEY_FILE]",
        ),
        file(
            "ca",
            "Authorities (PEM) that may sign the service's certificate [default: the system's]",
        ),
        file("cert", "Certificate (PEM) to show to the service, with its chain").requires("cert-key"),
        file("cert-key", "Private key (PEM) of --cert").requires("cert"),
        Arg::new("timeout")
            .long("timeout")
            .value_name("SECONDS")
            .default_value(PATIENCE)
            .value_parser(value_parser!(u16).range(1..=600))
            .help("How long to wait for the answer"),
        switch("json", "As JSON"),
    ]
}

pub(in crate::commands) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn taken<T: Clone + Send + Sync + 'static>(arguments: &ArgMatches, name: &str) -> Option<T> {
    arguments.get_one::<T>(name).cloned()
}

impl Options {
    pub(in crate::commands) fn of(arguments: &ArgMatches) -> Self {
        Self {
            url: taken(arguments, "url"),
            key_file: taken(arguments, "key-file"),
            ca: taken(arguments, "ca"),
            certificate: taken(arguments, "cert").zip(taken(arguments, "cert-key")),
            timeout: Duration::from_secs(taken::<u16>(arguments, "timeout").unwrap_or_default().into()),
            json: arguments.get_flag("json"),
        }
    }
}

impl Action {
    /// The action of a subcommand.
    pub(super) fn of(name: &str, arguments: &ArgMatches) -> Self {
        match name {
            "pause" => Self::Pause {
                seconds: taken(arguments, "seconds"),
            },
            "resume" => Self::Resume,
            "resize" => Self::Resize {
                min: taken(arguments, "min"),
                max: taken(arguments, "max"),
                overflow: taken(arguments, "overflow"),
            },
            "drain" => Self::Drain {
                host: taken(arguments, "host").unwrap_or_default(),
                restore: arguments.get_flag("restore"),
            },
            "log" => Self::Log {
                filter: taken(arguments, "filter").unwrap_or_default(),
            },
            "flush" => Self::Flush,
            "reload" => Self::Reload,
            _ => Self::State,
        }
    }

    /// The path of its route.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::State => "/admin/state",
            Self::Pause { .. } => "/admin/pause",
            Self::Resume => "/admin/resume",
            Self::Resize { .. } => "/admin/resize",
            Self::Drain { .. } => "/admin/drain",
            Self::Log { .. } => "/admin/log",
            Self::Flush => "/admin/flush",
            Self::Reload => "/admin/reload",
        }
    }

    /// The body of its request; `None` if it changes nothing.
    pub(super) fn body(&self) -> Option<Value> {
        let mut body = match self {
            Self::State => return None,
            Self::Pause { seconds } => json!({ "seconds": seconds }),
            Self::Resize { min, max, overflow } => json!({ "min": min, "max": max, "overflow": overflow }),
            Self::Drain { host, restore } => json!({ "host": host, "restore": restore }),
            Self::Log { filter } => json!({ "filter": filter }),
            Self::Resume | Self::Flush | Self::Reload => json!({}),
        };
        if let Some(members) = body.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Action, clap::Error> {
        let all = [&["admin"], arguments].concat();
        let matches = command().try_get_matches_from(all)?;
        let (name, arguments) = matches.subcommand().unwrap();
        Ok(Action::of(name, arguments))
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn what_is_left_out_is_not_in_the_body() {
        for (arguments, path, body) in [
            (&["pause"][..], "/admin/pause", json!({})),
            (&["pause", "--seconds", "5"], "/admin/pause", json!({"seconds": 5})),
            (&["resize", "--max", "7"], "/admin/resize", json!({"max": 7})),
            (
                &["drain", "db:1"],
                "/admin/drain",
                json!({"host": "db:1", "restore": false}),
            ),
            (
                &["log", "cenote=debug"],
                "/admin/log",
                json!({"filter": "cenote=debug"}),
            ),
            (&["reload"], "/admin/reload", json!({})),
        ] {
            let action = parse(arguments).unwrap();
            assert_eq!((action.path(), action.body()), (path, Some(body)), "{arguments:?}");
        }
        assert_eq!(parse(&["state"]).unwrap().body(), None);
    }

    #[test]
    fn a_wrong_argument_is_refused_before_the_service_is_asked() {
        for arguments in [
            &["pause", "--seconds", "0"][..],
            &["pause", "--seconds", "3601"],
            &["resize", "--max", "many"],
            &["drain"],
            &["log", "loud"],
            &["state", "--url", "ftp://x"],
            &["state", "--cert", "a.pem"],
            &["state", "--timeout", "0"],
            &["state", "--key", "cnk_x"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
