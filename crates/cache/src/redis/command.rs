//! The commands for cells, and the pipeline that carries them. Invariant: answers come in the order in which the cells were
//! added, one for each.

use redis::{Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::{
    protocol::{
        arguments::{Arguments, CellKey},
        hex::hex,
        keyspace_proof::KeyspaceProof,
        scripts,
    },
    redis::{connection::Connection, errors::protocol},
};

/// The most cells in one command: Redis serves nobody else while it runs one, and 128 cells take well under a millisecond.
const MOST_CELLS: usize = 128;

/// A command for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CellCommand {
    Lease,
    Fence,
    Release,
    Fill,
    Inval,
    /// `MGET`, not a script.
    Get,
    /// `SET`, not a script; for a cache-aside.
    Set,
}

impl CellCommand {
    /// The scripts, in the order of the variants above.
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

    /// The number of arguments for each cell.
    fn arguments(self) -> usize {
        match self {
            Self::Get | Self::Inval => 0,
            Self::Release => 1,
            Self::Lease | Self::Fence => 2,
            Self::Fill | Self::Set => 3,
        }
    }
}

/// One command for several cells, with its arguments for each.
pub(crate) struct CellCalls {
    command: CellCommand,
    cells: Arguments,
    arguments: Arguments,
}

impl CellCalls {
    /// With room for this number of cells, whose keys take this number of bytes together.
    pub(crate) fn with_capacity(command: CellCommand, cells: usize, bytes: usize) -> Self {
        let arguments = cells * command.arguments();
        Self {
            command,
            cells: Arguments::with_capacity(cells, bytes),
            arguments: Arguments::with_capacity(arguments, arguments * 16),
        }
    }

    /// Adds a cell and the command's arguments for it.
    pub(crate) fn add<const N: usize>(&mut self, cell: CellKey<'_>, arguments: [&[u8]; N]) {
        debug_assert_eq!(N, self.command.arguments(), "{:?}", self.command);
        self.cells.push_key(cell);
        for argument in arguments {
            self.arguments.push(argument);
        }
    }

    pub(crate) fn command(&self) -> CellCommand {
        self.command
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Divides the calls among nodes. Returns the calls of each node, and their positions among all.
    pub(crate) fn spread(&self, nodes: usize, node_of: impl Fn(&[u8]) -> usize) -> Vec<(Self, Vec<usize>)> {
        let empty = |_| (Self::with_capacity(self.command, 0, 0), Vec::new());
        let mut parts: Vec<_> = (0..nodes).map(empty).collect();
        let mut arguments = self.arguments.iter();
        for (at, cell) in self.cells.iter().enumerate() {
            let (calls, positions) = &mut parts[node_of(cell)];
            positions.push(at);
            calls.cells.push(cell);
            for argument in arguments.by_ref().take(self.command.arguments()) {
                calls.arguments.push(argument);
            }
        }
        parts
    }
}

/// The names under which every server keeps the scripts: their SHA-1, in hexadecimal.
pub(crate) struct Digests([String; CellCommand::SOURCES.len()]);

impl Digests {
    pub(crate) fn new() -> Self {
        let name = |source: &str| hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes()).as_ref());
        Self(CellCommand::SOURCES.map(name))
    }

    /// The name of a command's script, if it has one.
    fn of(&self, command: CellCommand) -> Option<&str> {
        self.0.get(command as usize).map(String::as_str)
    }
}

/// Builds the pipeline of one batch for a server.
pub(crate) struct PipelineBuilder<'a> {
    digests: &'a Digests,
    /// In a cluster the cells of one command would have to share a slot, so each cell gets a command.
    is_in_cluster: bool,
    /// What every command reads beside its cells.
    proof: Option<&'a KeyspaceProof>,
    pipeline: Pipeline,
    /// The number of commands that only read. They come first.
    reads: usize,
    cells: usize,
}

impl<'a> PipelineBuilder<'a> {
    pub(crate) fn new(digests: &'a Digests, is_in_cluster: bool, proof: Option<&'a KeyspaceProof>) -> Self {
        Self {
            digests,
            is_in_cluster,
            proof,
            pipeline: Pipeline::new(),
            reads: 0,
            cells: 0,
        }
    }

    /// Adds these calls, all of the same command.
    pub(crate) fn add_calls<'c>(&mut self, calls: impl Iterator<Item = &'c CellCalls> + Clone) {
        let Some(command) = calls.clone().next().map(|first| first.command) else {
            return;
        };
        let count = calls.clone().map(CellCalls::len).sum();
        let cells = calls.clone().flat_map(|calls| calls.cells.iter());
        let arguments = calls.flat_map(|calls| calls.arguments.iter());
        self.add(command, count, cells, arguments);
    }

    /// Adds a command for this number of cells. Reads must be added first.
    pub(crate) fn add<'c>(
        &mut self,
        command: CellCommand,
        count: usize,
        mut cells: impl Iterator<Item = &'c [u8]>,
        mut arguments: impl Iterator<Item = &'c [u8]>,
    ) {
        self.cells += count;
        let most = match command {
            CellCommand::Set => 1,
            _ if self.is_in_cluster => 1,
            _ => MOST_CELLS,
        };
        let proof = self.proof.filter(|_| command != CellCommand::Set);
        let mut left = count;
        while left > 0 {
            let of_this = left.min(most);
            let words = of_this * (1 + command.arguments());
            let mut cmd = Cmd::with_capacity(words + 5, words * 24 + 160);
            match (command, self.digests.of(command)) {
                (_, Some(script)) => cmd
                    .arg("EVALSHA")
                    .arg(script)
                    .arg(of_this + usize::from(proof.is_some())),
                (CellCommand::Set, None) => cmd.arg("SET"),
                (_, None) => cmd.arg("MGET"),
            };
            for cell in cells.by_ref().take(of_this) {
                cmd.arg(cell);
            }
            // The last key and the last argument, where the scripts expect the proof.
            if let Some(proof) = proof {
                cmd.arg(&proof.key);
            }
            for argument in arguments.by_ref().take(of_this * command.arguments()) {
                cmd.arg(argument);
            }
            if command.is_script() {
                cmd.arg(proof.map_or(&[][..], |proof| &proof.holds.0));
            }
            self.pipeline.add_command(cmd);
            left -= of_this;
        }
        if command == CellCommand::Get {
            self.reads = self.pipeline.len();
        }
    }

    /// Sends the pipeline and returns the answers for all cells; `None` if a command missed the proof. Then other commands
    /// of the pipeline may have had their effect; repeating them does no harm.
    pub(crate) async fn send(mut self, connection: &mut Connection) -> RedisResult<Option<Vec<Value>>> {
        let connection = &mut connection.commands;
        let mut answers: Vec<RedisResult<Value>> = self.pipeline.ignore_errors().query_async(connection).await?;
        if answers.len() != self.pipeline.len() {
            return Err(protocol("an answer is missing"));
        }
        if answers.iter().any(is_no_script) {
            // The server has forgotten the scripts (SCRIPT FLUSH). These commands had no effect, and are sent again.
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
                // A read returns the proof behind the cells.
                (Value::Array(each), Some(proof)) if at < self.reads => {
                    values.extend(each);
                    if !matches!(values.pop(), Some(Value::BulkString(it)) if it == proof.holds.0) {
                        return Ok(None);
                    }
                }
                (Value::Array(each), _) => values.extend(each),
                // A script that misses the proof returns nil.
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
pub(crate) async fn load_scripts(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut load = redis::pipe();
    for source in CellCommand::SOURCES {
        load.cmd("SCRIPT").arg("LOAD").arg(source).ignore();
    }
    load.query_async(connection).await
}

/// Runs every command of the protocol once on a cell that nobody uses, so that what the server or the user's permissions
/// refuse is known before anything depends on it. Commands within scripts are run on their own as well: a refusal within a
/// script would not name the command.
pub(crate) async fn rehearse(
    connection: &mut MultiplexedConnection,
    digests: &Digests,
    cell: &[u8],
) -> RedisResult<()> {
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
    let script = digests.of(CellCommand::Inval);
    rehearsal.cmd("EVALSHA").arg(script).arg(1).arg(cell).arg("").ignore();
    rehearsal.query_async(connection).await
}

/// The commands that the protocol uses, in scripts and outside.
const REHEARSED: [&str; 6] = ["MGET", "GET", "SET", "PTTL", "PEXPIRE", "DEL"];

fn is_no_script(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if error.code() == Some("NOSCRIPT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_scripts_is_tried_at_connect() {
        for source in CellCommand::SOURCES {
            for call in source.split("redis.call('").skip(1) {
                let command = call.split('\'').next().unwrap_or_default();
                assert!(REHEARSED.contains(&command), "{command}");
            }
            assert!(!source.contains("redis.pcall"));
        }
    }

    #[test]
    fn calls_are_spread_over_nodes_with_their_arguments() {
        let keys = ["a1", "b0", "c1", "d1"];
        let mut calls = CellCalls::with_capacity(CellCommand::Lease, 1, 1);
        for key in keys {
            let cell = CellKey { prefix: "p:", key };
            calls.add(cell, [key.as_bytes(), b"7"]);
        }
        let node_of = |cell: &[u8]| usize::from(cell.ends_with(b"1"));
        let parts = calls.spread(3, node_of);
        let positions: Vec<_> = parts.iter().map(|(_, positions)| positions.clone()).collect();
        assert_eq!(positions, [vec![1], vec![0, 2, 3], vec![]]);
        let (calls, _) = &parts[1];
        let cells: Vec<_> = calls.cells.iter().collect();
        assert_eq!(cells, [&b"p:a1"[..], b"p:c1", b"p:d1"]);
        let arguments: Vec<_> = calls.arguments.iter().collect();
        assert_eq!(arguments, [&b"a1"[..], b"7", b"c1", b"7", b"d1", b"7"]);
    }
}
