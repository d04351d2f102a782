//! One look-up for all concurrent reads of a key. Invariant: whatever happens to the leader, its followers wake up and the key
//! is free for the next read.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
};

use quick_cache::DefaultHashBuilder;
use tokio::sync::watch;

use crate::read::DatedRead;

const SHARDS: usize = 64;

/// The result of a flight: a read, or the database's error.
pub(crate) type Landing<E> = Result<DatedRead, E>;

type Shard<E> = HashMap<Box<str>, watch::Receiver<Option<Landing<E>>>, DefaultHashBuilder>;

/// The look-ups in progress.
pub(crate) struct Flights<E> {
    /// Each is locked for a few instructions, never across an await.
    shards: Box<[Mutex<Shard<E>>]>,
    hasher: DefaultHashBuilder,
}

/// The role of a read in the flight of its key.
pub(crate) enum FlightRole<'a, E> {
    Leads(Leader<'a, E>),
    Follows(Follower<E>),
}

/// Looks the key up. If it is dropped without [`land`](Self::land), its followers try again.
pub(crate) struct Leader<'a, E> {
    flights: &'a Flights<E>,
    key: &'a str,
    landing: watch::Sender<Option<Landing<E>>>,
}

/// Waits for the leader.
pub(crate) struct Follower<E>(watch::Receiver<Option<Landing<E>>>);

impl<E> Flights<E> {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(crate) fn enter<'a>(&'a self, key: &'a str) -> FlightRole<'a, E> {
        match self.shard(key).entry(key.into()) {
            Entry::Occupied(flight) => FlightRole::Follows(Follower(flight.get().clone())),
            Entry::Vacant(place) => {
                let (landing, followers) = watch::channel(None);
                place.insert(followers);
                FlightRole::Leads(Leader {
                    flights: self,
                    key,
                    landing,
                })
            }
        }
    }

    /// Gives up the flight that this follower waits for: the next read of the key becomes the leader.
    pub(crate) fn give_up(&self, key: &str, follower: &Follower<E>) {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|flight| flight.same_channel(&follower.0)) {
            shard.remove(key);
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard<E>> {
        let hash = self.hasher.hash_one(key);
        // No code panics while it holds the lock.
        self.shards[hash as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Leader<'_, E> {
    pub(crate) fn land(self, landing: Landing<E>) {
        self.landing.send_replace(Some(landing));
    }
}

impl<E> Drop for Leader<'_, E> {
    fn drop(&mut self) {
        let own = self.landing.subscribe();
        // After `give_up` the entry may be another leader's.
        let mut shard = self.flights.shard(self.key);
        if shard.get(self.key).is_some_and(|flight| flight.same_channel(&own)) {
            shard.remove(self.key);
        }
    }
}

impl<E: Clone> Follower<E> {
    /// Waits for the result; `None` if the leader was dropped.
    pub(crate) async fn landing(&mut self) -> Option<Landing<E>> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, read::Source};

    fn lead<'a>(flights: &'a Flights<()>, key: &'a str) -> Leader<'a, ()> {
        match flights.enter(key) {
            FlightRole::Leads(leader) => leader,
            FlightRole::Follows(_) => panic!("another read leads already"),
        }
    }

    fn follow(flights: &Flights<()>, key: &str) -> Follower<()> {
        match flights.enter(key) {
            FlightRole::Follows(follower) => follower,
            FlightRole::Leads(_) => panic!("no read leads"),
        }
    }

    #[tokio::test]
    async fn followers_get_what_the_leader_found() {
        let flights = Flights::new();
        let leader = lead(&flights, "key");
        let mut follower = follow(&flights, "key");
        leader.land(Ok(DatedRead::new(None, Source::Database, clock::now())));
        assert!(matches!(follower.landing().await, Some(Ok(_))));
        drop(lead(&flights, "key"));
    }

    #[tokio::test]
    async fn an_abandoned_leader_does_not_end_the_flight_of_the_next_one() {
        let flights = Flights::new();
        let first = lead(&flights, "key");
        let follower = follow(&flights, "key");
        flights.give_up("key", &follower);
        let second = lead(&flights, "key");
        flights.give_up("key", &follower);
        drop(first);
        let mut follower = follow(&flights, "key");
        second.land(Ok(DatedRead::new(None, Source::Database, clock::now())));
        assert!(matches!(follower.landing().await, Some(Ok(_))));
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_frees_its_followers_and_the_key() {
        let flights = Flights::new();
        let leader = lead(&flights, "key");
        let mut follower = follow(&flights, "key");
        drop(leader);
        assert!(follower.landing().await.is_none());
        drop(lead(&flights, "key"));
    }
}
