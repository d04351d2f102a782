//! Tells, synchronously and from any thread, whether a tokio-postgres
//! connection is clean enough to be handed to someone else.
//!
//! tokio-postgres hides the transaction status and what is still unanswered, so
//! its stream is wrapped in a [`Tap`](stream::Tap) that follows the message
//! frames, and its connection future is polled by a [`Driver`](driver::Driver)
//! whose waker leaves a mark. Together they keep one word of state; reading it
//! gives a [`Verdict`].
//!
//! # The rule
//! A connection is *quiet*, and only then is its transaction status true, when
//! all of these hold:
//!
//! | Condition | What goes wrong without it |
//! |---|---|
//! | nothing woke the driver since its last poll, and nobody is polling it | requests wait in tokio-postgres' channel, where no tap sees them: a `BEGIN` whose future was dropped after one poll leaves the status at "idle" |
//! | every Sync and every simple query is answered by a ReadyForQuery | after an `Err` the ReadyForQuery is often still on its way |
//! | the last read found nothing to read | answers held back by an unread row stream block the next query for ever |
//! | the last message written ended a request, and the last write was accepted | a half-written request has no Sync yet, so nothing is owed for it |
//! | the conversation is not broken: no end of stream, no fatal error, no answer nobody asked for | a closed connection looks idle |
//!
//! # Session dirt
//! A command tag such as `SET` or `LISTEN` is a sound reason to reset the
//! session, and so is one of `SELECT` whose rows nobody was shown: it is that of
//! `CREATE TABLE AS`. Of a few tags, that of `SET LOCAL` is that of `SET`, only the
//! text of the command tells; whoever sent it excuses them one by one, once they
//! have completed. A setting that the server reports is dirt if it differs when the
//! transaction has ended. Their absence proves nothing: `set_config` of settings the
//! server does not report, advisory locks and whatever a function does leave no
//! trace. Whoever needs a proof must always reset.
//!
//! # Imports
//! `status`, `tags` and `reported` stand alone, `frames` needs them, `stream` needs
//! `frames`, `cancel` needs `stream`, and `driver` ties them together.
//!
//! Invariant: everything sent on a connection before [`Link::verdict`] is called
//! is accounted for in its answer.

mod cancel;
mod driver;
mod frame_splitter;
mod frames;
mod link;
mod open;
mod reported;
mod status;
mod stream;
mod tags;

#[cfg(fuzzing)]
mod fuzzing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use cancel::cancel;
pub(crate) use driver::NotificationHandler;
#[cfg(fuzzing)]
pub use fuzzing::follow;
pub(crate) use link::Link;
pub(crate) use open::{OpenError, Opened, open};
pub(crate) use status::{Dirt, SqlStateCode, TransactionStatus, Verdict};
