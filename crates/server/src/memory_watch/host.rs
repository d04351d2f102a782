//! The memory of the machine, where no cgroup limits the process. Invariant: what the kernel calls available counts as
//! unused, so the page cache does not count as used.

use std::{io, path::Path};

use super::{
    kernel_file::{Buffer, KernelFile},
    parse,
    reader::{MemoryReader, Reading},
};

#[derive(Debug)]
struct Host {
    meminfo: KernelFile,
    pressure: Option<KernelFile>,
    buffer: Buffer,
}

/// Opens the files; `None` if the system has none. `proc` is `/proc`.
pub(super) fn find(proc: &Path) -> Option<Box<dyn MemoryReader>> {
    let mut host = Host {
        meminfo: KernelFile::open(&proc.join("meminfo")).ok()?,
        pressure: KernelFile::open(&proc.join("pressure/memory")).ok(),
        buffer: Buffer::new(),
    };
    host.read().ok()?;
    Some(Box::new(host))
}

impl MemoryReader for Host {
    fn read(&mut self) -> io::Result<Reading> {
        let both = |text: &str| Some((parse::named(text, "MemTotal")?, parse::named(text, "MemAvailable")?));
        let (total, available) = self.meminfo.read(&mut self.buffer, both)?;
        let pressure = self.pressure.as_ref();
        Ok(Reading {
            used: total.saturating_sub(available) * 1024,
            limit: (total * 1024).max(1),
            stall: pressure.and_then(|file| file.read(&mut self.buffer, parse::stall).ok()),
            ..Reading::default()
        })
    }

    fn source(&self) -> &'static str {
        "the machine's memory"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_available_is_used() {
        let proc = tempfile::tempdir().unwrap();
        assert!(find(proc.path()).is_none());
        let meminfo = "MemTotal:       1000 kB\nMemFree:         10 kB\nMemAvailable:    400 kB\n";
        std::fs::write(proc.path().join("meminfo"), meminfo).unwrap();
        let reading = find(proc.path()).unwrap().read().unwrap();
        assert_eq!(
            (reading.used, reading.limit, reading.stall),
            (600 * 1024, 1000 * 1024, None)
        );
    }
}
