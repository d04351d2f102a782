//! The machine and the programs of a measurement. Invariant: what cannot be read is shown as unknown.

use std::{env, fs, process::Command, thread};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Processor, cores, system and compiler, in a line.
#[must_use]
pub(super) fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let processor = fs::read_to_string("/proc/cpuinfo").ok();
    let processor = processor.as_deref().and_then(model);
    let processor = processor.unwrap_or("unknown processor");
    let system = said("uname", &["-sr"]).unwrap_or_else(|| env::consts::OS.to_owned());
    let compiler = said("rustc", &["--version"]).unwrap_or_else(|| "unknown rustc".to_owned());
    format!("{processor}, {cores} cores, {system}, {compiler}")
}

/// The version of cenote, with its commit if git is installed.
#[must_use]
pub(super) fn cenote() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match said("git", &["describe", "--always", "--dirty"]) {
        Some(commit) => format!("cenote {version} ({commit})"),
        None => format!("cenote {version}"),
    }
}

/// Raises the soft limit of open files to the hard limit, for this process and those that it starts, and returns it.
#[must_use]
pub(super) fn open_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If that fails, the old limit stays.
    let _ = setrlimit(Resource::Nofile, limit);
    let now = getrlimit(Resource::Nofile).current;
    now.map_or(usize::MAX, |now| now as usize)
}

/// The first processor's name in `/proc/cpuinfo`.
fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// The first two words of a program's output: its name and version.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_the_first_models_name() {
        let cpuinfo = "processor : 0\nmodel name\t: Some CPU @ 2GHz\nmodel name\t: Other\n";
        assert_eq!(model(cpuinfo), Some("Some CPU @ 2GHz"));
        assert_eq!(model("processor : 0\n"), None);
    }
}
