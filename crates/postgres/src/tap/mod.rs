//! Tells, synchronously and from any thread, whether a tokio-postgres connection is clean enough for its next user.
//!
//! tokio-postgres hides the transaction status and the unanswered requests. So its stream is wrapped in a
//! [`Tap`](stream::Tap), which follows the message frames, and its connection future is polled by a
//! [`Driver`](driver::Driver), whose waker leaves a mark. Together they keep one word of state. Reading it gives a
//! [`Verdict`].
//!
//! # The rule
//! A connection is *quiet* when all of these hold. Only then is its transaction status valid.
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
//! These are reasons to reset a session:
//!
//! * The tag of a command such as `SET` or `LISTEN`.
//!
//! * The tag `SELECT` of a command that showed no rows: it is that of `CREATE TABLE AS`.
//!
//! * A setting that the server reports and that differs when the transaction has ended.
//!
//! Some tags leave it open, such as `SET`, which is also that of `SET LOCAL`. The sender knows the text and excuses
//! such a tag once its command has completed.
//!
//! None of these proves that a session is clean: `set_config` of settings that the server does not report, advisory
//! locks and effects of functions leave no trace on the wire. For a proof, reset always.
//!
//! # Imports
//! `status` and `frame_splitter` import nothing, `tags` and `reported` need them, then come `frames`, `stream`, `cancel`
//! and `driver`, `link`, `open`.
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
