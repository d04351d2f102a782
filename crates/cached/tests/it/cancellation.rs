//! A caller that gives up at any await.

use std::{future::poll_fn, pin::pin, task::Poll};

use cenote_cached::Coherence;
use cenote_postgres::Error;

use crate::world::{World, until};

/// Polls a future at most this many times, whenever it is woken, and drops it.
async fn give_up_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Each attempt is dropped one poll later than the one before, on goods of its own, until one is not dropped.
#[tokio::test]
async fn a_writer_dropped_at_any_await_leaves_nothing_stale_and_nothing_locked() {
    let world = World::start().await;
    let (writer, reader) = (
        world.instance(world.strong()).await,
        world.instance(world.strong()).await,
    );
    let mut outcomes = [0, 0];
    for polls in 0.. {
        let id = i64::from(polls) + 1;
        assert!(id <= 100, "a transaction takes more than {polls} polls");
        assert_eq!(reader.pieces(id).await, 100);
        let goods = &writer.goods;
        let work = writer.cached.transaction(&world.pool, |transaction, touched| {
            touched.add(goods, &id);
            Box::pin(async move {
                let take = "UPDATE goods SET pieces = pieces - 1 WHERE id = $1";
                transaction.execute(take, &[&id]).await?;
                let note = "INSERT INTO orders (goods, pieces) VALUES ($1, 1)";
                transaction.execute(note, &[&id]).await?;
                Ok::<_, Error>(())
            })
        });
        let done = give_up_after(polls, work).await;
        // What the database shows, a read that begins later sees, whether or not the commit is still on its way.
        let before = world.pieces(id).await;
        assert!(reader.pieces(id).await <= before, "after {polls} polls");
        // Nothing holds the row.
        until("the row is free", async || {
            let lock = "SELECT count(*) FROM (SELECT FROM goods WHERE id = $1 FOR UPDATE SKIP LOCKED) AS free";
            world.pool.query_one(lock, &[&id]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
        let sql = "SELECT 100 - pieces, (SELECT count(*) FROM orders WHERE goods = $1) FROM goods WHERE id = $1";
        let row = world.pool.query_one(sql, &[&id]).await.unwrap();
        let (taken, noted): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(taken, noted, "both or neither, after {polls} polls");
        assert_eq!(reader.pieces(id).await, 100 - taken, "after {polls} polls");
        outcomes[usize::from(taken == 1)] += 1;
        if let Some(done) = done {
            assert_eq!((done.unwrap().coherence, taken), (Coherence::Settled, 1));
            break;
        }
    }
    // Some were dropped before their commit was sent, some after.
    assert!(outcomes[0] > 3 && outcomes[1] > 1, "{outcomes:?}");
    assert_eq!(world.pool.stats().pool.in_use, 0);
}

#[tokio::test]
async fn a_reader_dropped_at_any_await_disturbs_no_other_reader() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    for polls in 0.. {
        let id = i64::from(polls) + 1;
        assert!(id <= 100, "a read takes more than {polls} polls");
        let (dropped, other) = tokio::join!(give_up_after(polls, one.goods.get(&id)), one.goods.get(&id));
        assert_eq!(other.unwrap().unwrap().pieces, 100);
        if dropped.is_some() {
            break;
        }
    }
}
