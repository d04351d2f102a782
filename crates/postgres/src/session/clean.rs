//! The way back to clean.
//!
//! Invariant: [`Connection::inspect`] says `Clean` only when the next user cannot tell that there
//! was a previous one, as far as the wire and the statements' texts show.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use cenote_pool::Condition;
use tokio::time::Instant;

use super::connection::{Connection, Inner};
use crate::{
    ConnectionError, Reset,
    session::tap::{Dirt, TransactionStatus, Verdict},
};

/// How often an inspection looks again while another thread is just polling the connection; that
/// takes it a microsecond or two.
const LOOKS: u32 = 200;
/// How long cleaning waits for an answer that is on its way, such as that to a rollback.
const SETTLE: Duration = Duration::from_millis(2);
/// How long a cancelled statement may take to end.
pub(super) const CANCELLED: Duration = Duration::from_millis(50);
/// A cancel that arrives before the statement has begun is lost, so it is repeated.
const CANCELS: u32 = 3;

/// StatementCache a connection may leave prepared on the server without knowing their names.
const ABANDONED: u32 = 16;

/// What `DISCARD ALL` does, but for forgetting the prepared statements and their plans.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                     SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Whether nothing speaks against a connection but commands of which their senders may know better. What they have left
/// in a transaction that is still open ends with it.
fn is_only_claimed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Quiet { dirt, .. } if dirt == Dirt::CLAIMED)
}

impl Connection {
    /// Says whether the next user may have this connection. Costs an atomic load when all is well, and a system call away
    /// from the runtime that reads it.
    pub(crate) fn inspect(&mut self) -> Condition {
        let link = &self.inner.link;
        let mut verdict = link.poll_inline();
        let mut looks = 0;
        while verdict == Verdict::Busy && looks < LOOKS {
            std::hint::spin_loop();
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
            } if dirt.is_none() && !unproven && !self.is_doubtful() => match link.has_news() {
                // Nothing is to come: it is the session's end, or a word about it.
                true => Condition::Broken,
                false => Condition::Clean,
            },
            Verdict::Broken => Condition::Broken,
            _ => Condition::Dirty,
        }
    }

    /// Whether cleaning has to find out, or put right, what the wire does not show.
    fn is_doubtful(&self) -> bool {
        self.is_littered() || self.inner.role_in_doubt.load(Relaxed)
    }

    /// Whether too many statements are prepared on the server that nobody can use.
    fn is_littered(&self) -> bool {
        self.inner.preparing.load(Relaxed) > ABANDONED
    }

    fn may_have_looked_types_up(&self) -> bool {
        // A preparation that was given up may have been about to.
        self.inner.types_looked_up.load(Relaxed) || self.inner.preparing.load(Relaxed) > 0
    }

    /// Brings the connection back to clean: ends what runs, rolls back what is open, resets what
    /// was changed.
    pub(crate) async fn clean(&mut self) -> std::result::Result<(), ConnectionError> {
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
        // StatementCache that are gone may be the driver's own, with which it looks types up; it would
        // ask for them by name for ever, and offers no way to make it forget them.
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
        // StatementCache that were evicted meanwhile are being closed on the server: wait for that too.
        match link.wait_quiet(Instant::now() + CANCELLED).await {
            Verdict::Quiet { .. } => {
                if resets {
                    link.clear_dirt(Dirt::SESSION | Dirt::STATEMENTS | Dirt::CLAIMED);
                }
                Ok(())
            }
            _ => Err(ConnectionError::Unclean),
        }
    }

    /// Waits for the end of what is running, cancelling it if it does not end by itself at once.
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

    /// Waits for the connection to become quiet, and in the end for a poll under way, so that the verdict says
    /// something.
    async fn rest(&self, limit: Duration) -> Verdict {
        let link = &self.inner.link;
        match link.wait_quiet(Instant::now() + limit).await {
            Verdict::Busy => link.settle(Instant::now() + SETTLE).await,
            verdict => verdict,
        }
    }
}
