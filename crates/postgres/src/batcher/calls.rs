//! The requests of one batch. Invariant: each caller is answered at most once, and a key is let go when nothing of the
//! batch is about it any more.

use std::{
    collections::HashSet,
    future::poll_fn,
    ops::Range,
    sync::{Arc, MutexGuard},
    task::Poll,
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{Batch, Request, lane::Place, queue::Waiting};
use crate::Result;

/// The requests of one batch, each of which is to be answered.
pub struct Calls<B: Batch> {
    place: Arc<Place<B>>,
    requests: Vec<B::Request>,
}

/// What of a batch is still open. It is kept with its lane, so that others get at it when nobody runs that.
pub(super) struct Open<B: Batch> {
    pub(super) callers: Vec<Option<oneshot::Sender<Result<B::Response>>>>,
    /// Of each call, until it is let go.
    pub(super) keys: Vec<Option<u64>>,
}

impl<B: Batch> Default for Open<B> {
    fn default() -> Self {
        Self {
            callers: Vec::new(),
            keys: Vec::new(),
        }
    }
}

impl<B: Batch> Calls<B> {
    pub(super) fn new(place: Arc<Place<B>>, taken: Vec<Waiting<Request<B>>>) -> Self {
        let mut requests = Vec::with_capacity(taken.len());
        let mut open = Open {
            callers: Vec::with_capacity(taken.len()),
            keys: Vec::with_capacity(taken.len()),
        };
        for Waiting { item, key, .. } in taken {
            requests.push(item.request);
            open.callers.push(Some(item.answer));
            open.keys.push(key);
        }
        *place.open() = open;
        Self { place, requests }
    }

    /// What is asked for, in the order in which it came.
    pub fn requests(&self) -> &[B::Request] {
        &self.requests
    }

    /// Answers the request at this index, unless it has been.
    pub fn answer(&self, index: usize, answer: Result<B::Response>) {
        let caller = self.open().callers.get_mut(index).and_then(Option::take);
        if let Some(caller) = caller {
            // A caller that has gone needs no answer.
            let _gone = caller.send(answer);
        }
    }

    /// Answers each request that has not been answered; `answer` is given its index.
    pub fn answer_all(&self, answer: impl FnMut(usize) -> Result<B::Response>) {
        self.answer_each(0..self.requests.len(), answer);
    }

    /// As [`answer_all`](Self::answer_all), of the requests with these indices.
    pub fn answer_each(&self, indices: Range<usize>, mut answer: impl FnMut(usize) -> Result<B::Response>) {
        // Not answered under the lock, as `answer` may be slow.
        let callers: Vec<_> = {
            let callers = &mut self.open().callers;
            // Empty if the batch was given up.
            indices.clone().map(|index| callers.get_mut(index)?.take()).collect()
        };
        for (index, caller) in indices.zip(callers) {
            if let Some(caller) = caller {
                // A caller that has gone needs no answer.
                let _gone = caller.send(answer(index));
            }
        }
    }

    /// What is left of this batch waits for something that may take long: it no longer counts as under way, and only
    /// requests with the keys of those not yet answered wait for it.
    pub fn step_aside(&self) {
        let mut open = self.open();
        let Open { callers, keys } = &mut *open;
        let pending: HashSet<u64> = callers
            .iter()
            .zip(&*keys)
            .filter_map(|(caller, key)| caller.as_ref().and(*key))
            .collect();
        let done = keys.iter_mut().filter_map(|key| {
            let is_done = key.is_some_and(|key| !pending.contains(&key));
            is_done.then(|| key.take()).flatten()
        });
        let done: Vec<u64> = done.collect();
        drop(open);
        self.place.step_aside(done);
    }

    /// Lets go of the keys that are left; false if there were none.
    pub(super) fn release(&self) -> bool {
        let mut open = self.open();
        let keys: Vec<u64> = open.keys.iter_mut().filter_map(Option::take).collect();
        drop(open);
        if keys.is_empty() {
            return false;
        }
        let mut state = self.place.shared.state();
        state.queue.release(keys.into_iter());
        true
    }

    /// Completes when nobody waits for an answer any more.
    pub(super) async fn all_gone(&self) {
        poll_fn(|context| {
            let mut open = self.open();
            let mut waiting = open.callers.iter_mut().flatten();
            // The first that still waits is the one to be woken by.
            match waiting.any(|caller| caller.poll_closed(context).is_pending()) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    fn open(&self) -> MutexGuard<'_, Open<B>> {
        self.place.open()
    }
}

impl<B: Batch> Drop for Calls<B> {
    fn drop(&mut self) {
        if self.release() && Handle::try_current().is_ok() {
            // For those who waited for one of its keys.
            self.place.shared.start_lane(self.place.shared.state());
        }
    }
}
