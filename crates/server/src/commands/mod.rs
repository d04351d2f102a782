//! The command line. Invariant: a command returns its exit code; nothing else ends the process.

mod cache;
mod check;
mod database;
mod serve;

use std::{env, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio::runtime::Handle;

use self::database::Database;
use crate::{
    routes,
    settings::{self, Loaded},
    store::schema,
    telemetry,
};

/// The program's command line.
fn command() -> Command {
    let with_settings = |name, about| Command::new(name).about(about).args(settings::args());
    Command::new("cenote")
        .about("A key-value and users API over pooled PostgreSQL")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings("serve", "Serve the API"))
        .subcommand(with_settings(
            "check",
            "Try everything the service needs: PASS or FAIL for each",
        ))
        .subcommand(with_settings(
            "migrate",
            "Bring the database schema up to date",
        ))
        .subcommand(
            with_settings(
                "config",
                "Show the settings in force and where each comes from",
            )
            .arg(
                Arg::new("json")
                    .long("json")
                    .action(ArgAction::SetTrue)
                    .help("As JSON"),
            ),
        )
        .subcommand(Command::new("openapi").about("Print the description of the API"))
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let Some((name, arguments)) = matches.subcommand() else {
        return ExitCode::FAILURE;
    };
    if name == "openapi" {
        return openapi();
    }
    let loaded = match load(arguments) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match name {
        "config" => config(&loaded, arguments.get_flag("json")),
        "serve" => serve::run(loaded),
        "check" => check::run(loaded),
        _ => migrate(loaded),
    }
}

fn load(arguments: &ArgMatches) -> Result<Loaded, ExitCode> {
    let directory =
        env::current_dir().map_err(|error| fail("cannot tell where it runs", &error))?;
    let loaded = settings::load(arguments, env::vars_os(), &directory);
    loaded.map_err(|errors| {
        eprintln!("{errors}");
        ExitCode::from(2)
    })
}

/// Says on standard error why a command ends.
fn fail(what: &str, why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("cenote: {what}: {why}");
    ExitCode::FAILURE
}

fn openapi() -> ExitCode {
    match routes::openapi().to_pretty_json() {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => fail("cannot write the description", &error),
    }
}

fn config(loaded: &Loaded, json: bool) -> ExitCode {
    warn(&loaded.warnings);
    match json {
        true => println!("{}", loaded.report.json()),
        false => print!("{}", loaded.report.text()),
    }
    ExitCode::SUCCESS
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// Runs a command on this thread.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail("cannot start", &error),
    }
}

fn migrate(loaded: Loaded) -> ExitCode {
    warn(&loaded.warnings);
    telemetry::init(&loaded.settings.log);
    block_on(async {
        let database = match Database::open(&loaded.settings, &[Handle::current()]).await {
            Ok(database) => database,
            Err(error) => return fail("no database", &error),
        };
        let migrated = schema::migrate(&database.pool, cache::has_feed(&loaded.settings)).await;
        database.close().await;
        match migrated {
            Ok(applied) if applied.is_empty() => println!("the schema is up to date"),
            Ok(applied) => println!("applied {}", applied.join(", ")),
            Err(error) => return fail("cannot migrate", &error),
        }
        ExitCode::SUCCESS
    })
}
