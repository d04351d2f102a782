//! What the program writes: a command's result to standard output, everything else to standard error.
//!
//! Invariant: nothing else in this crate prints. A command fails if its result cannot be written; a line that standard
//! error does not take is dropped without an error.

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

/// Maximum wait at the end for the reader of standard error.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue of lines for standard error, once [`write_errors_in_background`] has started its thread.
static LOG: OnceLock<Log> = OnceLock::new();

/// The result of a command, on standard output.
#[derive(Default)]
pub(crate) struct Output {
    /// The first error. Nothing is written after it.
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

    /// Whether everything was written so far.
    pub(crate) fn is_taken(&self) -> bool {
        self.error.is_none()
    }

    /// Returns the exit code: a failure if the result could not be written, otherwise `code`. A reader that has closed the
    /// pipe is no failure, because it has read what it needs.
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
    /// The output of code that has written to standard output directly.
    fn from(written: io::Result<()>) -> Self {
        Self { error: written.err() }
    }
}

/// Writes a line to standard error, behind the lines of the log.
pub(crate) fn complain(line: impl Display) {
    to_stderr(format!("{line}\n").as_bytes());
}

/// Standard error as a writer. A write is taken whole or dropped and counted; it never fails.
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
        // A reader that has gone must not end the process.
        None => drop(write_all(io::stderr(), lines)),
    }
}

/// Starts a thread that writes to standard error, so that no task waits for its reader. When writing works again, the
/// thread calls `dropped` with the number of lines that were lost.
pub(crate) fn write_errors_in_background(dropped: fn(u64)) {
    let log = Log::default();
    let writer = log.clone();
    let write = move || writer.run(|lines| write_all(io::stderr(), lines), dropped);
    // Without a thread, the task that logs a line writes it.
    if std::thread::Builder::new().name("log".to_owned()).spawn(write).is_ok() {
        // Fails on a second call; the first one's thread goes on.
        let _already = LOG.set(log);
    }
}

/// Waits until standard error has taken all lines, a second at most. Call it at the end of the process.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush(FLUSH_TIMEOUT);
    }
}

/// Writes everything. Waits if the stream is non-blocking and full.
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

/// Waits until the stream is writable again after a temporary error; returns any other error.
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
