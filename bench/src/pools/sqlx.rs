//! sqlx's pool, over the driver in `sqlx_database`.

use sqlx_core::pool::{Pool, PoolConnection, PoolOptions};

use super::sqlx_database::Inert;
use super::{Contender, SIZE, sure};

/// sqlx's pool.
pub type Sqlx = Pool<Inert>;

impl Contender for Sqlx {
    const NAME: &'static str = "sqlx";
    type Guard<'pool> = PoolConnection<Inert>;
    type Error = sqlx_core::Error;

    async fn build() -> Self {
        let size = SIZE as u32;
        let options = PoolOptions::new().max_connections(size).min_connections(size);
        let options = options.test_before_acquire(false);
        sure(options.connect_with(Inert).await)
    }

    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Self::Error>> + Send {
        Self::acquire(self)
    }
}
