//! The memory of the process's cgroup, version 2 or 1.
//!
//! Invariant: of the cgroup and its ancestors the one that is nearest to its limit is reported, because the kernel enforces
//! each of them. A limit is `memory.max` or `memory.high`, whichever is lower: at `memory.high` the kernel slows the
//! process down.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use super::{
    kernel_file::{Buffer, KernelFile},
    parse::{self, Version},
    reader::{MemoryReader, Reading},
};

/// Limits may be changed at run time; they are read again after this many readings: ten seconds.
const REREAD_LIMITS: u32 = 40;

/// Finds the cgroup of this process and its limits; `None` if nothing limits it. `proc` is `/proc`.
pub(super) fn find(proc: &Path) -> Option<Box<dyn MemoryReader>> {
    let cgroup = std::fs::read_to_string(proc.join("self/cgroup")).ok()?;
    let mounts = std::fs::read_to_string(proc.join("self/mountinfo")).ok()?;
    let directories = |version| {
        let mount = parse::cgroup_mount(&mounts, version)?;
        let path = parse::cgroup_path(&cgroup, version)?;
        Some(with_ancestors(&mount, path))
    };
    if let Some(two) = directories(Version::Two).and_then(|all| CgroupTwo::open(&all)) {
        return Some(Box::new(two));
    }
    let own = directories(Version::One)?.into_iter().next()?;
    Some(Box::new(CgroupOne::open(&own)?))
}

/// The directories of a cgroup and of its ancestors, as far as they are mounted.
fn with_ancestors(mount: &parse::Mount<'_>, path: &str) -> Vec<PathBuf> {
    let point = Path::new(mount.point);
    // A container may see only its own part of the hierarchy.
    let below = Path::new(path).strip_prefix(mount.root).unwrap_or(Path::new(""));
    // A path with `..` is outside of that part.
    let is_inside = below.components().all(|part| matches!(part, Component::Normal(_)));
    let below = if is_inside { below } else { Path::new("") };
    let own = point.join(below);
    let all = own.ancestors().take_while(|directory| directory.starts_with(point));
    all.map(Path::to_owned).collect()
}

/// A cgroup of version 2, with its ancestors.
#[derive(Debug)]
struct CgroupTwo {
    levels: Vec<LevelTwo>,
    /// Of the process's own cgroup.
    pressure: Option<KernelFile>,
    buffer: Buffer,
    readings: u32,
}

#[derive(Debug)]
struct LevelTwo {
    max: KernelFile,
    high: KernelFile,
    current: KernelFile,
    stat: KernelFile,
    events: KernelFile,
    /// As last read.
    limit: Option<u64>,
}

impl CgroupTwo {
    /// `None` if no level has a limit. The topmost cgroup of the system has no such files.
    fn open(directories: &[PathBuf]) -> Option<Self> {
        let own = directories.first()?;
        let mut cgroup = Self {
            levels: directories.iter().filter_map(|one| LevelTwo::open(one).ok()).collect(),
            pressure: KernelFile::open(&own.join("memory.pressure")).ok(),
            buffer: Buffer::new(),
            readings: 0,
        };
        cgroup.read_limits().ok()?;
        cgroup
            .levels
            .iter()
            .any(|level| level.limit.is_some())
            .then_some(cgroup)
    }

    fn read_limits(&mut self) -> io::Result<()> {
        for level in &mut self.levels {
            let max = level.max.read(&mut self.buffer, parse::limit)?;
            let high = level.high.read(&mut self.buffer, parse::limit)?;
            // Zero would stop the process at once, so it is none.
            level.limit = [max, high].into_iter().flatten().filter(|limit| *limit > 0).min();
        }
        Ok(())
    }
}

impl LevelTwo {
    fn open(directory: &Path) -> io::Result<Self> {
        let file = |name: &str| KernelFile::open(&directory.join(name));
        Ok(Self {
            max: file("memory.max")?,
            high: file("memory.high")?,
            current: file("memory.current")?,
            stat: file("memory.stat")?,
            events: file("memory.events")?,
            limit: None,
        })
    }

    fn read(&self, limit: u64, buffer: &mut Buffer) -> io::Result<Reading> {
        let current = self.current.read(buffer, parse::limit)?.unwrap_or(u64::MAX);
        let droppable = self.stat.read(buffer, |text| parse::named(text, "inactive_file"))?;
        let events = |text: &str| Some((parse::named(text, "high")?, parse::named(text, "max")?));
        let (high_events, max_events) = self.events.read(buffer, events)?;
        Ok(Reading {
            used: current.saturating_sub(droppable),
            limit,
            stall: None,
            high_events,
            max_events,
        })
    }
}

impl MemoryReader for CgroupTwo {
    fn read(&mut self) -> io::Result<Reading> {
        self.readings += 1;
        if self.readings.is_multiple_of(REREAD_LIMITS) {
            self.read_limits()?;
        }
        let mut nearest: Option<Reading> = None;
        let (mut high_events, mut max_events) = (0, 0);
        for level in &self.levels {
            let Some(limit) = level.limit else {
                continue;
            };
            let reading = level.read(limit, &mut self.buffer)?;
            high_events += reading.high_events;
            max_events += reading.max_events;
            if nearest.is_none_or(|nearest| nearest.share() < reading.share()) {
                nearest = Some(reading);
            }
        }
        let pressure = self.pressure.as_ref();
        // Some kernels refuse to read it.
        let stall = pressure.and_then(|file| file.read(&mut self.buffer, parse::stall).ok());
        // All limits may be gone meanwhile: then nothing is short.
        Ok(Reading {
            stall,
            high_events,
            max_events,
            ..nearest.unwrap_or_default()
        })
    }

    fn source(&self) -> &'static str {
        "the cgroup's memory"
    }
}

/// A cgroup of version 1. Its `memory.stat` has the lowest limit of all ancestors.
#[derive(Debug)]
struct CgroupOne {
    usage: KernelFile,
    stat: KernelFile,
    buffer: Buffer,
}

/// Where there is no limit, version 1 writes the largest multiple of the page size.
const UNLIMITED_ONE: u64 = 1 << 62;

impl CgroupOne {
    /// `None` if there is no limit.
    fn open(directory: &Path) -> Option<Self> {
        let file = |name: &str| KernelFile::open(&directory.join(name)).ok();
        let mut cgroup = Self {
            usage: file("memory.usage_in_bytes")?,
            stat: file("memory.stat")?,
            buffer: Buffer::new(),
        };
        let reading = cgroup.read().ok()?;
        (reading.limit < UNLIMITED_ONE).then_some(cgroup)
    }
}

impl MemoryReader for CgroupOne {
    fn read(&mut self) -> io::Result<Reading> {
        let usage = self.usage.read(&mut self.buffer, parse::limit)?.unwrap_or(u64::MAX);
        let stat = |text: &str| {
            let droppable = parse::named(text, "total_inactive_file")?;
            Some((droppable, parse::named(text, "hierarchical_memory_limit")?))
        };
        let (droppable, limit) = self.stat.read(&mut self.buffer, stat)?;
        Ok(Reading {
            used: usage.saturating_sub(droppable),
            limit: limit.max(1),
            ..Reading::default()
        })
    }

    fn source(&self) -> &'static str {
        "the cgroup's memory (version 1)"
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory that looks like `/proc` and `/sys/fs/cgroup`.
    struct System(tempfile::TempDir);

    impl System {
        fn new(cgroup: &str, mount: &str) -> Self {
            let system = Self(tempfile::tempdir().unwrap());
            let point = system.point();
            fs::create_dir_all(&point).unwrap();
            system.write("proc/self/cgroup", cgroup);
            let mount = mount.replace("POINT", point.to_str().unwrap());
            system.write(
                "proc/self/mountinfo",
                &format!("22 1 0:21 / /proc rw - proc proc rw\n{mount}\n"),
            );
            system
        }

        fn two() -> Self {
            Self::new("0::/a.slice/b.service\n", "30 22 0:26 / POINT rw - cgroup2 cgroup2 rw")
        }

        fn point(&self) -> PathBuf {
            self.0.path().join("cgroup")
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn level(&self, path: &str, max: &str, high: &str, current: u64, inactive: u64) {
            let file = |name: &str, text: &str| self.write(&format!("cgroup/{path}/{name}"), text);
            file("memory.max", max);
            file("memory.high", high);
            file("memory.current", &format!("{current}\n"));
            file(
                "memory.stat",
                &format!("anon 1\nfile 9\ninactive_file {inactive}\nactive_file 3\n"),
            );
            file("memory.events", "low 0\nhigh 2\nmax 5\noom 0\noom_kill 0\n");
            file("memory.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=0\n");
        }

        fn find(&self) -> Option<Box<dyn MemoryReader>> {
            find(&self.0.path().join("proc"))
        }
    }

    #[test]
    fn the_working_set_is_without_inactive_pages_of_files() {
        let system = System::two();
        system.level("a.slice/b.service", "1000\n", "max\n", 700, 300);
        let mut reader = system.find().unwrap();
        let reading = reader.read().unwrap();
        assert_eq!((reading.used, reading.limit), (400, 1000));
        assert_eq!(
            (reading.stall, reading.high_events, reading.max_events),
            (Some(1.5), 2, 5)
        );
        // The files stay open and are read again.
        system.level("a.slice/b.service", "1000\n", "max\n", 900, 100);
        assert_eq!(reader.read().unwrap().used, 800);
    }

    #[test]
    fn an_ancestor_that_is_nearer_to_its_limit_counts_and_memory_high_is_a_limit_too() {
        let system = System::two();
        system.level("a.slice", "max\n", "2000\n", 1900, 100);
        system.level("a.slice/b.service", "1000\n", "max\n", 500, 0);
        let reading = system.find().unwrap().read().unwrap();
        assert_eq!((reading.used, reading.limit), (1800, 2000));
        assert_eq!((reading.high_events, reading.max_events), (4, 10), "of both");
        system.level("a.slice/b.service", "1000\n", "520\n", 500, 0);
        let reading = system.find().unwrap().read().unwrap();
        assert_eq!((reading.used, reading.limit), (500, 520));
    }

    #[test]
    fn a_limit_that_changes_is_noticed() {
        let system = System::two();
        system.level("a.slice/b.service", "1000\n", "max\n", 500, 0);
        let mut reader = system.find().unwrap();
        system.level("a.slice/b.service", "2000\n", "max\n", 500, 0);
        let limits: Vec<u64> = (0..=REREAD_LIMITS).map(|_| reader.read().unwrap().limit).collect();
        assert_eq!((limits[0], limits.last()), (1000, Some(&2000)));
        system.level("a.slice/b.service", "max\n", "max\n", 500, 0);
        let shares: Vec<u32> = (0..=REREAD_LIMITS).map(|_| reader.read().unwrap().share()).collect();
        assert_eq!((shares[0], shares.last()), (250, Some(&0)));
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_read() {
        let system = System::two();
        assert!(system.find().is_none());
        system.level("a.slice/b.service", "max\n", "max\n", 500, 0);
        assert!(system.find().is_none());
    }

    #[test]
    fn a_container_sees_its_own_part_of_the_hierarchy() {
        for (cgroup, root) in [
            ("0::/\n", "/"),
            ("0::/docker/abc\n", "/docker/abc"),
            ("0::/../other\n", "/"),
        ] {
            let mount = format!("30 22 0:26 {root} POINT rw - cgroup2 cgroup2 rw");
            let system = System::new(cgroup, &mount);
            system.level("", "1000\n", "max\n", 500, 0);
            assert_eq!(system.find().unwrap().read().unwrap().limit, 1000, "{cgroup}");
        }
    }

    #[test]
    fn version_1_is_understood() {
        let mount = "35 22 0:31 / POINT rw - cgroup cgroup rw,memory";
        let system = System::new("5:memory:/docker/abc\n0::/\n", mount);
        let write = |limit: u64| {
            system.write("cgroup/docker/abc/memory.usage_in_bytes", "700\n");
            let stat = format!("inactive_file 1\nhierarchical_memory_limit {limit}\ntotal_inactive_file 200\n");
            system.write("cgroup/docker/abc/memory.stat", &stat);
        };
        write(9_223_372_036_854_771_712);
        assert!(system.find().is_none(), "no limit");
        write(1000);
        let reading = system.find().unwrap().read().unwrap();
        assert_eq!((reading.used, reading.limit), (500, 1000));
    }
}
