//! The pools that are compared, each over a connection that costs nothing, so that only the pool
//! is measured. Every pool holds at most [`SIZE`] connections and is otherwise at its defaults.

use std::convert::Infallible;

/// Connections in each pool.
pub const SIZE: usize = 10;

/// Stands for a connection.
#[derive(Debug)]
pub struct Trivial(pub u64);

/// Opens [`Trivial`] connections for every pool.
#[derive(Debug)]
pub struct Opener;

impl cenote_pool::Manager for Opener {
    type Connection = Trivial;
    type Error = Infallible;
    async fn connect(&self) -> Result<Trivial, Infallible> {
        Ok(Trivial(0))
    }
}

impl deadpool::managed::Manager for Opener {
    type Type = Trivial;
    type Error = Infallible;
    async fn create(&self) -> Result<Trivial, Infallible> {
        Ok(Trivial(0))
    }
    async fn recycle(
        &self,
        _: &mut Trivial,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl bb8::ManageConnection for Opener {
    type Connection = Trivial;
    type Error = Infallible;
    async fn connect(&self) -> Result<Trivial, Infallible> {
        Ok(Trivial(0))
    }
    async fn is_valid(&self, _: &mut Trivial) -> Result<(), Infallible> {
        Ok(())
    }
    fn has_broken(&self, _: &mut Trivial) -> bool {
        false
    }
}

/// A pool under test: take a connection, and dropping it gives it back.
pub trait Acquire: Clone + Send + Sync + 'static {
    /// The connection on loan.
    type Guard: Send;
    /// Takes a connection.
    fn acquire(&self) -> impl Future<Output = Self::Guard> + Send;
}

/// cenote's pool.
pub type Cenote = cenote_pool::Pool<Opener>;
/// deadpool's pool.
pub type Deadpool = deadpool::managed::Pool<Opener>;
/// bb8's pool.
pub type Bb8 = bb8::Pool<Opener>;

impl Acquire for Cenote {
    type Guard = cenote_pool::OwnedPooled<Opener>;
    async fn acquire(&self) -> Self::Guard {
        match self.get_owned().await {
            Ok(guard) => guard,
            Err(error) => unreachable!("{error}"),
        }
    }
}

impl Acquire for Deadpool {
    type Guard = deadpool::managed::Object<Opener>;
    async fn acquire(&self) -> Self::Guard {
        match self.get().await {
            Ok(guard) => guard,
            Err(error) => unreachable!("{error}"),
        }
    }
}

impl Acquire for Bb8 {
    type Guard = bb8::PooledConnection<'static, Opener>;
    async fn acquire(&self) -> Self::Guard {
        match self.get_owned().await {
            Ok(guard) => guard,
            Err(error) => unreachable!("{error}"),
        }
    }
}

/// Builds cenote's pool on the current runtime.
pub fn cenote() -> Cenote {
    let config = cenote_pool::Config {
        min_size: SIZE as u32,
        max_size: SIZE as u32,
        ..Default::default()
    };
    match cenote_pool::Pool::new(Opener, config) {
        Ok(pool) => pool,
        Err(error) => unreachable!("{error}"),
    }
}

/// Builds deadpool's pool.
pub fn deadpool() -> Deadpool {
    match Deadpool::builder(Opener).max_size(SIZE).build() {
        Ok(pool) => pool,
        Err(error) => unreachable!("{error}"),
    }
}

/// Builds bb8's pool.
pub async fn bb8() -> Bb8 {
    let builder = Bb8::builder().max_size(SIZE as u32).min_idle(SIZE as u32);
    match builder.build(Opener).await {
        Ok(pool) => pool,
        Err(never) => match never {},
    }
}
