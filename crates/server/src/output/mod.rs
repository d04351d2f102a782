//! What the program writes: a command's result to standard output, everything else to standard error.
//!
//! Invariant: nothing else in this crate prints. A result that could not be written makes its command fail; a line for
//! standard error that could not be written fails nothing.

mod log;

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    process::ExitCode,
    sync::OnceLock,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use self::log::Log;

/// Longest wait at the end for a reader of standard error that does not read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines for standard error go, once [`write_errors_in_background`] has started it.
static LOG: OnceLock<Log> = OnceLock::new();

/// The result of a command, on standard output.
#[derive(Default)]
pub(crate) struct Output {
    /// Why it did not arrive. Nothing is written after it.
    error: Option<io::Error>,
}

impl Output {
    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        if self.error.is_none() {
            self.error = write_all(io::stdout(), text.as_bytes()).err();
        }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.text(&format!("{line}\n"));
    }

    /// The exit code of a command that would end with `code`: a failure if its result could not be written. A reader
    /// that went away early has seen what it wanted, so that is none.
    pub(crate) fn finish(self, code: ExitCode) -> ExitCode {
        match self.error {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                complain(format_args!("cenote: cannot write to standard output: {error}"));
                ExitCode::FAILURE
            }
            _ => code,
        }
    }
}

impl From<io::Result<()>> for Output {
    /// The output of something that has written to standard output by itself.
    fn from(written: io::Result<()>) -> Self {
        Self { error: written.err() }
    }
}

/// Writes a line for people to standard error, after the lines of the log so far.
pub(crate) fn complain(line: impl Display) {
    to_stderr(format!("{line}\n").as_bytes());
}

/// Standard error as a writer: each write is taken whole, or dropped and counted, and none fails.
#[derive(Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        to_stderr(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_stderr(lines: &[u8]) {
    match LOG.get() {
        Some(log) => log.push(lines),
        // The reader may have gone: that is no reason to end.
        None => drop(write_all(io::stderr(), lines)),
    }
}

/// From now on a thread writes to standard error, so that nobody waits for its reader. `dropped` is called on it
/// with the number of lines that were not written, when writing works again.
pub(crate) fn write_errors_in_background(dropped: fn(u64)) {
    let log = Log::default();
    let writer = log.clone();
    let write = move || writer.run(|lines| write_all(io::stderr(), lines), dropped);
    // Without a thread, each line is written by the task that logs it.
    if std::thread::Builder::new().name("log".to_owned()).spawn(write).is_ok() {
        // A second call finds the first one's.
        let _already = LOG.set(log);
    }
}

/// Waits until standard error has taken what was written, a second at most. For the end of the process.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush(LAST_LINES);
    }
}

/// Writes everything, and waits where the stream was opened as non-blocking.
fn write_all(mut stream: impl Write + AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) => wait(&stream, error)?,
        }
    }
    loop {
        match stream.flush() {
            Ok(()) => return Ok(()),
            Err(error) => wait(&stream, error)?,
        }
    }
}

/// Waits after an error that passes, or gives it back.
fn wait(stream: &impl AsFd, error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => {
            let mut writable = [PollFd::new(stream, PollFlags::OUT)];
            match poll(&mut writable, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        _ => Err(error),
    }
}
