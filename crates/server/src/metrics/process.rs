//! What the system says about this process. Invariant: what cannot be read is left out, and nothing here is kept open.

use std::{fs, time::Duration};

use rustix::param::{clock_ticks_per_second, page_size};

/// Figures about this process. `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessStats {
    /// Time on processors, in the program and in the kernel for it.
    pub(crate) cpu: Option<Duration>,
    pub(crate) threads: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) max_files: Option<u64>,
}

impl ProcessStats {
    /// Reads them. Takes some 50 µs, and longer with thousands of open files on a Linux before 6.2.
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            open_files: open_files(),
            max_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            ..Self::of_stat(&stat, clock_ticks_per_second(), page_size() as u64).unwrap_or_default()
        }
    }

    /// Parses `/proc/self/stat`, `man 5 proc_pid_stat`. The second field is a name in parentheses, which may have anything
    /// in it.
    fn of_stat(stat: &str, ticks_per_second: u64, page: u64) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        // Fields are numbered from 1; the first here is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)?.checked_add(field(15)?)?;
        Some(Self {
            cpu: Some(Duration::from_secs_f64(ticks as f64 / ticks_per_second.max(1) as f64)),
            threads: field(20),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * page),
            ..Self::default()
        })
    }
}

/// The number of open files. Since Linux 6.2 it is the size of the directory.
fn open_files() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        0 => Some(fs::read_dir(directory).ok()?.count() as u64),
        files => Some(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_after_the_name_are_read_whatever_the_name_is() {
        let stat =
            "7 (a) 1 (b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 12345 1000000 25 18446744073709551615 1";
        let read = ProcessStats::of_stat(stat, 100, 4096).unwrap();
        assert_eq!(
            read,
            ProcessStats {
                cpu: Some(Duration::from_secs(2)),
                threads: Some(9),
                virtual_bytes: Some(1_000_000),
                resident_bytes: Some(25 * 4096),
                ..ProcessStats::default()
            }
        );
        assert_eq!(ProcessStats::of_stat("nonsense", 100, 4096), None);
        assert_eq!(ProcessStats::of_stat("1 (x) S 1", 100, 4096), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_can_be_read() {
        let read = ProcessStats::read();
        assert!(read.resident_bytes.unwrap() > 1 << 20, "{read:?}");
        assert!(read.open_files.unwrap() >= 3 && read.max_files.unwrap() >= read.open_files.unwrap());
        assert!(read.threads.unwrap() >= 1);
    }
}
