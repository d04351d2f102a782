//! `cenote-pool`.

use std::convert::Infallible;

use cenote_pool::{AcquireError, Config, Manager, Pool, Pooled};

use super::{Contender, Opener, SIZE, Trivial, sure};

impl Manager for Opener {
    type Connection = Trivial;
    type Error = Infallible;
    async fn connect(&self) -> Result<Trivial, Infallible> {
        self.open()
    }
}

/// cenote's pool.
pub type Cenote = Pool<Opener>;

impl Contender for Cenote {
    const NAME: &'static str = "cenote";
    type Guard<'pool> = Pooled<'pool, Opener>;
    type Error = AcquireError<Infallible>;

    async fn build() -> Self {
        let config = Config {
            min_size: Some(SIZE as u32),
            max_size: SIZE as u32,
            ..Config::default()
        };
        sure(Pool::new(Opener, config))
    }

    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Self::Error>> + Send {
        self.get()
    }
}
