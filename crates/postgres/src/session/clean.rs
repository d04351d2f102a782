//! Decides whether a returned connection is clean, and cleans it.
//!
//! Invariant: [`Connection::inspect`] returns `Clean` only when the next user cannot notice the previous one, as far as
//! the wire and the texts of statements show.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use cenote_pool::Condition;
use tokio::time::Instant;

use super::connection::{Connection, Inner};
use crate::{
    ConnectionError, Reset,
    tap::{Dirt, TransactionStatus, Verdict},
};

/// How often an inspection looks again while another thread polls the connection. A poll takes a microsecond or two;
/// waiting for it is cheaper than a task that cleans.
const LOOKS: u32 = 200;
/// How often it then lets other threads run. The answer has often woken this thread on the core of the thread that still
/// polls, which cannot end its poll until this one makes room.
const YIELDS: u32 = 100;
/// How long cleaning waits for a command to end by itself, such as a rollback that was just sent.
const SETTLE: Duration = Duration::from_millis(2);
/// How long a cancelled statement may take to end.
pub(super) const CANCELLED: Duration = Duration::from_millis(50);
/// The number of cancel requests. One that arrives before its statement has begun is lost, so it is repeated.
const CANCELS: u32 = 3;

/// The number of statements that may remain prepared on the server although the client does not know their names.
const ABANDONED: u32 = 16;

/// Does what `DISCARD ALL` does, but keeps the prepared statements and their plans.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                     SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Whether the only dirt are tags of commands that their senders may excuse. If their transaction is still open, what
/// they changed ends with it.
fn is_only_claimed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Quiet { dirt, .. } if dirt == Dirt::CLAIMED)
}

impl Connection {
    /// Inspects a returned connection. Costs an atomic load if it is clean, and a system call on another runtime than
    /// its own.
    pub(crate) fn inspect(&mut self) -> Condition {
        let link = &self.inner.link;
        let mut verdict = link.poll_inline();
        let mut looks = 0;
        while verdict == Verdict::Busy && looks < LOOKS + YIELDS {
            match looks < LOOKS {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
            verdict = link.poll_inline();
            looks += 1;
        }
        if is_only_claimed(verdict) {
            verdict = link.settle_claims();
        }
        if let Some(code) = link.take_error()
            && self.inner.binding.report(code)
        {
            self.inner.role_in_doubt.store(true, Relaxed);
        }
        let lost = self.inner.stray_cancel.load(Relaxed)
            || self.inner.types_lost.load(Relaxed)
            || self.inner.binding.is_stale();
        let unproven = self.inner.reset == Reset::Always && self.inner.used.load(Relaxed);
        match verdict {
            _ if lost => Condition::Broken,
            Verdict::Quiet {
                transaction: TransactionStatus::Idle,
                dirt,
            } if dirt.is_none() && !unproven && !self.is_doubtful() => match link.has_unread_input() {
                // No message is expected: it is the end of the session, or the reason for it.
                true => Condition::Broken,
                false => Condition::Clean,
            },
            Verdict::Broken => Condition::Broken,
            _ => Condition::Dirty,
        }
    }

    /// Whether cleaning must find out or fix something that the wire does not show.
    fn is_doubtful(&self) -> bool {
        self.is_littered() || self.inner.role_in_doubt.load(Relaxed)
    }

    /// Whether too many statements are prepared on the server that nobody can use.
    fn is_littered(&self) -> bool {
        self.inner.preparing.load(Relaxed) > ABANDONED
    }

    fn may_have_looked_types_up(&self) -> bool {
        // A dropped preparation may have been about to look types up.
        self.inner.types_looked_up.load(Relaxed) || self.inner.preparing.load(Relaxed) > 0
    }

    /// Cleans the connection: ends what runs, rolls back what is open, resets what was changed. Returns whether the session was
    /// reset.
    pub(crate) async fn clean(&mut self) -> std::result::Result<bool, ConnectionError> {
        let mut verdict = self.calm().await;
        if is_only_claimed(verdict) {
            verdict = self.inner.link.settle_claims();
        }
        let (transaction, dirt) = match verdict {
            Verdict::Quiet { transaction, dirt } => (transaction, dirt),
            verdict @ Verdict::Unfinished { owed: true, .. } => {
                // A server that waits for a lock does not notice that its client has gone.
                if !verdict.is_cancellable() {
                    let _cancelled = self.cancel().await;
                }
                return Err(ConnectionError::Unclean);
            }
            _ => return Err(ConnectionError::Unclean),
        };
        // The lost statements may be those with which the driver looks types up. It would use their names for ever, and
        // cannot be told to forget them.
        let forget = dirt.contains(Dirt::STATEMENTS);
        if forget && self.may_have_looked_types_up() || self.is_littered() {
            return Err(ConnectionError::Unclean);
        }
        let Inner {
            client,
            link,
            binding,
            statements,
            overdue,
            role_in_doubt,
            used,
            reset,
            ..
        } = &*self.inner;
        overdue.store(false, Relaxed);
        used.store(false, Relaxed);
        let mut steps = Vec::with_capacity(3);
        if transaction != TransactionStatus::Idle {
            steps.push("ROLLBACK");
        }
        let resets = !dirt.is_none() || *reset == Reset::Always;
        if resets {
            steps.push(RESET);
        }
        if forget {
            statements.clear();
            steps.push("DEALLOCATE ALL");
        }
        if !steps.is_empty() {
            client.batch_execute(&steps.join("; ")).await?;
        }
        if role_in_doubt.load(Relaxed) {
            binding.check_role(client).await?;
            role_in_doubt.store(false, Relaxed);
        }
        // The statement cache may have evicted statements. Wait until the server has closed them too.
        match link.wait_quiet(Instant::now() + CANCELLED).await {
            Verdict::Quiet { .. } => {
                if resets {
                    link.clear_dirt(Dirt::SESSION | Dirt::STATEMENTS | Dirt::CLAIMED);
                }
                Ok(resets)
            }
            _ => Err(ConnectionError::Unclean),
        }
    }

    /// Waits until the running command has ended; cancels it if it does not end at once.
    pub(super) async fn calm(&self) -> Verdict {
        if self.inner.stray_cancel.load(Relaxed) {
            return Verdict::Broken;
        }
        let mut verdict = self.rest(SETTLE).await;
        for _ in 0..CANCELS {
            if !verdict.is_cancellable() || self.cancel().await.is_err() {
                break;
            }
            verdict = self.rest(CANCELLED).await;
        }
        verdict
    }

    /// Waits until the connection is quiet, and then for a poll in progress, so that the verdict is definite.
    async fn rest(&self, limit: Duration) -> Verdict {
        let link = &self.inner.link;
        match link.wait_quiet(Instant::now() + limit).await {
            Verdict::Busy => link.settle(Instant::now() + SETTLE).await,
            verdict => verdict,
        }
    }
}
