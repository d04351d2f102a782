//! The commands for cells, and what of them goes to a server at once. Invariant: answers come back in the order of what
//! was asked, one for each cell.

use redis::{Cmd, Pipeline, RedisResult, Value};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::{
    connection::Connection,
    proof::Proof,
    reply::protocol,
    scripts,
    words::{Name, Words},
};

/// The most cells that one command names, so that a server is not kept from others for long.
const MOST_CELLS: usize = 128;

/// What is done to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Command {
    Lease,
    Fence,
    Release,
    Fill,
    Inval,
    /// Without a script.
    Get,
    /// Without a script; for the plain cache-aside.
    Set,
}

impl Command {
    /// The scripts, in the order of the commands above.
    const SOURCES: [&str; 5] = [
        scripts::LEASE,
        scripts::FENCE,
        scripts::RELEASE,
        scripts::FILL,
        scripts::INVAL,
    ];

    fn is_script(self) -> bool {
        (self as usize) < Self::SOURCES.len()
    }

    /// How many arguments it has for each cell.
    fn arguments(self) -> usize {
        match self {
            Self::Get | Self::Inval => 0,
            Self::Release => 1,
            Self::Lease | Self::Fence => 2,
            Self::Fill | Self::Set => 3,
        }
    }
}

/// A command for some cells.
pub(crate) struct Calls {
    command: Command,
    cells: Words,
    arguments: Words,
}

impl Calls {
    /// With room for so many cells, whose names take so many bytes.
    pub(crate) fn with_capacity(command: Command, cells: usize, bytes: usize) -> Self {
        let arguments = cells * command.arguments();
        Self {
            command,
            cells: Words::with_capacity(cells, bytes),
            arguments: Words::with_capacity(arguments, arguments * 16),
        }
    }

    /// Adds a cell and the command's arguments for it.
    pub(crate) fn add<const N: usize>(&mut self, cell: Name<'_>, arguments: [&[u8]; N]) {
        debug_assert_eq!(N, self.command.arguments(), "{:?}", self.command);
        self.cells.push_name(cell);
        for argument in arguments {
            self.arguments.push(argument);
        }
    }

    pub(crate) fn command(&self) -> Command {
        self.command
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The calls of each of so many places, and which of all each of them is.
    pub(crate) fn spread(&self, places: usize, place: impl Fn(&[u8]) -> usize) -> Vec<(Self, Vec<usize>)> {
        let empty = |_| (Self::with_capacity(self.command, 0, 0), Vec::new());
        let mut parts: Vec<_> = (0..places).map(empty).collect();
        let mut arguments = self.arguments.iter();
        for (at, cell) in self.cells.iter().enumerate() {
            let (calls, which) = &mut parts[place(cell)];
            which.push(at);
            calls.cells.push(cell);
            for argument in arguments.by_ref().take(self.command.arguments()) {
                calls.arguments.push(argument);
            }
        }
        parts
    }
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

    /// The beginning of a command for this number of cells, and as many keys.
    fn begin(&self, command: Command, cells: usize, keys: usize) -> Cmd {
        let words = cells * (1 + command.arguments());
        let mut begun = Cmd::with_capacity(words + 5, words * 24 + 160);
        match (command, self.0.get(command as usize)) {
            (_, Some(name)) => begun.arg("EVALSHA").arg(name).arg(keys),
            (Command::Set, None) => begun.arg("SET"),
            (_, None) => begun.arg("MGET"),
        };
        begun
    }
}

/// What goes to a server at once.
pub(crate) struct Batch<'a> {
    digests: &'a Digests,
    /// In a cluster the cells of one command would have to share a slot.
    is_in_cluster: bool,
    /// What every command asks for beside its cells.
    proof: Option<&'a Proof>,
    pipeline: Pipeline,
    /// How many of the commands, the first ones, read.
    reads: usize,
    cells: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(digests: &'a Digests, is_in_cluster: bool, proof: Option<&'a Proof>) -> Self {
        Self {
            digests,
            is_in_cluster,
            proof,
            pipeline: Pipeline::new(),
            reads: 0,
            cells: 0,
        }
    }

    /// Adds reads of these cells, before anything else.
    pub(crate) fn read(&mut self, cells: &Words) {
        self.add(Command::Get, cells.len(), cells.iter(), [].into_iter());
        self.reads = self.pipeline.len();
    }

    /// Adds these calls, all of the same command.
    pub(crate) fn call<'c>(&mut self, calls: impl Iterator<Item = &'c Calls> + Clone) {
        let Some(command) = calls.clone().next().map(|first| first.command) else {
            return;
        };
        let count = calls.clone().map(Calls::len).sum();
        let cells = calls.clone().flat_map(|calls| calls.cells.iter());
        let arguments = calls.flat_map(|calls| calls.arguments.iter());
        self.add(command, count, cells, arguments);
    }

    fn add<'c>(
        &mut self,
        command: Command,
        count: usize,
        mut cells: impl Iterator<Item = &'c [u8]>,
        mut arguments: impl Iterator<Item = &'c [u8]>,
    ) {
        self.cells += count;
        let most = match command {
            Command::Set => 1,
            _ if self.is_in_cluster => 1,
            _ => MOST_CELLS,
        };
        let proof = self.proof.filter(|_| command != Command::Set);
        let mut left = count;
        while left > 0 {
            let of_this = left.min(most);
            let keys = of_this + usize::from(proof.is_some());
            let mut begun = self.digests.begin(command, of_this, keys);
            for word in cells.by_ref().take(of_this) {
                begun.arg(word);
            }
            if let Some(proof) = proof {
                begun.arg(&proof.key);
            }
            for word in arguments.by_ref().take(of_this * command.arguments()) {
                begun.arg(word);
            }
            if command.is_script() {
                begun.arg(proof.map_or(&[][..], |proof| &proof.holds.0));
            }
            self.pipeline.add_command(begun);
            left -= of_this;
        }
    }

    /// Sends it, and returns the answers for all cells, in the order in which they were added; `None` if the proof was not
    /// found with all of them. Then some commands may have had their effect, and repeating them is harmless.
    pub(crate) async fn send(mut self, connection: &mut Connection) -> RedisResult<Option<Vec<Value>>> {
        let mut answers = query(&mut self.pipeline, connection).await?;
        if answers.iter().any(is_no_script) {
            // The server has forgotten the scripts. So these had no effect, and are sent again.
            load_scripts(connection).await?;
            for (command, answer) in self.pipeline.cmd_iter().zip(&mut answers) {
                if is_no_script(answer) {
                    *answer = Ok(command.query_async(connection).await?);
                }
            }
        }
        let mut values = Vec::with_capacity(self.cells + 1);
        for (at, answer) in answers.into_iter().enumerate() {
            match (answer?, self.proof) {
                (Value::Array(each), Some(proof)) if at < self.reads => {
                    values.extend(each);
                    if !matches!(values.pop(), Some(Value::BulkString(it)) if it == proof.holds.0) {
                        return Ok(None);
                    }
                }
                (Value::Array(each), _) => values.extend(each),
                (Value::Nil, Some(_)) => return Ok(None),
                (one, _) => values.push(one),
            }
        }
        if values.len() == self.cells {
            Ok(Some(values))
        } else {
            Err(protocol("an answer is missing"))
        }
    }
}

/// Has a server keep the scripts.
pub(crate) async fn load_scripts(connection: &mut Connection) -> RedisResult<()> {
    let mut load = redis::pipe();
    for source in Command::SOURCES {
        load.cmd("SCRIPT").arg("LOAD").arg(source).ignore();
    }
    load.query_async(connection).await
}

/// Carries out once what cells are read and changed with, in scripts and outside, on a cell that is nobody's: what the
/// server or the user's permissions refuse is known before anything depends on it. Within a script a refusal would not
/// even name the command.
pub(crate) async fn rehearse(connection: &mut Connection, digests: &Digests, cell: &[u8]) -> RedisResult<()> {
    let mut rehearsal = redis::pipe();
    for command in REHEARSED {
        rehearsal.cmd(command).arg(cell);
        match command {
            "SET" => rehearsal.arg(&["N", "PX", "1000"]),
            "PEXPIRE" => rehearsal.arg("1000"),
            _ => &mut rehearsal,
        };
        rehearsal.ignore();
    }
    let mut script = digests.begin(Command::Inval, 1, 1);
    script.arg(cell).arg("");
    rehearsal.add_command(script).ignore();
    rehearsal.query_async(connection).await
}

/// What is done to cells.
const REHEARSED: [&str; 6] = ["MGET", "GET", "SET", "PTTL", "PEXPIRE", "DEL"];

/// One answer for each command.
async fn query(pipeline: &mut Pipeline, connection: &mut Connection) -> RedisResult<Vec<RedisResult<Value>>> {
    let expected = pipeline.len();
    let answers: Vec<_> = pipeline.ignore_errors().query_async(connection).await?;
    if answers.len() == expected {
        Ok(answers)
    } else {
        Err(protocol("an answer is missing"))
    }
}

fn is_no_script(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if error.code() == Some("NOSCRIPT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_scripts_is_rehearsed() {
        for source in Command::SOURCES {
            for call in source.split("redis.call('").skip(1) {
                let command = call.split('\'').next().unwrap_or_default();
                assert!(REHEARSED.contains(&command), "{command}");
            }
            assert!(!source.contains("redis.pcall"));
        }
    }

    #[test]
    fn calls_are_spread_over_places_with_their_arguments() {
        let keys = ["a1", "b0", "c1", "d1"];
        let mut calls = Calls::with_capacity(Command::Lease, 1, 1);
        for key in keys {
            let cell = Name { prefix: "p:", key };
            calls.add(cell, [key.as_bytes(), b"7"]);
        }
        let place = |cell: &[u8]| usize::from(cell.ends_with(b"1"));
        let parts = calls.spread(3, place);
        let of: Vec<_> = parts.iter().map(|(_, which)| which.clone()).collect();
        assert_eq!(of, [vec![1], vec![0, 2, 3], vec![]]);
        let (calls, _) = &parts[1];
        let cells: Vec<_> = calls.cells.iter().collect();
        assert_eq!(cells, [&b"p:a1"[..], b"p:c1", b"p:d1"]);
        let arguments: Vec<_> = calls.arguments.iter().collect();
        assert_eq!(arguments, [&b"a1"[..], b"7", b"c1", b"7", b"d1", b"7"]);
    }
}
