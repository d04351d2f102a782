//! How many keys that nobody knows may be looked up in the database.
//!
//! Invariant: within any second at most 20 look-ups end without finding a key, however many requests bring one. Look-ups
//! that find a key cost nothing: any number of good keys can be used for the first time at once.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Look-ups without a result in one second, and look-ups at a time.
const MOST: usize = 20;
const WINDOW: Duration = Duration::from_secs(1);
/// How long a request waits for the look-ups of others to end.
const WAIT: Duration = Duration::from_secs(1);

/// Counts look-ups.
#[derive(Debug, Default)]
pub(super) struct LookupLimit {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// When look-ups without a result ended, the oldest first. Never more than [`MOST`].
    fruitless: VecDeque<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Granted,
    /// All permits are out, but some may come back soon.
    Wait,
    Refused,
}

impl State {
    fn admit(&mut self, now: Instant) -> Admission {
        while self
            .fruitless
            .front()
            .is_some_and(|ended| now.duration_since(*ended) >= WINDOW)
        {
            self.fruitless.pop_front();
        }
        if self.running + self.fruitless.len() < MOST {
            self.running += 1;
            return Admission::Granted;
        }
        match self.running {
            0 => Admission::Refused,
            _ => Admission::Wait,
        }
    }

    /// Returns the number of look-ups that still run.
    fn end(&mut self, now: Instant, fruitless: bool) -> usize {
        self.running -= 1;
        if fruitless {
            self.fruitless.push_back(now);
        }
        self.running
    }
}

/// Why a key may not be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPermit {
    /// There are too many unknown keys.
    TooMany,
    /// The look-ups of others take too long.
    TooSlow,
}

/// The right to look one key up.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limit: &'a LookupLimit,
    fruitless: bool,
}

impl LookupLimit {
    /// Waits for the right to look a key up, a second at most.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is counted.
    pub(super) async fn permit(&self) -> Result<Permit<'_>, NoPermit> {
        let deadline = Instant::now() + WAIT;
        loop {
            let ended = self.ended.notified();
            let admission = self.state().admit(Instant::now());
            match admission {
                // Counted even if the caller goes away meanwhile: otherwise clients that hang up could look up any number.
                Admission::Granted => {
                    return Ok(Permit {
                        limit: self,
                        fruitless: true,
                    });
                }
                Admission::Refused => return Err(NoPermit::TooMany),
                Admission::Wait => timeout_at(deadline, ended).await.map_err(|_| NoPermit::TooSlow)?,
            }
        }
    }

    /// No panic under this lock leaves it half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Gives the permit back at once: the key was found, or the database did not answer.
    pub(super) fn give_back(mut self) {
        self.fruitless = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let running = self.limit.state().end(Instant::now(), self.fruitless);
        match running {
            // None of the waiters may be admitted, and then none would wake the next.
            0 => self.limit.ended.notify_waiters(),
            _ => self.limit.ended.notify_one(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn in_any_second_twenty_unknown_keys_are_looked_up() {
        let limit = LookupLimit::default();
        let mut granted = Vec::new();
        let started = Instant::now();
        while started.elapsed() < 5 * WINDOW {
            if let Ok(permit) = limit.permit().await {
                drop(permit);
                granted.push(started.elapsed());
            }
            tokio::time::advance(Duration::from_millis(7)).await;
        }
        assert!((99..=120).contains(&granted.len()), "{}", granted.len());
        for window in granted.windows(MOST + 1) {
            assert!(window[MOST] - window[0] >= WINDOW, "{window:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn good_keys_are_not_limited() {
        let limit = LookupLimit::default();
        for _ in 0..1_000 {
            limit.permit().await.unwrap().give_back();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_running_look_up_and_not_for_the_next_second() {
        let limit = LookupLimit::default();
        let mut running = Vec::new();
        for _ in 0..MOST {
            running.push(limit.permit().await.unwrap());
        }
        let waiting = limit.permit();
        let give_back = async {
            tokio::time::sleep(WAIT / 2).await;
            running.pop().unwrap().give_back();
        };
        let (permit, ()) = tokio::join!(waiting, give_back);
        running.push(permit.unwrap());
        assert_eq!(
            limit.permit().await.err(),
            Some(NoPermit::TooSlow),
            "the others still run"
        );
        drop(running);
        let before = Instant::now();
        assert_eq!(limit.permit().await.err(), Some(NoPermit::TooMany));
        assert_eq!(before.elapsed(), Duration::ZERO);
        tokio::time::advance(WINDOW).await;
        assert!(limit.permit().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_unknown_keys_at_once_twenty_are_looked_up_and_the_others_refused_without_delay() {
        let limit = LookupLimit::default();
        let answer = Duration::from_millis(10);
        let started = Instant::now();
        let look_ups = (0..100).map(async |_| {
            let permit = limit.permit().await;
            tokio::time::sleep(answer).await;
            permit.map(drop).err()
        });
        let refused = futures_util::future::join_all(look_ups).await;
        let count = |result| refused.iter().filter(|it| **it == result).count();
        assert_eq!((count(None), count(Some(NoPermit::TooMany))), (MOST, 100 - MOST));
        assert!(started.elapsed() <= 3 * answer, "{:?}", started.elapsed());
    }
}
