//! Requests that go together in batches, and what each caller is told.

use std::{collections::HashSet, sync::Arc, time::Duration};

use cenote_postgres::{Batch, BatchCalls, BatchLimits, Batcher, ByteBound, Error, ExtraBatches, Pool, Pooled, Weight};
use tokio::{
    runtime::Handle,
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::timeout,
};

use crate::support::{self, SOON, never, until};

/// Doubles numbers, refuses odd hundreds, panics at 1313, and remembers what went together. Numbers that end in 7 share
/// one key.
struct Doubler {
    gate: Arc<Semaphore>,
    batches: Batches,
}

type Batches = Arc<Mutex<Vec<Vec<u64>>>>;

impl Batch for Doubler {
    type Request = u64;
    type Response = u64;

    fn weight(&self, &number: &u64) -> Weight {
        let bytes = number as usize;
        Weight { rows: 1, bytes }
    }

    fn key(&self, number: &u64) -> Option<u64> {
        (number % 10 == 7).then_some(7)
    }

    async fn run(&self, _connection: Pooled<'_>, calls: &BatchCalls<Self>) {
        let numbers = calls.requests();
        self.batches.lock().await.push(numbers.to_vec());
        let _passed = self.gate.acquire().await;
        assert!(!numbers.contains(&1313), "unlucky");
        calls.answer_all(|index| match numbers[index] % 200 {
            100 => Err(Error::RowCount(numbers[index] as usize)),
            _ => Ok(numbers[index] * 2),
        });
    }
}

/// A batcher over a warm pool, with room for `waiting` requests, and two batches at a time however long they take.
async fn doubler(waiting: usize, open: bool) -> (Batcher<Doubler>, Arc<Semaphore>, Batches) {
    doubler_with(ExtraBatches::new(0), waiting, open).await
}

async fn doubler_with(spare: ExtraBatches, waiting: usize, open: bool) -> (Batcher<Doubler>, Arc<Semaphore>, Batches) {
    let pool = support::database().await.pool(4);
    let warm = (pool.get().await.unwrap(), pool.get().await.unwrap());
    drop(warm);
    let limits = BatchLimits {
        waiting,
        extra: spare,
        ..BatchLimits::of(&pool)
    };
    doubler_within(limits, &pool, open)
}

fn doubler_within(limits: BatchLimits, pool: &Pool, open: bool) -> (Batcher<Doubler>, Arc<Semaphore>, Batches) {
    let gate = Arc::new(Semaphore::new(if open { 2 } else { 0 }));
    let batches = Batches::default();
    let doubler = Doubler {
        gate: gate.clone(),
        batches: batches.clone(),
    };
    (Batcher::with_limits(doubler, pool, limits), gate, batches)
}

/// Two batches that wait for the gate, so that nothing more is sent.
async fn occupy(batcher: &Batcher<Doubler>, batches: &Batches) -> JoinSet<Result<u64, Error>> {
    let mut callers = JoinSet::new();
    for number in 0..2 {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        let sent = async || batches.lock().await.concat().len() > number as usize;
        until("the request is sent", sent).await;
    }
    callers
}

async fn all_served(mut callers: JoinSet<Result<u64, Error>>) {
    while let Some(answered) = callers.join_next().await {
        answered.unwrap().unwrap();
    }
}

/// The batchers of a pool on two runtimes. Together they may take three of its connections.
async fn doublers() -> ([Batcher<Doubler>; 2], Arc<Semaphore>, Batches) {
    let config = support::database().await.config(9);
    let homes = vec![Handle::current(); 2];
    let pool = cenote_postgres::Pool::on_runtimes(config, homes).unwrap();
    let (gate, batches) = (Arc::new(Semaphore::new(0)), Batches::default());
    let batchers = Batcher::per_runtime(&pool, &BatchLimits::per_runtime(&pool), |_| Doubler {
        gate: gate.clone(),
        batches: batches.clone(),
    });
    (batchers.try_into().unwrap(), gate, batches)
}

/// Waits until this request is sent, whether alone or with others.
async fn is_sent(batches: &Batches, number: u64) {
    let sent = async || batches.lock().await.concat().contains(&number);
    until("the request is sent", sent).await;
}

#[tokio::test]
async fn a_lone_request_is_sent_at_once_and_alone() {
    let (batcher, _, batches) = doubler(10, true).await;
    assert_eq!(batcher.submit(4).await.unwrap(), 8);
    assert_eq!(batcher.submit(5).await.unwrap(), 10);
    assert_eq!(*batches.lock().await, [[4], [5]]);
}

#[tokio::test]
async fn what_comes_while_the_lanes_are_busy_goes_together_in_the_order_in_which_it_came() {
    let (batcher, gate, batches) = doubler(100, false).await;
    let mut callers = JoinSet::new();
    for number in 0..20 {
        let batcher = batcher.clone();
        callers.spawn(async move { (number, batcher.submit(number).await.unwrap()) });
        let sent = async || batches.lock().await.iter().map(Vec::len).sum::<usize>() > number as usize;
        if number < 2 {
            until("the request is sent", sent).await;
        }
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    while let Some(answered) = callers.join_next().await {
        let (number, double) = answered.unwrap();
        assert_eq!(double, number * 2);
    }
    assert_eq!(batches.lock().await[..3], [vec![0], vec![1], (2..20).collect()]);
}

#[tokio::test]
async fn an_error_reaches_only_the_caller_whose_request_it_answers() {
    let (batcher, gate, _) = doubler(100, false).await;
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
    let (batcher, gate, batches) = doubler(100, false).await;
    let busy = occupy(&batcher, &batches).await;
    assert!(timeout(Duration::from_millis(5), batcher.submit(77)).await.is_err());
    let stays = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(78).await }
    });
    tokio::task::yield_now().await;
    gate.add_permits(2);
    assert_eq!(stays.await.unwrap().unwrap(), 156);
    all_served(busy).await;
    assert!(!batches.lock().await.concat().contains(&77));
}

#[tokio::test]
async fn a_batch_that_panics_is_an_unknown_outcome_for_its_callers_and_the_next_one_works() {
    let (batcher, _, _) = doubler(100, true).await;
    for _ in 0..5 {
        let error = batcher.submit(1313).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        assert_eq!(batcher.submit(14).await.unwrap(), 28);
    }
}

#[tokio::test]
async fn a_request_beyond_the_bound_is_refused_at_once() {
    let (batcher, gate, batches) = doubler(3, false).await;
    let mut callers = occupy(&batcher, &batches).await;
    for number in 2..5 {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        tokio::task::yield_now().await;
    }
    let refused = batcher.submit(6).await;
    let full = matches!(refused, Err(Error::QueueFull { waiting: 3, .. }));
    assert!(full, "{refused:?}");
    let stats = batcher.stats();
    assert_eq!((stats.waiting, stats.waiting_bytes), (3, 2 + 3 + 4));
    assert_eq!((stats.refused, stats.refusing), (1, true));
    // A caller that leaves makes room.
    let mut leaves = Box::pin(batcher.submit(5));
    callers.abort_all();
    until("nobody waits", async || batcher.stats().waiting == 0).await;
    assert!(timeout(Duration::from_millis(1), &mut leaves).await.is_err());
    drop(leaves);
    gate.add_permits(4);
    assert_eq!(batcher.submit(6).await.unwrap(), 12);
    assert!(!batches.lock().await.concat().contains(&5));
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_and_one_alone_may_have_more() {
    let pool = support::database().await.pool(4);
    let bound = ByteBound::new(1000);
    let limits = BatchLimits {
        waiting_bytes: bound.clone(),
        ..BatchLimits::of(&pool)
    };
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    let mut callers = occupy(&batcher, &batches).await;
    for number in [5_000, 1, 999] {
        let submit = batcher.clone();
        let mut submitted = Box::pin(async move { submit.submit(number).await });
        let refused = timeout(Duration::from_millis(1), &mut submitted).await;
        match number {
            5_000 => assert!(refused.is_err(), "one is let in, however large"),
            _ => assert!(matches!(refused, Ok(Err(Error::QueueFull { .. })))),
        }
        if number == 5_000 {
            callers.spawn(submitted);
        }
    }
    // The bound can be raised while the batcher works.
    bound.set(10_000);
    let submit = batcher.clone();
    let mut submitted = Box::pin(async move { submit.submit(999).await });
    let waits = timeout(Duration::from_millis(1), &mut submitted).await;
    assert!(waits.is_err(), "it waits now");
    callers.spawn(submitted);
    gate.add_permits(4);
    all_served(callers).await;
    assert_eq!(batcher.submit(998).await.unwrap(), 1996);
}

#[tokio::test]
async fn a_caller_whose_time_is_over_is_told_whether_it_was_sent_and_what_was_not_never_is() {
    let pool = support::database().await.pool(4);
    let limits = BatchLimits {
        extra: ExtraBatches::new(0),
        ..BatchLimits::of(&pool)
    };
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    // Long enough to be sent in time, if a connection is free.
    let limit = Duration::from_secs(1);
    let busy = occupy(&batcher, &batches).await;
    let waits = batcher.submit_within(5, limit).await;
    assert!(!waits.as_ref().unwrap_err().is_outcome_unknown());
    assert!(matches!(waits, Err(Error::Deadline { sent: false, .. })));
    assert_eq!((batcher.stats().expired, batcher.stats().waiting), (1, 0));
    gate.add_permits(4);
    all_served(busy).await;
    let (other, _closed, _) = doubler(100, false).await;
    let sent = other.submit_within(3, limit).await;
    assert!(sent.as_ref().unwrap_err().is_outcome_unknown());
    assert!(matches!(sent, Err(Error::Deadline { sent: true, .. })));
    assert_eq!(batcher.submit_within(6, limit * 100).await.unwrap(), 12);
    assert!(!batches.lock().await.concat().contains(&5));
}

#[tokio::test]
async fn requests_that_wait_for_too_long_behind_slow_batches_are_told_so() {
    let pool = support::database().await.pool(4);
    let limits = BatchLimits {
        extra: ExtraBatches::new(0),
        // Long enough to be sent in time, if a connection is free.
        queue_timeout: Duration::from_millis(500),
        ..BatchLimits::of(&pool)
    };
    // Connections are opened before: no request is to wait for that.
    drop((pool.get().await.unwrap(), pool.get().await.unwrap()));
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    let busy = occupy(&batcher, &batches).await;
    let waits = timeout(SOON, batcher.submit(5)).await;
    assert!(matches!(waits, Ok(Err(Error::Deadline { sent: false, .. }))));
    gate.add_permits(4);
    all_served(busy).await;
    assert_eq!(batcher.submit(6).await.unwrap(), 12);
    assert!(!batches.lock().await.concat().contains(&5));
}

#[tokio::test]
async fn requests_of_one_key_go_one_batch_after_the_other_and_hold_up_no_others() {
    let (batcher, gate, batches) = doubler_with(ExtraBatches::new(2), 100, false).await;
    let mut callers = JoinSet::new();
    // All connections are free for the requests of the key; only one is taken. 2 and 4 are behind 17 and 27 in the
    // queue: once they are sent, 17 and 27 have been passed over.
    for (sent, waiting, number) in [(1, 0, 7), (1, 1, 17), (1, 2, 27), (2, 2, 2), (3, 2, 4)] {
        let submitted = batcher.clone();
        callers.spawn(async move { submitted.submit(number).await });
        until("the request is sent, or waits", async || {
            batches.lock().await.concat().len() == sent && batcher.stats().waiting == waiting
        })
        .await;
    }
    assert_eq!(*batches.lock().await, [[7], [2], [4]]);
    assert_eq!(batcher.stats().waiting, 2);
    gate.add_permits(3);
    all_served(callers).await;
    assert_eq!(batches.lock().await[3], [17, 27], "in order, together");
}

#[tokio::test]
async fn a_batcher_sends_as_many_batches_at_a_time_as_its_limits_say() {
    let pool = support::database().await.pool(4);
    let limits = BatchLimits {
        workers: 1,
        extra: ExtraBatches::new(0),
        ..BatchLimits::of(&pool)
    };
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    let mut callers = JoinSet::new();
    for number in 0..9 {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        is_sent(&batches, 0).await;
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    all_served(callers).await;
    assert_eq!(*batches.lock().await, [vec![0], (1..9).collect()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_another_runtime_are_served_when_the_runtime_of_the_batches_ends() {
    let (batcher, gate, batches) = doubler(100, false).await;
    let (other, lent) = (std::thread::spawn, batcher.clone());
    let runtime = other(|| tokio::runtime::Builder::new_multi_thread().enable_all().build())
        .join()
        .unwrap()
        .unwrap();
    // The batches run over there; the caller waits here.
    for number in [2, 4] {
        let batcher = lent.clone();
        runtime.spawn(async move { batcher.submit(number).await });
        is_sent(&batches, number).await;
    }
    let waits = tokio::spawn(async move { batcher.submit(6).await });
    until("the request waits", async || lent.stats().waiting == 1).await;
    runtime.shutdown_background();
    gate.add_permits(4);
    let told = timeout(SOON, waits).await;
    assert_eq!(told.unwrap().unwrap().unwrap(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batcher_works_on_when_a_runtime_that_used_it_has_ended() {
    let pool = support::database().await.pool(4);
    drop((pool.get().await.unwrap(), pool.get().await.unwrap()));
    // The second batch at a time is one that is sent because the first takes long.
    let limits = BatchLimits {
        workers: 1,
        extra: ExtraBatches::new(1),
        ..BatchLimits::of(&pool)
    };
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    let lent = batcher.clone();
    let there = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        gate.add_permits(1);
        let answer = runtime.block_on(lent.submit(2));
        gate.forget_permits(1);
        // The task that sent it ends, too.
        runtime.block_on(until("nothing runs", async || lent.stats().running == 0));
        (answer, gate)
    });
    let (answer, gate) = there.join().unwrap();
    assert_eq!(answer.unwrap(), 4);
    let mut callers = JoinSet::new();
    // 6 is sent only once a timer of this runtime has found that 4 takes long.
    for number in [4, 6] {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        is_sent(&batches, number).await;
    }
    gate.add_permits(9);
    all_served(callers).await;
}

#[tokio::test]
async fn a_batch_has_at_most_a_mebibyte_unless_one_request_has_more() {
    let (batcher, gate, batches) = doubler(100, false).await;
    let mut callers = JoinSet::new();
    let sizes = [2, 4, 600_000, 500_000, 400_000, 3_000_000, 8];
    for (index, size) in sizes.into_iter().enumerate() {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(size).await });
        if index < 2 {
            is_sent(&batches, size).await;
        }
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    while let Some(answered) = callers.join_next().await {
        answered.unwrap().unwrap();
    }
    let batches: HashSet<Vec<u64>> = batches.lock().await.iter().cloned().collect();
    let expected: [&[u64]; 6] = [&[2], &[4], &[600_000], &[500_000, 400_000], &[3_000_000], &[8]];
    assert_eq!(batches, expected.map(<[u64]>::to_vec).into());
}

#[tokio::test]
async fn a_batch_that_hangs_holds_up_neither_what_comes_later_nor_its_own_callers_leaving() {
    let (batcher, gate, batches) = doubler_with(ExtraBatches::new(2), 100, false).await;
    let mut stuck = occupy(&batcher, &batches).await;
    let later = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(7).await }
    });
    is_sent(&batches, 7).await;
    later.abort();
    stuck.shutdown().await;
    // All three are given up, so the one permit below is for the next request.
    let next = tokio::spawn(async move { batcher.submit(8).await });
    is_sent(&batches, 8).await;
    gate.add_permits(1);
    assert_eq!(timeout(SOON, next).await.unwrap().unwrap().unwrap(), 16);
}

#[tokio::test]
async fn the_batchers_of_a_pool_share_what_they_may_take_and_each_may_always_take_one() {
    let ([one, two], gate, batches) = doublers().await;
    let mut callers = JoinSet::new();
    let mut submit = |batcher: &Batcher<Doubler>, number| {
        let batcher = batcher.clone();
        callers.spawn(async move { (number, batcher.submit(number).await.unwrap()) });
    };
    // The first takes its own connection and then, since that takes long, the only extra one.
    for number in [1, 2] {
        submit(&one, number);
        is_sent(&batches, number).await;
    }
    submit(&one, 3);
    // The second finds its own connection free, and no other.
    submit(&two, 4);
    is_sent(&batches, 4).await;
    submit(&two, 5);
    let more_is_sent = async || batches.lock().await.len() > 3;
    never("more connections were taken than the batchers may take", more_is_sent).await;
    assert_eq!(*batches.lock().await, [[1], [2], [4]]);
    gate.add_permits(1);
    while let Some(answered) = callers.join_next().await {
        let (number, double) = answered.unwrap();
        assert_eq!(double, number * 2);
    }
    // All three connections are free again.
    let mut callers = JoinSet::new();
    let _closed = gate.acquire().await.unwrap();
    for (batcher, number) in [(&two, 6), (&two, 7), (&one, 8)] {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        is_sent(&batches, number).await;
    }
}
