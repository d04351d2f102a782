//! Requests that go together, and what each caller gets of it.

#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_postgres::{Batch, Batcher, Error, Loader, Result};
use tokio::{
    runtime::Handle,
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::timeout,
};

/// Doubles numbers, refuses odd hundreds, panics at 1313, and remembers what went together.
struct Doubler {
    gate: Arc<Semaphore>,
    batches: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Batch for Doubler {
    type Request = u64;
    type Response = u64;

    fn weight(&self, &number: &u64) -> usize {
        number as usize
    }

    async fn run(&self, numbers: Vec<u64>, _: Duration) -> Vec<Result<u64>> {
        self.batches.lock().await.push(numbers.clone());
        let _passed = self.gate.acquire().await;
        assert!(!numbers.contains(&1313), "unlucky");
        let double = |number: u64| match number % 200 {
            100 => Err(Error::RowCount(number as usize)),
            _ => Ok(number * 2),
        };
        numbers.into_iter().map(double).collect()
    }
}

type Batches = Arc<Mutex<Vec<Vec<u64>>>>;

fn doubler(most_waiting: usize, open: bool) -> (Batcher<Doubler>, Arc<Semaphore>, Batches) {
    let gate = Arc::new(Semaphore::new(if open { 2 } else { 0 }));
    let batches = Batches::default();
    let doubler = Doubler {
        gate: gate.clone(),
        batches: batches.clone(),
    };
    (Batcher::bounded(doubler, most_waiting, 4), gate, batches)
}

/// The batchers of a pool with two homes, of whose connections they may take three.
async fn doublers() -> ([Batcher<Doubler>; 2], Arc<Semaphore>, Batches) {
    let config = support::database().await.config(9);
    let homes = vec![Handle::current(); 2];
    let pool = cenote_postgres::Pool::across(config, homes).unwrap();
    let (gate, batches) = (Arc::new(Semaphore::new(0)), Batches::default());
    let batchers = Batcher::per_home(&pool, |_| Doubler {
        gate: gate.clone(),
        batches: batches.clone(),
    });
    (batchers.try_into().unwrap(), gate, batches)
}

async fn until(mut is_true: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_true().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap();
}

#[tokio::test]
async fn a_lone_request_is_sent_at_once_and_alone() {
    let (batcher, _, batches) = doubler(10, true);
    assert_eq!(batcher.submit(4).await.unwrap(), 8);
    assert_eq!(batcher.submit(5).await.unwrap(), 10);
    assert_eq!(*batches.lock().await, [[4], [5]]);
}

#[tokio::test]
async fn what_comes_while_the_lanes_are_busy_goes_together_in_the_order_in_which_it_came() {
    let (batcher, gate, batches) = doubler(100, false);
    let mut callers = JoinSet::new();
    for number in 0..20 {
        let batcher = batcher.clone();
        callers.spawn(async move { (number, batcher.submit(number).await.unwrap()) });
        let sent =
            async || batches.lock().await.iter().map(Vec::len).sum::<usize>() > number as usize;
        if number < 2 {
            until(sent).await;
        }
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    while let Some(answered) = callers.join_next().await {
        let (number, double) = answered.unwrap();
        assert_eq!(double, number * 2);
    }
    let batches = batches.lock().await;
    assert_eq!(batches[..3], [vec![0], vec![1], (2..20).collect()]);
}

#[tokio::test]
async fn an_error_reaches_only_the_caller_whose_request_it_answers() {
    let (batcher, gate, _) = doubler(100, false);
    let mut callers = JoinSet::new();
    for number in [1, 2, 99, 100, 101] {
        let batcher = batcher.clone();
        callers.spawn(async move { (number, batcher.submit(number).await) });
    }
    tokio::task::yield_now().await;
    gate.add_permits(2);
    while let Some(answered) = callers.join_next().await {
        match answered.unwrap() {
            (100, answer) => assert!(matches!(answer, Err(Error::RowCount(100)))),
            (number, answer) => assert_eq!(answer.unwrap(), number * 2),
        }
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_in_the_queue_is_not_served_and_harms_nobody() {
    let (batcher, gate, batches) = doubler(100, false);
    let mut busy = JoinSet::new();
    for number in 0..2 {
        let batcher = batcher.clone();
        busy.spawn(async move { batcher.submit(number).await });
        until(async || batches.lock().await.concat().len() > number as usize).await;
    }
    assert!(
        timeout(Duration::from_millis(5), batcher.submit(77))
            .await
            .is_err()
    );
    let stays = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(78).await }
    });
    tokio::task::yield_now().await;
    gate.add_permits(2);
    assert_eq!(stays.await.unwrap().unwrap(), 156);
    while let Some(ended) = busy.join_next().await {
        ended.unwrap().unwrap();
    }
    assert!(!batches.lock().await.concat().contains(&77));
}

#[tokio::test]
async fn a_batch_that_panics_is_an_unknown_outcome_for_its_callers_and_the_next_one_works() {
    let (batcher, _, _) = doubler(100, true);
    for _ in 0..5 {
        let error = batcher.submit(1313).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        assert_eq!(batcher.submit(14).await.unwrap(), 28);
    }
}

#[tokio::test]
async fn a_request_beyond_the_bound_is_refused_at_once() {
    let (batcher, gate, batches) = doubler(3, false);
    let mut callers = JoinSet::new();
    for number in 0..2 {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        until(async || batches.lock().await.concat().len() > number as usize).await;
    }
    for number in 2..5 {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        tokio::task::yield_now().await;
    }
    assert!(matches!(batcher.submit(5).await, Err(Error::QueueFull)));
    gate.add_permits(2);
    while let Some(answered) = callers.join_next().await {
        answered.unwrap().unwrap();
    }
    assert_eq!(batcher.submit(6).await.unwrap(), 12);
}

#[tokio::test]
async fn a_batch_has_at_most_a_mebibyte_unless_one_request_has_more() {
    let (batcher, gate, batches) = doubler(100, false);
    let mut callers = JoinSet::new();
    let sizes = [2, 4, 600_000, 500_000, 400_000, 3_000_000, 8];
    for (index, size) in sizes.into_iter().enumerate() {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(size).await });
        if index < 2 {
            until(async || batches.lock().await.concat().len() > index).await;
        }
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    while let Some(answered) = callers.join_next().await {
        answered.unwrap().unwrap();
    }
    let batches: HashSet<Vec<u64>> = batches.lock().await.iter().cloned().collect();
    let expected: [&[u64]; 6] = [
        &[2],
        &[4],
        &[600_000],
        &[500_000, 400_000],
        &[3_000_000],
        &[8],
    ];
    assert_eq!(batches, expected.map(<[u64]>::to_vec).into());
}

const SQUARES: &str = "SELECT position, key * key FROM unnest($1::bigint[]) \
                       WITH ORDINALITY AS wanted (key, position) WHERE key >= 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_of_a_loader_gets_the_row_of_its_own_key() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| row.get(1));
    let right = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..64i64 {
        let (loader, right) = (loader.clone(), right.clone());
        callers.spawn(async move {
            for round in 0..50 {
                let key = (caller * 50 + round) % 97 - 5;
                // Some give up on the way; the others must not notice.
                if round % 7 == 3 {
                    let _gone = timeout(Duration::from_micros(50), loader.load(key)).await;
                }
                let expected = (key >= 0).then_some(key * key);
                assert_eq!(
                    loader.load(key).await.unwrap().as_deref().copied(),
                    expected
                );
                right.fetch_add(1, SeqCst);
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(right.load(SeqCst), 64 * 50);
    let statements = pool.stats().queries;
    assert!(
        statements < 64 * 50,
        "{statements} statements for {} look-ups",
        64 * 50
    );
}

#[tokio::test]
async fn when_the_statement_fails_every_caller_is_told_why() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> =
        Loader::new(pool, "SELECT 1::bigint / 0, $1::bigint[]", |row| row.get(1));
    let (one, two) = tokio::join!(loader.load(1), loader.load(2));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.code().map(|code| code.code()), Some("22012"));
    }
}

#[tokio::test]
async fn a_batch_that_hangs_holds_up_neither_what_comes_later_nor_its_own_callers_leaving() {
    let (batcher, gate, batches) = doubler(100, false);
    let mut stuck = JoinSet::new();
    for number in 0..2 {
        let batcher = batcher.clone();
        stuck.spawn(async move { batcher.submit(number).await });
        until(async || batches.lock().await.concat().len() > number as usize).await;
    }
    let later = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(7).await }
    });
    until(async || batches.lock().await.contains(&vec![7])).await;
    later.abort();
    stuck.shutdown().await;
    // All three are given up: whoever comes next finds the gate with nobody in front of it.
    let next = tokio::spawn(async move { batcher.submit(8).await });
    until(async || batches.lock().await.contains(&vec![8])).await;
    gate.add_permits(1);
    assert_eq!(
        timeout(Duration::from_secs(5), next)
            .await
            .unwrap()
            .unwrap()
            .unwrap(),
        16
    );
}

#[tokio::test]
async fn the_batchers_of_a_pool_share_what_they_may_take_and_each_may_always_take_one() {
    let ([one, two], gate, batches) = doublers().await;
    let mut callers = JoinSet::new();
    let mut submit = |batcher: &Batcher<Doubler>, number| {
        let batcher = batcher.clone();
        callers.spawn(async move { (number, batcher.submit(number).await.unwrap()) });
    };
    // One takes its own place and then, since that takes long, the one there is besides.
    for number in [1, 2] {
        submit(&one, number);
        until(async || batches.lock().await.contains(&vec![number])).await;
    }
    submit(&one, 3);
    // The other finds its own place free, and no more.
    submit(&two, 4);
    until(async || batches.lock().await.contains(&vec![4])).await;
    submit(&two, 5);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(*batches.lock().await, [[1], [2], [4]]);
    gate.add_permits(1);
    while let Some(answered) = callers.join_next().await {
        let (number, double) = answered.unwrap();
        assert_eq!(double, number * 2);
    }
    // Nothing is left taken: there is a third place again.
    let mut callers = JoinSet::new();
    let _closed = gate.acquire().await.unwrap();
    for (batcher, number) in [(&two, 6), (&two, 7), (&one, 8)] {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        until(async || batches.lock().await.contains(&vec![number])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_in_the_queue_counts_against_the_wait_for_a_connection() {
    let mut config = support::database().await.config(1);
    config.pool.acquire_timeout = Duration::from_secs(1);
    let pool = cenote_postgres::Pool::new(config).unwrap();
    let _held = pool.get().await.unwrap();
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| row.get(1));
    let started = std::time::Instant::now();
    let mut callers = JoinSet::new();
    for key in 0..20 {
        let loader = loader.clone();
        callers.spawn(async move { loader.load(key).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while let Some(ended) = callers.join_next().await {
        let error = ended.unwrap().unwrap_err();
        assert!(matches!(error, Error::Acquire(_)), "{error}");
    }
    let took = started.elapsed();
    assert!(took < Duration::from_millis(1600), "{took:?}");
}
