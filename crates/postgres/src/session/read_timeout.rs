//! Bounds how long the server may be silent during a stream.
//!
//! Invariant: only the time that the server takes counts, never that of the caller.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use crate::timer::{LocalSleep, after};

/// The timeout of each wait, and the current wait.
pub(crate) struct ReadTimeout {
    limit: Option<Duration>,
    /// Created at the first wait.
    timer: Option<LocalSleep>,
    waiting: bool,
}

/// The server was silent for longer than this timeout.
pub(crate) struct ReadTimedOut(pub(crate) Duration);

impl ReadTimeout {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            timer: None,
            waiting: false,
        }
    }

    /// Passes the result of a poll on. Returns an error if it has been pending for too long.
    pub(crate) fn bound<T>(&mut self, context: &mut Context<'_>, polled: Poll<T>) -> Poll<Result<T, ReadTimedOut>> {
        if let Poll::Ready(output) = polled {
            self.waiting = false;
            return Poll::Ready(Ok(output));
        }
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let deadline = || after(Instant::now(), limit);
        let timer = self.timer.get_or_insert_with(|| LocalSleep::until(deadline()));
        if !self.waiting {
            timer.reset(deadline());
            self.waiting = true;
        }
        ready!(timer.poll(context));
        self.waiting = false;
        Poll::Ready(Err(ReadTimedOut(limit)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_unbroken_silence_counts() {
        let limit = Duration::from_secs(2);
        let mut silence = ReadTimeout::new(Some(limit));
        for _ in 0..3 {
            // The server takes a second for each word, its listener five.
            let mut word = Box::pin(sleep(Duration::from_secs(1)));
            poll_fn(|context| {
                let polled = word.as_mut().poll(context);
                silence.bound(context, polled)
            })
            .await
            .unwrap_or_else(|ReadTimedOut(limit)| panic!("{limit:?}"));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        let started = Instant::now();
        let ended = poll_fn(|context| silence.bound::<()>(context, Poll::Pending)).await;
        assert!(ended.is_err());
        assert_eq!(started.elapsed().as_secs(), 2);
    }
}
