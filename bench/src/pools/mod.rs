//! Six pools over a connection that costs nothing, so that only the pool is measured; one module says for each how it
//! is told about [`Trivial`] connections and how one is taken.
//!
//! Invariant: nothing here is slower or faster than the pool's own documentation shows. Every pool holds at most
//! [`SIZE`] connections, all of them open before anything is measured, and is otherwise at its defaults, except that a
//! check at every get is turned off where there is one.

use std::{convert::Infallible, fmt::Debug};

mod bb8;
mod cenote;
mod crowd;
mod deadpool;
mod instructions;
mod mobc;
mod qorb;
mod sqlx;
mod sqlx_database;

pub use self::{
    bb8::Bb8,
    cenote::Cenote,
    crowd::{Crowd, TASKS},
    deadpool::Deadpool,
    instructions::{Counting, Users, per_use},
    mobc::Mobc,
    qorb::Qorb,
    sqlx::Sqlx,
};

/// Connections in each pool.
pub const SIZE: usize = 10;

/// Stands for a connection.
#[derive(Debug)]
pub struct Trivial(pub u64);

/// Opens [`Trivial`] connections, for pools that take a manager.
#[derive(Clone, Copy, Debug)]
pub struct Opener;

impl Opener {
    /// Returns a connection immediately.
    pub fn open(self) -> Result<Trivial, Infallible> {
        Ok(Trivial(0))
    }
}

/// A pool under test: [`acquire`](Self::acquire) takes a connection, and dropping it gives it back.
pub trait Contender: Clone + Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;
    /// The connection on loan.
    type Guard<'pool>: Send;
    /// The pool's error type. It never occurs here.
    type Error: Debug + Send;
    /// A pool of [`SIZE`] on the current runtime.
    fn build() -> impl Future<Output = Self> + Send;
    /// Takes a connection. Returns the pool's own future, so that nothing else is measured.
    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Self::Error>> + Send;
}

/// Unwraps a result that cannot be an error here: trivial connections do not fail, and there are no timeouts.
fn sure<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => unreachable!("{error:?}"),
    }
}

/// A pool with all of its connections open.
pub async fn warm<P: Contender>() -> P {
    let pool = P::build().await;
    let mut all = Vec::with_capacity(SIZE);
    while all.len() < SIZE {
        all.push(sure(pool.acquire().await));
    }
    drop(all);
    pool
}

/// Takes a connection and gives it back, this many times.
pub async fn alone<P: Contender>(pool: &P, times: u64) {
    for _ in 0..times {
        drop(std::hint::black_box(sure(pool.acquire().await)));
    }
}
