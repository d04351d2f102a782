//! The formats of the kernel's files about memory. Invariant: pure, and nothing here allocates; a text that is not as
//! expected gives `None`.

/// A file that holds one number, or `max` for no limit (`None` within).
pub(super) fn limit(text: &str) -> Option<Option<u64>> {
    match text.trim_end() {
        "max" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// The number behind a name, in a file with a name and a number on each line, such as `memory.stat`.
pub(super) fn named(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Some files have a colon behind the name and a unit behind the number.
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        let number = rest.strip_prefix([' ', '\t'])?.trim_start();
        number.split(' ').next()?.parse().ok()
    })
}

/// The share of the last ten seconds in which some task waited for memory, in percent: `some avg10=0.12 …`.
pub(super) fn stall(text: &str) -> Option<f32> {
    let rest = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    rest.split(' ').next()?.parse().ok()
}

/// The path of a process's cgroup in `/proc/self/cgroup`: that of version 2, or of the controller `memory` of version 1.
pub(super) fn cgroup_path(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match version {
            Version::Two => hierarchy == "0" && controllers.is_empty(),
            Version::One => controllers.split(',').any(|one| one == "memory"),
        };
        is_it.then_some(path)
    })
}

/// Where a hierarchy of cgroups is mounted, and which part of it, in `/proc/self/mountinfo`.
pub(super) fn cgroup_mount(text: &str, version: Version) -> Option<Mount<'_>> {
    text.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1).unwrap_or_default());
        let is_it = match version {
            Version::Two => name == "cgroup2",
            Version::One => name == "cgroup" && options.split(',').any(|one| one == "memory"),
        };
        is_it.then_some(Mount { root, point })
    })
}

/// The version of the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount<'a> {
    /// The path in the hierarchy that is mounted.
    pub(super) root: &'a str,
    /// The directory it is mounted on.
    pub(super) point: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let stat = "anon 10\nfile 20\ninactive_anon 30\ninactive_file 40\nactive_file 50\n";
        assert_eq!(named(stat, "inactive_file"), Some(40));
        assert_eq!(named(stat, "file"), Some(20));
        assert_eq!(named(stat, "inactive"), None);
        let meminfo = "MemTotal:       16316412 kB\nMemFree:         1024 kB\nMemAvailable:    8158206 kB\n";
        assert_eq!(named(meminfo, "MemAvailable"), Some(8_158_206));
        assert_eq!(named("low 0\nhigh 3\nmax 7\noom 0\n", "high"), Some(3));
        assert_eq!(
            (limit("max\n"), limit("1048576\n"), limit("")),
            (Some(None), Some(Some(1 << 20)), None)
        );
    }

    #[test]
    fn the_stall_is_that_of_some_tasks_in_ten_seconds() {
        let pressure =
            "some avg10=12.34 avg60=1.00 avg300=0.10 total=5\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(stall(pressure), Some(12.34));
        assert_eq!(stall(""), None);
    }

    #[test]
    fn a_cgroup_is_found_by_its_version() {
        let both = "12:cpu,cpuacct:/a\n5:memory:/docker/abc\n1:name=systemd:/b\n0::/system.slice/cenote.service\n";
        assert_eq!(cgroup_path(both, Version::Two), Some("/system.slice/cenote.service"));
        assert_eq!(cgroup_path(both, Version::One), Some("/docker/abc"));
        assert_eq!(cgroup_path("0::/a:b\n", Version::Two), Some("/a:b"));
        assert_eq!(cgroup_path("0::/\n", Version::One), None);
        let mounts = "22 1 0:21 / /proc rw shared:5 - proc proc rw\n\
                      30 22 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                      35 22 0:31 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let two = cgroup_mount(mounts, Version::Two).unwrap();
        assert_eq!((two.root, two.point), ("/", "/sys/fs/cgroup"));
        let one = cgroup_mount(mounts, Version::One).unwrap();
        assert_eq!((one.root, one.point), ("/docker/abc", "/sys/fs/cgroup/memory"));
        assert_eq!(cgroup_mount("", Version::Two), None);
    }
}
