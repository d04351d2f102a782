//! The command line.
//!
//! Invariant: a command returns its exit code; nothing else ends the process.

mod admin;
mod check;
mod key;
mod serve;
mod signals;
mod top;

use std::{env, fmt::Display, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::{
    output::{self, Output},
    routes,
    settings::{self, Loaded, Settings, Sources},
    spans::Spans,
    startup, telemetry,
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
        .subcommand(with_settings("migrate", "Bring the database schema up to date"))
        .subcommand(
            with_settings("config", "Show the settings in force and where each comes from")
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON")),
        )
        .subcommand(key::command())
        .subcommand(admin::command())
        .subcommand(top::command())
        .subcommand(Command::new("openapi").about("Print the description of the API"))
}

/// Runs the command of the command line and returns its exit code.
pub fn run() -> ExitCode {
    let code = match command().try_get_matches() {
        Ok(matches) => dispatch(&matches),
        Err(message) => show(&message),
    };
    output::flush();
    code
}

/// Prints help, the version, or an error in the command line.
fn show(message: &clap::Error) -> ExitCode {
    let code = u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    match (message.print(), message.use_stderr()) {
        (_, true) => code,
        (printed, false) => Output::from(printed).finish(code),
    }
}

fn dispatch(matches: &ArgMatches) -> ExitCode {
    let Some((name, arguments)) = matches.subcommand() else {
        return ExitCode::FAILURE;
    };
    if name == "openapi" {
        return openapi();
    }
    if name == "top" {
        return top::run(arguments);
    }
    // `cenote key` and `cenote admin` have commands of their own, and those have the settings.
    let (action, arguments) = arguments.subcommand().unwrap_or(("", arguments));
    if name == "admin" {
        return admin::run(action, arguments);
    }
    let (loaded, sources) = match load(arguments) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match name {
        "key" => key::run(loaded, action, arguments),
        "config" => config(&loaded, arguments.get_flag("json")),
        "serve" => serve::run(loaded, sources),
        "check" => check::run(loaded),
        _ => with_log(loaded, |settings, _| migrate(settings)),
    }
}

fn load(arguments: &ArgMatches) -> Result<(Loaded, Sources), ExitCode> {
    let directory = env::current_dir().map_err(|error| fail("cannot determine the current directory", &error))?;
    let sources = Sources::new(arguments, env::vars_os(), &directory);
    let loaded = sources.load().map_err(|errors| {
        output::complain(errors);
        ExitCode::from(2)
    });
    Ok((loaded?, sources))
}

/// Prints on standard error what failed and why.
fn fail(what: &str, why: &dyn Display) -> ExitCode {
    fail_with(&format_args!("{what}: {why}"))
}

/// Prints on standard error why a command ends.
fn fail_with(error: &dyn Display) -> ExitCode {
    output::complain(format_args!("cenote: {error}"));
    ExitCode::FAILURE
}

/// Prints the result of a command.
fn print(result: impl FnOnce(&mut Output)) -> ExitCode {
    let mut output = Output::default();
    result(&mut output);
    output.finish(ExitCode::SUCCESS)
}

fn openapi() -> ExitCode {
    match routes::openapi_document().to_pretty_json() {
        Ok(json) => print(|output| output.line(json)),
        Err(error) => fail("cannot write the description", &error),
    }
}

fn config(loaded: &Loaded, json: bool) -> ExitCode {
    warn(&loaded.warnings);
    print(|output| {
        output.text(&match json {
            true => loaded.report.json(),
            false => loaded.report.text(),
        });
    })
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        output::complain(format_args!("warning: {warning}"));
    }
}

/// Starts the log and runs a command on this thread.
fn with_log<F: Future<Output = ExitCode>>(loaded: Loaded, command: impl FnOnce(Settings, Spans) -> F) -> ExitCode {
    warn(&loaded.warnings);
    let spans = Spans::default();
    telemetry::init(&loaded.settings.log_filter, loaded.settings.log_is_pretty, &spans);
    block_on(command(loaded.settings, spans))
}

/// Runs a command on this thread.
fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("cannot start", &error),
    };
    let code = runtime.block_on(command);
    // A drop would wait for blocking tasks, such as the look-up of a name.
    runtime.shutdown_background();
    code
}

async fn migrate(settings: Settings) -> ExitCode {
    let database = match startup::open(settings).await {
        Ok(database) => database,
        Err(error) => return fail_with(&error),
    };
    database.backend.announce();
    let migrated = database.backend.bring_up_to_date().await;
    database.close().await;
    match migrated {
        Ok(added) if added.is_empty() => print(|output| output.line("the schema is up to date")),
        Ok(added) => print(|output| output.line(format_args!("added {}", added.join(", ")))),
        Err(error) => fail("cannot migrate", &error),
    }
}
