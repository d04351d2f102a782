//! `bb8`.

use std::convert::Infallible;

use bb8::{ManageConnection, Pool, PooledConnection, RunError};

use super::{Contender, Opener, SIZE, Trivial, sure};

impl ManageConnection for Opener {
    type Connection = Trivial;
    type Error = Infallible;
    async fn connect(&self) -> Result<Trivial, Infallible> {
        self.open()
    }
    async fn is_valid(&self, _: &mut Trivial) -> Result<(), Infallible> {
        Ok(())
    }
    fn has_broken(&self, _: &mut Trivial) -> bool {
        false
    }
}

/// bb8's pool.
pub type Bb8 = Pool<Opener>;

impl Contender for Bb8 {
    const NAME: &'static str = "bb8";
    type Guard<'pool> = PooledConnection<'pool, Opener>;
    type Error = RunError<Infallible>;

    async fn build() -> Self {
        let size = SIZE as u32;
        let builder = Pool::builder().max_size(size).min_idle(size);
        sure(builder.test_on_check_out(false).build(Opener).await)
    }

    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Self::Error>> + Send {
        self.get()
    }
}
