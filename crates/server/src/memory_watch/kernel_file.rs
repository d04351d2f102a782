//! A file of the kernel that is read again and again. Invariant: it stays open, and a reading is one system call.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Longer than any of the files: `memory.stat` has about 2 KiB, `/proc/meminfo` 1.5 KiB.
const LONGEST: usize = 8192;

/// Holds what was read last.
#[derive(Debug)]
pub(super) struct Buffer(Box<[u8; LONGEST]>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(Box::new([0; LONGEST]))
    }
}

/// An open file of the kernel.
#[derive(Debug)]
pub(super) struct KernelFile(File);

impl KernelFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Reads it from its beginning, and takes from it what `parse` finds.
    pub(super) fn read<T>(&self, buffer: &mut Buffer, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
        let length = self.0.read_at(&mut *buffer.0, 0)?;
        let text = std::str::from_utf8(&buffer.0[..length]).unwrap_or_default();
        parse(text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a file of the kernel is not as expected"))
    }
}
