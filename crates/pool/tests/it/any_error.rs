//! A manager may fail with an error of any kind.

use cenote_pool::{AnyError, Config, ConnectError, Manager, Pool};

struct Refuses;

impl Manager for Refuses {
    type Connection = ();
    type Error = AnyError;

    async fn connect(&self) -> Result<(), AnyError> {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        Err(AnyError::new(anyhow::Error::from(refused).context("the queue is away")))
    }

    fn is_permanent(&self, _: &AnyError) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_acquiring_has_the_whole_chain_of_an_anyhow_error() {
    let pool = Pool::new(Refuses, Config::default()).unwrap();
    let error = pool.get().await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("the queue is away: connection refused"), "{text}");
    let last = error.snapshot().last_connect_error.clone().unwrap();
    assert!(matches!(&*last, ConnectError::Failed(cause) if cause.to_string() == "the queue is away"));
}
