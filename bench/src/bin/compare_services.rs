//! Compares cenote with other services and prints tables: `make bench`.
//!
//! Invariant: all processes that it starts end with it, also after an error or a signal.

use std::{env, process::ExitCode};

use cenote_bench::comparison::{Options, Outcome, compare};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    match run(options, &command(&arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The command line that repeats this run.
fn command(arguments: &[String]) -> String {
    match arguments.is_empty() {
        true => "make bench".to_owned(),
        false => format!("make bench ARGS=\"{}\"", arguments.join(" ")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(options: Options, command: &str) -> Outcome<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let file = options.update.clone();
    let report = tokio::select! {
        report = compare(options, command) => report?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    println!("{report}");
    if let Some(file) = file {
        report
            .update(&file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    match report.left_out().is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}
