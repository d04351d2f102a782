//! A bounded queue of lines for standard error.
//!
//! Invariant: a task that logs a line never waits for the reader. Lines beyond the bound are dropped and counted.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The bound of the queue in bytes. A line that does not fit is dropped.
const CAPACITY: usize = 1024 * 1024;

/// A handle to the queue. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified after a push, for the thread that writes, and after a write, for `flush`.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The number of lines lost since it was last reported.
    dropped: u64,
    /// Whether lines taken from `waiting` are being written.
    writing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.writing
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        // No statement below can panic between two changes that belong together, so a poisoned state is consistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues whole lines, or drops and counts them.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + lines.len() > CAPACITY {
            state.dropped += count(lines);
            return;
        }
        state.waiting.extend_from_slice(lines);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let busy = |state: &mut State| !state.is_idle();
        // After that, the rest is lost with the process.
        drop(self.0.changed.wait_timeout_while(self.state(), limit, busy));
    }

    /// Writes the lines with `write`; never returns. When writing works again, `dropped` gets the number of lost lines.
    pub(super) fn run(self, mut write: impl FnMut(&[u8]) -> io::Result<()>, dropped: impl Fn(u64)) {
        let mut lines = Vec::new();
        loop {
            self.take(&mut lines);
            let written = write(&lines);
            let mut state = self.state();
            state.writing = false;
            let lost = match written {
                // The report of lost lines is a line itself and needs room in the queue.
                Ok(()) if state.waiting.len() <= CAPACITY / 2 => mem::take(&mut state.dropped),
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

    /// Waits for lines and moves all of them into `lines`, to be written at once.
    fn take(&self, lines: &mut Vec<u8>) {
        lines.clear();
        let nothing = |state: &mut State| state.waiting.is_empty();
        let changed = &self.0.changed;
        let mut state = changed
            .wait_while(self.state(), nothing)
            .unwrap_or_else(PoisonError::into_inner);
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
        let half = vec![b'x'; CAPACITY / 2];
        for _ in 0..2 {
            reader.log.push(&half);
        }
        for _ in 0..2 {
            reader.log.push(b"too much\n");
        }
        reader.answer.send(Ok(())).unwrap();
        assert_eq!(reader.written.recv().unwrap().len(), CAPACITY);
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
