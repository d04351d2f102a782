//! The CPU time and memory of processes, read from `/proc`. Invariant: the CPU time of ended children counts, so no
//! work is lost when a process of the tree ends between two reads.

use std::{collections::HashMap, fs, io, process, time::Duration};

use rustix::param::{clock_ticks_per_second, page_size};

/// All processes of the machine at one moment.
#[derive(Debug)]
pub(super) struct Processes {
    by_id: HashMap<u32, Process>,
    /// Clock ticks in which a core was busy, and all clock ticks, since the machine started.
    machine: [u64; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// Its own and that of its children that have ended, in clock ticks.
    ticks: u64,
    pages: u64,
}

impl Processes {
    /// Reads `/proc` now.
    ///
    /// # Errors
    ///
    /// `/proc` is missing or is not that of Linux.
    pub(super) fn look() -> io::Result<Self> {
        let directory = fs::read_dir("/proc")
            .map_err(|error| io::Error::other(format!("CPU and memory are read from Linux's /proc: {error}")))?;
        let mut all = HashMap::new();
        for entry in directory {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that ends during this loop is counted by its parent.
            let stat = fs::read_to_string(format!("/proc/{id}/stat"));
            if let Some(process) = stat.ok().as_deref().and_then(Process::parse) {
                all.insert(id, process);
            }
        }
        let stat = fs::read_to_string("/proc/stat")?;
        Ok(Self {
            by_id: all,
            machine: machine(&stat).ok_or_else(|| io::Error::other("/proc/stat is not Linux's"))?,
        })
    }

    /// The CPU time that a process and all its descendants have used.
    #[must_use]
    pub(super) fn cpu(&self, root: u32) -> Duration {
        let children = |id| self.by_id.iter().filter(move |(_, child)| child.parent == id);
        let (mut ticks, mut open) = (0, vec![root]);
        while let Some(id) = open.pop() {
            ticks += self.by_id.get(&id).map_or(0, |process| process.ticks);
            open.extend(children(id).map(|(&child, _)| child));
        }
        seconds(ticks)
    }

    /// The CPU time this process has used, without its children.
    #[must_use]
    pub(super) fn own_cpu(&self) -> Duration {
        seconds(self.by_id.get(&process::id()).map_or(0, |own| own.ticks))
    }

    /// The CPU time that all cores have used since an earlier read, and the time that has passed on all cores.
    #[must_use]
    pub(super) fn machine_since(&self, earlier: &Self) -> [Duration; 2] {
        [0, 1].map(|i| seconds(self.machine[i].saturating_sub(earlier.machine[i])))
    }

    /// The share of the machine's CPU time that this process has used since an earlier look.
    pub(super) fn own_share_since(&self, earlier: &Self) -> f64 {
        let [_, there] = self.machine_since(earlier);
        let own = self.own_cpu().saturating_sub(earlier.own_cpu());
        own.as_secs_f64() / there.as_secs_f64().max(f64::EPSILON)
    }

    /// The resident memory of one process, in bytes.
    #[must_use]
    pub(super) fn resident(&self, id: u32) -> u64 {
        self.by_id
            .get(&id)
            .map_or(0, |process| process.pages * page_size() as u64)
    }
}

fn seconds(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

/// From `/proc/stat`, which begins with `cpu user nice system idle iowait irq softirq steal …`.
fn machine(stat: &str) -> Option<[u64; 2]> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let all = all.split_ascii_whitespace().take(8);
    let all: Vec<u64> = all.map(str::parse).collect::<Result<_, _>>().ok()?;
    let total: u64 = all.iter().sum();
    Some([total - all.get(3)? - all.get(4)?, total])
}

impl Process {
    /// From `/proc/PID/stat`: `PID (name) state parent …`, where the name may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
        // User and system time of itself, then of its children.
        let ticks = (11..=14).map(field).sum::<Option<u64>>()?;
        Some(Self {
            parent: u32::try_from(field(1)?).ok()?,
            ticks,
            pages: field(21)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_move_the_fields() {
        let stat = "42 (a) b (c) S 7 1 1 0 -1 4194560 9 9 9 9 100 20 3 4 20 0 1 0 99 88 1234 99\n";
        let expected = Process {
            parent: 7,
            ticks: 127,
            pages: 1234,
        };
        assert_eq!(Process::parse(stat), Some(expected));
        assert_eq!(Process::parse("42 (half"), None);
    }

    #[test]
    fn a_tree_has_the_time_of_its_descendants_and_of_nobody_else() {
        let process = |parent, ticks| Process {
            parent,
            ticks,
            pages: 0,
        };
        let all = [
            (1, process(0, 1_000)),
            (2, process(1, 10)),
            (3, process(2, 20)),
            (4, process(3, 40)),
            (5, process(1, 500)),
        ];
        let all = Processes {
            by_id: all.into(),
            machine: [0, 0],
        };
        assert_eq!(all.cpu(2), seconds(70));
    }

    #[test]
    fn a_core_that_waits_is_not_at_work() {
        let stat = "cpu  10 20 30 1000 200 1 2 3 77 0\ncpu0 1 2 3 4\n";
        assert_eq!(machine(stat), Some([66, 1266]));
        assert_eq!(machine("intr 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen_to_use_memory() -> io::Result<()> {
        assert!(Processes::look()?.resident(process::id()) > 100_000);
        Ok(())
    }
}
