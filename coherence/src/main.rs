//! Runs every mode of the cache under every fault, over real servers: `make coherence`. Prints a table; the exit code
//! is 1 if a promise was broken.

#![warn(clippy::significant_drop_tightening)]

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use cenote_coherence::{Fault, Limits, Mode, Outcome, Result, Trial, report};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

fn command() -> Command {
    let modes = Mode::ALL.map(Mode::name);
    let faults = Fault::ALL.map(Fault::name);
    Command::new("cenote-coherence")
        .about("Checks what clients of cenote see while things go wrong")
        .arg(
            Arg::new("mode")
                .long("mode")
                .action(ArgAction::Append)
                .value_parser(modes)
                .help("Only this mode; may be repeated"),
        )
        .arg(
            Arg::new("fault")
                .long("fault")
                .action(ArgAction::Append)
                .value_parser(faults)
                .help("Only this fault; may be repeated"),
        )
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .default_value("60")
                .value_parser(value_parser!(u64).range(4..=3600))
                .help("How long each trial lasts"),
        )
        .arg(
            Arg::new("clients")
                .long("clients")
                .default_value("64")
                .value_parser(value_parser!(u16).range(1..=4096))
                .help("The number of clients"),
        )
        .arg(
            Arg::new("program")
                .long("program")
                .value_parser(value_parser!(PathBuf))
                .help("The program to check; otherwise `cenote` beside this one"),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .default_value("target/coherence")
                .value_parser(value_parser!(PathBuf))
                .help("Where logs and the histories of violations go"),
        )
}

#[tokio::main]
async fn main() -> ExitCode {
    let matches = command().get_matches();
    let ran = tokio::select! {
        ran = run(&matches) => ran,
        // The servers end with their handles.
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the trials of the command line; returns whether every promise was kept.
async fn run(matches: &ArgMatches) -> Result<bool> {
    let (mut outcomes, mut failed) = (Vec::new(), 0);
    println!("{}", report::HEAD);
    for trial in trials(matches)? {
        let (mode, fault) = (trial.mode.name(), trial.fault.name());
        let outcome = match trial.run().await {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("  {mode} {fault} could not be carried out: {error}");
                failed += 1;
                continue;
            }
        };
        println!("{}", report::row(&outcome));
        let troubles = report::troubles(&outcome);
        if !troubles.is_empty() {
            eprintln!("  {mode} {fault}:{troubles}");
        }
        failed += usize::from(!outcome.reasons.is_empty());
        outcomes.push(outcome);
    }
    println!("\n{} trials carried out, {failed} failed", outcomes.len());
    let finds_something = finds_something(&outcomes);
    if !finds_something {
        println!("the checker found no violation in the plain cache-aside, which has some: the checker does not work");
    }
    Ok(failed == 0 && finds_something)
}

/// Whether the checker has found violations in the plain cache-aside, which promises nothing; true if it did not run.
fn finds_something(outcomes: &[Outcome]) -> bool {
    let mut plain = outcomes.iter().filter(|it| it.mode.is_plain()).peekable();
    plain.peek().is_none() || plain.any(|it| !it.violations.is_empty())
}

/// The trials of the command line: each mode with each fault that can happen in it.
fn trials(matches: &ArgMatches) -> Result<Vec<Trial>> {
    let is_wanted = |id: &str, name: &str| {
        let wanted = matches.get_many::<String>(id);
        wanted.is_none_or(|mut wanted| wanted.any(|it| it == name))
    };
    let program = match matches.get_one::<PathBuf>("program") {
        Some(program) => program.clone(),
        None => env::current_exe()?.with_file_name("cenote"),
    };
    if !program.exists() {
        return Err(format!("{} does not exist: build it first", program.display()).into());
    }
    let seconds = matches.get_one("seconds").copied().unwrap_or(60);
    let clients = matches.get_one("clients").copied().unwrap_or(64_u16);
    let output = matches.get_one::<PathBuf>("output").cloned().unwrap_or_default();
    let mut trials = Vec::new();
    for mode in Mode::ALL {
        for fault in Fault::ALL {
            if is_wanted("mode", mode.name()) && is_wanted("fault", fault.name()) && mode.can_have(fault) {
                trials.push(Trial {
                    mode,
                    fault,
                    lasts: Duration::from_secs(seconds),
                    clients: clients.into(),
                    program: program.clone(),
                    output: output.clone(),
                    limits: Limits::default(),
                });
            }
        }
    }
    match trials.is_empty() {
        true => Err("no such fault in this mode".into()),
        false => Ok(trials),
    }
}
