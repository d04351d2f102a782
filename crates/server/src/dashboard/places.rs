//! The places that there are for viewers. Invariant: no more are taken than there are, and each is freed by its drop.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::Notify;

/// Most viewers at a time.
const MOST: usize = 200;

/// The places. A clone is another handle to the same.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Shared>);

#[derive(Default)]
struct Shared {
    taken: AtomicUsize,
    /// A place was taken.
    arrived: Notify,
}

/// A place that is taken.
pub(super) struct Place(Arc<Shared>);

impl Places {
    /// Takes a place, if one is free.
    pub(super) fn take(&self) -> Option<Place> {
        let one_more = |taken| (taken < MOST).then_some(taken + 1);
        self.0.taken.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        self.0.arrived.notify_one();
        Some(Place(self.0.clone()))
    }

    /// Whether any place is taken.
    pub(super) fn is_any_taken(&self) -> bool {
        self.0.taken.load(Relaxed) > 0
    }

    /// Resolves when a place is taken, or at once if that happened since the last call. For one task.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn arrival(&self) {
        self.0.arrived.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_can_be_taken_again_once_it_is_left() {
        let places = Places::default();
        assert!(!places.is_any_taken());
        let mut taken: Vec<_> = (0..MOST).map(|_| places.take().unwrap()).collect();
        assert!(places.take().is_none());
        taken.pop();
        taken.push(places.take().unwrap());
        assert!(places.take().is_none());
        places.arrival().await;
        drop(taken);
        assert!(!places.is_any_taken());
    }
}
