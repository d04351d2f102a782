//! `qorb`.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use qorb::{
    backend::{Backend, Connector, Error},
    claim::Handle,
    policy::{Policy, SetConfig},
    pool::Pool,
    resolvers::fixed::FixedResolver,
};

use super::{Contender, Opener, SIZE, Trivial, sure};

#[async_trait]
impl Connector for Opener {
    type Connection = Trivial;
    async fn connect(&self, _: &Backend) -> Result<Trivial, Error> {
        Ok(sure(self.open()))
    }
}

/// qorb's pool, with one backend.
#[derive(Clone)]
pub struct Qorb(Arc<Pool<Trivial>>);

impl Contender for Qorb {
    const NAME: &'static str = "qorb";
    type Guard<'pool> = Handle<Trivial>;
    type Error = qorb::pool::Error;

    async fn build() -> Self {
        let policy = Policy {
            spares_wanted: SIZE,
            max_slots: SIZE,
            set_config: SetConfig {
                max_count: SIZE,
                ..SetConfig::default()
            },
            ..Policy::default()
        };
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let resolver = Box::new(FixedResolver::new([nowhere]));
        let pool = Pool::new("bench".to_owned(), resolver, Arc::new(Opener), policy);
        let pool = Self(Arc::new(sure(pool.map_err(|_| "its name is taken"))));
        // The pool returns errors until its resolver has found a backend.
        while pool.0.claim().await.is_err() {
            tokio::task::yield_now().await;
        }
        pool
    }

    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Self::Error>> + Send {
        self.0.claim()
    }
}
