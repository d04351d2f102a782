//! Lines on their way to standard error. Invariant: a task that logs a line never waits for the reader, and what waits
//! to be written is bounded; lines beyond are dropped and counted.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Bytes that may wait to be written. A line that does not fit is dropped.
const MOST_WAITING: usize = 1024 * 1024;

/// A handle to the lines.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the thread that writes, and those who wait until all is written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that were not written since the last that were.
    dropped: u64,
    /// Whether what was taken from `waiting` is being written.
    writing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.writing
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        // A state is whole between any two statements that change it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes whole lines.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + lines.len() > MOST_WAITING {
            state.dropped += count(lines);
            return;
        }
        state.waiting.extend_from_slice(lines);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, up to `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let busy = |state: &mut State| !state.is_idle();
        // If it takes longer, the rest is lost with the process.
        drop(self.0.changed.wait_timeout_while(self.state(), limit, busy));
    }

    /// Writes, for ever. `dropped` is told how many lines were not written, once some were again.
    pub(super) fn run(self, mut write: impl FnMut(&[u8]) -> io::Result<()>, dropped: impl Fn(u64)) {
        let mut lines = Vec::new();
        loop {
            self.take(&mut lines);
            let written = write(&lines);
            let mut state = self.state();
            state.writing = false;
            let lost = match written {
                // What tells of them is a line, too, and must find room.
                Ok(()) if state.waiting.len() <= MOST_WAITING / 2 => mem::take(&mut state.dropped),
                Ok(()) => 0,
                Err(_) => {
                    state.dropped += count(&lines);
                    0
                }
            };
            drop(state);
            if lost > 0 {
                dropped(lost);
            }
            self.0.changed.notify_all();
        }
    }

    /// Waits for lines and takes them all, to be written as one.
    fn take(&self, lines: &mut Vec<u8>) {
        lines.clear();
        let nothing = |state: &mut State| state.waiting.is_empty();
        let waited = self.0.changed.wait_while(self.state(), nothing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut state.waiting, lines);
        state.writing = true;
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        thread,
    };

    use super::*;

    /// A log whose writes are seen and answered by the test.
    struct Reader {
        log: Log,
        written: Receiver<String>,
        answer: Sender<io::Result<()>>,
        dropped: Receiver<u64>,
    }

    fn reader() -> Reader {
        let log = Log::default();
        let (wrote, written) = channel();
        let (answer, answers) = channel();
        let (tell, dropped) = channel();
        let writer = log.clone();
        thread::spawn(move || {
            let write = |lines: &[u8]| {
                wrote.send(String::from_utf8(lines.to_vec()).unwrap()).ok();
                answers.recv().unwrap_or(Ok(()))
            };
            writer.run(write, move |count| {
                tell.send(count).ok();
            });
        });
        Reader {
            log,
            written,
            answer,
            dropped,
        }
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_and_counted_and_nobody_waits() {
        let reader = reader();
        reader.log.push(b"first\n");
        assert_eq!(reader.written.recv().unwrap(), "first\n");
        // Nobody reads on, so these wait; the last two find no room.
        let half = vec![b'x'; MOST_WAITING / 2];
        for _ in 0..2 {
            reader.log.push(&half);
        }
        for _ in 0..2 {
            reader.log.push(b"too much\n");
        }
        reader.answer.send(Ok(())).unwrap();
        assert_eq!(reader.written.recv().unwrap().len(), MOST_WAITING);
        assert!(reader.dropped.try_recv().is_err(), "there was no room for it");
        reader.answer.send(Ok(())).unwrap();
        assert_eq!(reader.dropped.recv().unwrap(), 2);
        reader.log.push(b"again\n");
        assert_eq!(reader.written.recv().unwrap(), "again\n");
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted_and_told_of_when_writing_works_again() {
        let reader = reader();
        for _ in 0..2 {
            reader.log.push(b"one\ntwo\n");
            assert_eq!(reader.written.recv().unwrap(), "one\ntwo\n");
            let full = io::ErrorKind::StorageFull;
            reader.answer.send(Err(full.into())).unwrap();
            reader.log.flush(Duration::from_secs(60));
        }
        reader.log.push(b"three\n");
        reader.answer.send(Ok(())).unwrap();
        assert_eq!(reader.dropped.recv().unwrap(), 4);
    }

    #[test]
    fn flushing_waits_for_what_is_being_written_but_not_for_ever() {
        let reader = reader();
        reader.log.push(b"last\n");
        reader.written.recv().unwrap();
        reader.log.flush(Duration::from_millis(1));
        reader.answer.send(Ok(())).unwrap();
        reader.log.flush(Duration::from_secs(60));
        assert!(reader.log.state().is_idle());
    }
}
