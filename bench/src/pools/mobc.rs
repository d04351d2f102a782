//! `mobc`.

use std::convert::Infallible;

use mobc::{Connection, Error, Manager, Pool, async_trait};

use super::{Contender, Opener, SIZE, Trivial};

#[async_trait]
impl Manager for Opener {
    type Connection = Trivial;
    type Error = Infallible;
    async fn connect(&self) -> Result<Trivial, Infallible> {
        self.open()
    }
    async fn check(&self, connection: Trivial) -> Result<Trivial, Infallible> {
        Ok(connection)
    }
}

/// mobc's pool.
pub type Mobc = Pool<Opener>;

impl Contender for Mobc {
    const NAME: &'static str = "mobc";
    type Guard<'pool> = Connection<Opener>;
    type Error = Error<Infallible>;

    async fn build() -> Self {
        let size = SIZE as u64;
        let builder = Pool::builder().max_open(size).max_idle(size);
        builder.test_on_check_out(false).build(Opener)
    }

    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Self::Error>> + Send {
        self.get()
    }
}
