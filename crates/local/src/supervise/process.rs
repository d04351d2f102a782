//! The state of processes. Invariant: a zombie counts as ended, because it holds no port, file or memory.

use std::{fs, path::Path, process::Command};

/// Whether `pid` names a process that still runs (or is stopped).
pub(crate) fn is_running(pid: u32) -> bool {
    let state = if Path::new("/proc/self/stat").exists() {
        // "pid (name) state parent …"; the name may hold spaces and brackets.
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()))
    } else {
        let output = Command::new("ps")
            .args(["-o", "stat=", "-p", &pid.to_string()])
            .output()
            .ok();
        output.and_then(|output| String::from_utf8_lossy(&output.stdout).trim().chars().next())
    };
    !matches!(state, None | Some('Z' | 'X'))
}

/// Whether `pid` is a live PostgreSQL process of the cluster in `data`, and not some program that got its number later.
pub(crate) fn serves(pid: u32, data: &Path) -> bool {
    if !is_running(pid) {
        return false;
    }
    if Path::new("/proc/self/stat").exists() {
        return works_in(Path::new(&format!("/proc/{pid}")), data);
    }
    let output = Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
}

/// Whether any process at all still works in the cluster in `data`: an orphaned backend, for example. Every PostgreSQL
/// process has the data directory as its working directory. Always false where there is no `/proc`.
pub(crate) fn any_serves(data: &Path) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else {
        return false;
    };
    entries.flatten().any(|entry| works_in(&entry.path(), data))
}

fn works_in(proc_entry: &Path, data: &Path) -> bool {
    fs::read_link(proc_entry.join("cwd")).is_ok_and(|cwd| data.canonicalize().is_ok_and(|data| cwd == data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_a_reaped_one_does_not() {
        assert!(is_running(std::process::id()));
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!is_running(child.id()));
    }

    #[test]
    fn a_running_program_that_is_no_server_does_not_serve() {
        assert!(!serves(std::process::id(), Path::new("/nowhere")));
    }
}
