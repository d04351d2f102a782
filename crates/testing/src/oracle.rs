//! A reference implementation in Python, asked over pipes by tests that compare with it.
//!
//! Invariant: one question, one answer, in order.

#![allow(clippy::unwrap_used, reason = "a failed test setup may panic")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// For each line, calls `answer(*fields)` with byte strings and prints the list of byte strings that it returns. `None`
/// is a refusal.
const LOOP: &str = r#"
import sys
for line in sys.stdin:
    found = answer(*[bytes.fromhex(field[1:]) for field in line.split()])
    print("refused" if found is None else " ".join(["found"] + ["x" + field.hex() for field in found]), flush=True)
"#;

/// A Python process that answers questions as a reference implementation does. It ends when this is dropped.
///
/// All functions panic if it cannot be started or has ended.
#[derive(Debug)]
pub struct Oracle {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// Starts the process. `program` defines the function `answer`.
    pub fn start(program: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join("target/oracles/bin/python");
        assert!(
            python.exists(),
            "the reference implementations are missing: run scripts/setup test"
        );
        let mut process = Command::new(python)
            .args(["-c", &format!("{program}\n{LOOP}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The process may end a moment after the test, whose output must not stay open until then.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            questions: process.stdin.take(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// The answer, or `None` if the program refuses the question.
    pub fn ask(&mut self, fields: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
        let line: Vec<_> = fields.iter().map(|field| format!("x{}", hex(field))).collect();
        writeln!(self.questions.as_ref().unwrap(), "{}", line.join(" ")).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let mut words = answer.split_ascii_whitespace();
        match words.next() {
            Some("refused") => None,
            Some("found") => Some(words.map(|word| unhex(&word[1..])).collect()),
            _ => panic!("the reference implementation has ended"),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ended = self.process.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
