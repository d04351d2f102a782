//! The commands that change cells, as they are sent. Invariant: each names one key, so that a cluster can route it.

use redis::Pipeline;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::scripts;

/// What is done to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Lease,
    Fence,
    Release,
    Fill,
    Inval,
    /// Without a script; for the plain cache-aside.
    Set,
}

impl Command {
    /// The scripts, in the order of the commands above.
    pub(crate) const SOURCES: [&str; 5] = [
        scripts::LEASE,
        scripts::FENCE,
        scripts::RELEASE,
        scripts::FILL,
        scripts::INVAL,
    ];

    /// Its script; empty if it has none.
    pub(crate) fn source(self) -> &'static str {
        Self::SOURCES.get(self as usize).copied().unwrap_or("")
    }
}

/// A command's key and arguments.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a, const N: usize> {
    pub(crate) key: &'a [u8],
    pub(crate) arguments: [&'a [u8]; N],
}

/// The names under which every server keeps the scripts: their SHA-1, in hexadecimal.
pub(crate) struct Digests([String; Command::SOURCES.len()]);

impl Digests {
    pub(crate) fn new() -> Self {
        let name = |source: &str| {
            let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
            let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
            digits.collect()
        };
        Self(Command::SOURCES.map(name))
    }

    /// A pipeline that gives the command for each of these keys.
    pub(crate) fn pipeline<const N: usize>(
        &self,
        command: Command,
        calls: &[Call<'_, N>],
    ) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            match self.0.get(command as usize) {
                Some(name) => pipeline.cmd("EVALSHA").arg(name).arg(1),
                None => pipeline.cmd("SET"),
            }
            .arg(call.key)
            .arg(&call.arguments[..]);
        }
        pipeline
    }
}
