//! Follows both directions of a PostgreSQL conversation. It neither reads nor writes.
//!
//! Expected answers are a queue of requests, not a count, because of COPY FROM STDIN. While the server accepts COPY
//! data, it ignores the Sync that came with the Execute, and answers only the Sync after the data. If it refuses the
//! COPY first, it answers both. tokio-postgres expects one answer per request and would assign the second to the next
//! request. Such a conversation has a [`Fault`] and must not continue.
//!
//! Invariant: the state depends on the bytes and on the order of the directions, never on where the bytes are split.

use std::collections::VecDeque;

use super::frame_splitter::{FrameSplitter, Garbled};
use super::reported::Reported;
use super::status::{self, Dirt, SqlStateCode, TransactionStatus};
use super::tags;

/// A request that the server answers with ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A Sync, or the startup packet.
    Sync,
    /// The Sync after CopyDone or CopyFail, if that was sent before the server accepted the COPY.
    SyncAfterCopyEnd,
    /// A simple query or a function call.
    Query,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client's first message, which has no tag, comes next.
    Start,
    /// Authentication and settings, up to the first ReadyForQuery.
    StartUp,
    /// Queries.
    Ready,
}

/// The state after a failed COPY.
///
/// If the server had not read the COPY's first Sync before the error, it answers that one too. Then a second
/// ReadyForQuery follows for the Sync after the data, before the answer to any later request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyFailure {
    /// No COPY failed, or no second ReadyForQuery can come.
    None,
    /// The error has come, its ReadyForQuery has not.
    Failed,
    /// A second ReadyForQuery may come. Any other message proves that it does not. The answer to a plain Sync cannot be
    /// told from it.
    Unproven,
}

/// Whether the current command returns rows. `CREATE TABLE AS` and `SELECT INTO` have the tag of a SELECT but return
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// Unknown: in the extended protocol the rows of a prepared statement are not described again, and there may be
    /// none.
    Unknown,
    /// It described or sent rows.
    Shown,
    /// The server said that it has none.
    Hidden,
}

/// Why a conversation must not continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A message is shorter than its own header.
    Garbled,
    /// The server answered what was not asked. This very answer would be taken
    /// for that of another request.
    Unrequested,
    /// The server refused a COPY FROM STDIN and will answer, once more, the end
    /// of data that was sent, or is about to be.
    CopyRefused,
}

impl Fault {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Garbled => "the server's messages make no sense",
            Self::Unrequested => "the server sent an answer to no question",
            Self::CopyRefused => "a refused COPY left one answer too many",
        }
    }
}

pub(super) struct Frames {
    phase: Phase,
    frontend: FrameSplitter,
    backend: FrameSplitter,
    owed: VecDeque<Expected>,
    transaction: TransactionStatus,
    /// The last message written does not end a request.
    open: bool,
    /// The server waits for COPY data.
    copy_in: bool,
    /// The server seems to have ignored the COPY's first Sync. Then the one queued request stands for the Sync after
    /// the data, which was not sent yet.
    sync_ignored: bool,
    /// CopyDone or CopyFail was sent, and its Sync was not.
    copy_ended: bool,
    /// A COPY FROM STDIN of the extended protocol has begun and not completed.
    copying: bool,
    copy_failure: CopyFailure,
    rows: Rows,
    broken: bool,
    fault: Option<Fault>,
    dirt: Dirt,
    /// The number of completions with `Dirt::CLAIMED`.
    claims: u32,
    reported: Reported,
    error: Option<SqlStateCode>,
    process_id: u32,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Start,
            frontend: FrameSplitter::new(true),
            backend: FrameSplitter::new(false),
            owed: VecDeque::with_capacity(8),
            transaction: TransactionStatus::Idle,
            open: false,
            copy_in: false,
            sync_ignored: false,
            copy_ended: false,
            copying: false,
            copy_failure: CopyFailure::None,
            rows: Rows::Unknown,
            broken: false,
            fault: None,
            dirt: Dirt::NONE,
            claims: 0,
            reported: Reported::default(),
            error: None,
            process_id: 0,
        }
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The stream ended or failed.
    pub(super) fn set_broken(&mut self) {
        self.broken = true;
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Takes the dirt seen since the last call.
    pub(super) fn take_dirt(&mut self) -> Dirt {
        std::mem::replace(&mut self.dirt, Dirt::NONE)
    }

    /// Takes the number of completions with [`Dirt::CLAIMED`] since the last call.
    pub(super) fn take_claims(&mut self) -> u32 {
        std::mem::take(&mut self.claims)
    }

    /// Takes the most important error since the last call.
    pub(super) fn take_error(&mut self) -> Option<SqlStateCode> {
        self.error.take()
    }

    /// Returns the state as bits of the status word.
    pub(super) fn bits(&self) -> u32 {
        let bit = |condition, bit| if condition { bit } else { 0 };
        let transaction = match self.transaction {
            TransactionStatus::Idle => 0,
            TransactionStatus::Open => status::IN_TRANSACTION,
            TransactionStatus::Failed => status::FAILED,
        };
        bit(!self.owed.is_empty(), status::OWED)
            | bit(self.open || self.frontend.is_amid(), status::OPEN)
            | bit(self.copy_in, status::COPY_IN)
            | bit(self.copy_failure != CopyFailure::None, status::UNPROVEN)
            | bit(self.broken || self.fault.is_some(), status::BROKEN)
            | transaction
    }

    /// Takes bytes that the socket accepted. After a fault nothing is followed.
    pub(super) fn on_write(&mut self, mut bytes: &[u8]) {
        while self.fault.is_none() {
            let untyped = self.phase == Phase::Start;
            match self.frontend.next(&mut bytes, |_| untyped) {
                Ok(Some(_)) if untyped => self.first_message(),
                Ok(Some(tag)) => self.frontend_message(tag),
                Ok(None) => break,
                Err(Garbled) => return self.fail(Fault::Garbled),
            }
        }
    }

    fn first_message(&mut self) {
        self.frontend.expect_typed();
        self.phase = Phase::StartUp;
        self.owed.push_back(Expected::Sync);
    }

    fn frontend_message(&mut self, tag: u8) {
        self.open = false;
        match tag {
            b'S' => self.sync(),
            b'Q' | b'F' => self.owed.push_back(Expected::Query),
            // CopyDone, CopyFail. They end the COPY of a simple query; in the extended protocol a Sync follows.
            b'c' | b'f' => {
                let of_query = self.copy_in && self.owed.front() == Some(&Expected::Query);
                self.copy_in = false;
                self.copy_ended = !of_query;
                self.open = !of_query;
            }
            // Terminate.
            b'X' => self.broken = true,
            // Passwords have no Sync; the first ReadyForQuery is expected already.
            _ => self.open = self.phase == Phase::Ready,
        }
    }

    fn sync(&mut self) {
        if !std::mem::take(&mut self.copy_ended) {
            self.owed.push_back(Expected::Sync);
        } else if !std::mem::take(&mut self.sync_ignored) {
            // tokio-postgres sends the end of the data even if the COPY was refused.
            if self.owed.is_empty() {
                self.fail(Fault::CopyRefused);
            }
            self.owed.push_back(Expected::SyncAfterCopyEnd);
        }
    }

    /// Takes bytes that were received. After an error they must not be passed on.
    pub(super) fn on_read(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while self.fault.is_none() {
            let keep = |tag| matches!(tag, b'C' | b'E' | b'K' | b'S' | b'Z');
            match self.backend.next(&mut bytes, keep) {
                Ok(Some(tag)) => self.backend_message(tag)?,
                Ok(None) => break,
                Err(Garbled) => return self.fail_now(Fault::Garbled),
            }
        }
        Ok(())
    }

    fn backend_message(&mut self, tag: u8) -> Result<(), Fault> {
        // Notices, notifications and settings come at any time.
        let asked_for = !matches!(tag, b'N' | b'A' | b'S');
        if self.copy_failure == CopyFailure::Unproven && asked_for {
            if tag == b'Z' {
                return self.fail_now(Fault::CopyRefused);
            }
            self.copy_failure = CopyFailure::None;
        }
        match tag {
            b'Z' => return self.ready_for_query(),
            // RowDescription, DataRow.
            b'T' | b'D' => self.rows = Rows::Shown,
            b'n' => self.rows = Rows::Hidden,
            b'C' => self.command_complete(),
            b'E' => self.error_response(),
            // ParameterStatus.
            b'S' => {
                self.reported.set(self.backend.body());
                // Outside of a command the server has reloaded its configuration.
                if self.phase == Phase::Ready && self.owed.is_empty() {
                    self.settle_reported();
                }
            }
            // CopyInResponse, CopyBothResponse.
            b'G' | b'W' => return self.copy_in_response(),
            b'K' => {
                if let Some(id) = self.backend.body().first_chunk() {
                    self.process_id = u32::from_be_bytes(*id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn command_complete(&mut self) {
        let tag = self.backend.body();
        let dirt = tags::dirt(tag);
        self.dirt = self.dirt | dirt;
        self.claims = self.claims.wrapping_add(u32::from(dirt == Dirt::CLAIMED));
        // A simple query's rows are described every time.
        let told = self.owed.front() == Some(&Expected::Query) || tags::has_rows(tag);
        if tags::is_select(tag)
            && match self.rows {
                Rows::Unknown => told,
                Rows::Shown => false,
                Rows::Hidden => true,
            }
        {
            self.dirt = self.dirt | Dirt::SESSION;
        }
        self.rows = Rows::Unknown;
        self.copying = false;
    }

    fn ready_for_query(&mut self) -> Result<(), Fault> {
        self.transaction = match self.backend.body() {
            b"I" => TransactionStatus::Idle,
            b"T" => TransactionStatus::Open,
            _ => TransactionStatus::Failed,
        };
        match std::mem::replace(&mut self.phase, Phase::Ready) {
            // These were the initial values.
            Phase::Start | Phase::StartUp => drop(self.reported.settle()),
            Phase::Ready => self.settle_reported(),
        }
        self.copy_in = false;
        self.copying = false;
        self.rows = Rows::Unknown;
        if self.owed.pop_front().is_none() {
            return self.fail_now(Fault::Unrequested);
        }
        if self.owed.front() == Some(&Expected::SyncAfterCopyEnd) {
            // No request waits for this answer: the COPY was dropped before the server answered, so its end was sent
            // already.
            return self.fail_now(Fault::CopyRefused);
        }
        if self.sync_ignored {
            // The Sync was not ignored after all. These bytes contain the reason, so they are passed on; tokio-postgres
            // has not sent the end of the data yet.
            self.fail(Fault::CopyRefused);
        }
        if self.copy_failure == CopyFailure::Failed {
            self.copy_failure = CopyFailure::Unproven;
        }
        Ok(())
    }

    /// A setting may change in a transaction and change back at its end: `SET LOCAL`.
    fn settle_reported(&mut self) {
        if self.transaction == TransactionStatus::Idle && self.reported.settle() {
            self.dirt = self.dirt | Dirt::SESSION;
        }
    }

    fn copy_in_response(&mut self) -> Result<(), Fault> {
        match self.owed.front() {
            None => return self.fail_now(Fault::Unrequested),
            Some(Expected::Query) => self.copy_in = true,
            Some(_) => {
                self.copying = true;
                if self.owed.get(1) == Some(&Expected::SyncAfterCopyEnd) {
                    self.owed.pop_front();
                } else {
                    self.copy_in = true;
                    self.sync_ignored = true;
                }
            }
        }
        Ok(())
    }

    fn error_response(&mut self) {
        let mut fatal = false;
        for field in self.backend.body().split(|byte| *byte == 0) {
            match field.split_first() {
                // Field V is the severity that is never translated. Some servers and poolers send only S.
                Some((b'V' | b'S', b"FATAL" | b"PANIC")) => fatal = true,
                Some((b'C', code)) => {
                    let code = SqlStateCode::new(code);
                    self.error = SqlStateCode::more_telling(self.error, code);
                }
                Some((b'M', _)) => break,
                _ => {}
            }
        }
        self.broken |= fatal || self.owed.is_empty();
        if std::mem::take(&mut self.copying) {
            self.copy_failure = CopyFailure::Failed;
        }
        self.copy_in = false;
    }

    /// Sets a fault. The bytes that show it may be passed on, but none after them.
    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Sets a fault. The bytes that show it must not be passed on.
    fn fail_now(&mut self, fault: Fault) -> Result<(), Fault> {
        self.fail(fault);
        Err(fault)
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
