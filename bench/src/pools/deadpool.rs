//! `deadpool`.

use std::convert::Infallible;

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleResult};

use super::{Contender, Opener, SIZE, Trivial, sure};

impl Manager for Opener {
    type Type = Trivial;
    type Error = Infallible;
    async fn create(&self) -> Result<Trivial, Infallible> {
        self.open()
    }
    async fn recycle(&self, _: &mut Trivial, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

/// deadpool's managed pool.
pub type Deadpool = Pool<Opener>;

impl Contender for Deadpool {
    const NAME: &'static str = "deadpool";
    type Guard<'pool> = Object<Opener>;
    type Error = PoolError<Infallible>;

    async fn build() -> Self {
        sure(Pool::builder(Opener).max_size(SIZE).build())
    }

    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Self::Error>> + Send {
        self.get()
    }
}
