//! The command line. Invariant: an unknown name is an error that lists the known ones.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, Command, builder::PossibleValuesParser, error::ErrorKind, value_parser};

use super::{
    services::{ALL, Service},
    workload::Workload,
};

/// The workloads in which a fixed number of clients send the next request when they get an answer.
const STEADY: [Workload; 7] = [
    Workload::Read,
    Workload::Users,
    Workload::Write,
    Workload::Mixed,
    Workload::Cached,
    Workload::CachedMixed,
    Workload::Guarded,
];
const OVERLOAD: &str = "overload";
const IDLE: &str = "idle";

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workloads in which clients send the next request when they get an answer.
    pub(super) workloads: Vec<Workload>,
    /// Whether to measure under overload.
    pub(super) overload: bool,
    /// Whether to measure with idle clients.
    pub(super) idle: bool,
    /// The services.
    pub(super) services: Vec<&'static Service>,
    /// The numbers of clients.
    pub(super) clients: Vec<usize>,
    /// The number of idle clients.
    pub(super) idle_clients: usize,
    /// The length of one measurement.
    pub(super) length: Duration,
    /// The number of times that each measurement is repeated.
    pub(super) rounds: usize,
    /// A file to put the tables into.
    pub update: Option<PathBuf>,
}

impl Options {
    /// From arguments, without the program's name.
    ///
    /// # Errors
    ///
    /// An argument is unknown or malformed, or help was asked for.
    pub fn parse<A: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = A>) -> Result<Self, clap::Error> {
        let mut command = command();
        let mut found = command.try_get_matches_from_mut(arguments)?;
        let workloads: Vec<String> = found.remove_many("workload").into_iter().flatten().collect();
        let names: Vec<String> = found.remove_many("service").into_iter().flatten().collect();
        let wanted = |all: &[String], name: &str| all.is_empty() || all.iter().any(|n| n == name);
        let seconds: f64 = found.remove_one("seconds").unwrap_or_default();
        let Some(length) = Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|length| (Duration::from_millis(100)..=Duration::from_secs(600)).contains(length))
        else {
            let error = "--seconds must be between 0.1 and 600";
            return Err(command.error(ErrorKind::ValueValidation, error));
        };
        let number = |value: Option<u64>| value.unwrap_or_default() as usize;
        Ok(Self {
            workloads: STEADY
                .into_iter()
                .filter(|workload| wanted(&workloads, workload.name()))
                .collect(),
            overload: wanted(&workloads, OVERLOAD),
            idle: wanted(&workloads, IDLE),
            services: ALL.iter().filter(|service| wanted(&names, service.name)).collect(),
            clients: found
                .remove_many("clients")
                .into_iter()
                .flatten()
                .map(|clients| number(Some(clients)))
                .collect(),
            idle_clients: number(found.remove_one("idle-clients")),
            length,
            rounds: number(found.remove_one("rounds")),
            update: found.remove_one("update"),
        })
    }
}

fn command() -> Command {
    let workloads: Vec<&str> = STEADY
        .iter()
        .map(|workload| workload.name())
        .chain([OVERLOAD, IDLE])
        .collect();
    let services = ALL.iter().map(|service| service.name);
    let number = || value_parser!(u64).range(1..=100_000);
    Command::new("compare_services")
        .no_binary_name(true)
        .about("Measures cenote beside other services; everything unless options say otherwise")
        .arg(
            several("workload", "NAME")
                .value_parser(PossibleValuesParser::new(workloads))
                .help("What to measure; several with commas between them"),
        )
        .arg(
            several("service", "NAME")
                .value_parser(PossibleValuesParser::new(services))
                .help("Whom to measure; several with commas between them"),
        )
        .arg(
            several("clients", "N")
                .value_parser(number())
                .default_values(["1", "64", "512"])
                .help("With how many clients; several with commas between them"),
        )
        .arg(
            one("seconds", "S")
                .value_parser(value_parser!(f64))
                .default_value("3")
                .help("Length of a measurement"),
        )
        .arg(
            one("rounds", "N")
                .value_parser(number())
                .default_value("3")
                .help("How often each is made; the median counts"),
        )
        .arg(
            one("idle-clients", "N")
                .value_parser(number())
                .default_value("10000")
                .help("Connections that do nothing"),
        )
        .arg(
            one("update", "FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Also put the tables into this file, between its service-figures markers"),
        )
}

fn one(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value)
}

fn several(name: &'static str, value: &'static str) -> Arg {
    one(name, value).action(ArgAction::Append).value_delimiter(',')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn without_options_everything_is_measured() {
        let options = Options::parse::<&str>([]).unwrap();
        assert_eq!(options.workloads, STEADY);
        assert!(options.overload && options.idle);
        assert_eq!(options.services.len(), ALL.len());
        assert_eq!(options.clients, [1, 64, 512]);
        assert_eq!((options.length, options.rounds), (Duration::from_secs(3), 3));
    }

    #[test]
    fn a_part_is_chosen_by_names() {
        let arguments = "--workload read,idle --service sqlx --service hello --clients 2 --seconds 0.5";
        let options = Options::parse(arguments.split(' ')).unwrap();
        assert_eq!(options.workloads, [Workload::Read]);
        assert!(options.idle && !options.overload);
        let names: Vec<_> = options.services.iter().map(|service| service.name).collect();
        assert_eq!(names, ["sqlx", "hello"]);
        assert_eq!(options.clients, [2]);
        assert_eq!(options.length, Duration::from_millis(500));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known() {
        let error = Options::parse(["--workload", "raed"]).unwrap_err().to_string();
        assert!(error.contains("read") && error.contains("overload"), "{error}");
        for wrong in [["--seconds", "-1"], ["--seconds", "x"], ["--rounds", "0"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
