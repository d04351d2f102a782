//! Requests that go together, and what each caller gets of it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use cenote_postgres::{Batch, Batcher, Calls, Error, Limits, Pool, Pooled, Spare, Weight};
use tokio::{
    runtime::Handle,
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support;

/// Doubles numbers, refuses odd hundreds, panics at 1313, and remembers what went together. Numbers that end in 7 are
/// all about the same.
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

    async fn run(&self, _connection: Pooled<'_>, calls: &Calls<Self>) {
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

/// Over a warm pool, with room for so many that wait, and two lanes however long they take.
async fn doubler(waiting: usize, open: bool) -> (Batcher<Doubler>, Arc<Semaphore>, Batches) {
    doubler_with(Spare::new(0), waiting, open).await
}

async fn doubler_with(spare: Spare, waiting: usize, open: bool) -> (Batcher<Doubler>, Arc<Semaphore>, Batches) {
    let pool = support::database().await.pool(4);
    let warm = (pool.get().await.unwrap(), pool.get().await.unwrap());
    drop(warm);
    let limits = Limits {
        waiting,
        spare,
        ..Limits::of(&pool)
    };
    doubler_within(limits, &pool, open)
}

fn doubler_within(limits: Limits, pool: &Pool, open: bool) -> (Batcher<Doubler>, Arc<Semaphore>, Batches) {
    let gate = Arc::new(Semaphore::new(if open { 2 } else { 0 }));
    let batches = Batches::default();
    let doubler = Doubler {
        gate: gate.clone(),
        batches: batches.clone(),
    };
    (Batcher::with_limits(doubler, pool, limits), gate, batches)
}

/// Two batches that wait for the gate: both lanes are busy.
async fn occupy(batcher: &Batcher<Doubler>, batches: &Batches) -> JoinSet<Result<u64, Error>> {
    let mut callers = JoinSet::new();
    for number in 0..2 {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        until(async || batches.lock().await.concat().len() > number as usize).await;
    }
    callers
}

async fn all_served(mut callers: JoinSet<Result<u64, Error>>) {
    while let Some(answered) = callers.join_next().await {
        answered.unwrap().unwrap();
    }
}

/// The batchers of a pool with two homes, of whose connections they may take three.
async fn doublers() -> ([Batcher<Doubler>; 2], Arc<Semaphore>, Batches) {
    let config = support::database().await.config(9);
    let homes = vec![Handle::current(); 2];
    let pool = cenote_postgres::Pool::across(config, homes).unwrap();
    let (gate, batches) = (Arc::new(Semaphore::new(0)), Batches::default());
    let batchers = Batcher::per_home(&pool, &Limits::per_home(&pool), |_| Doubler {
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
    // Whoever leaves makes room.
    let mut leaves = Box::pin(batcher.submit(5));
    callers.abort_all();
    until(async || batcher.stats().waiting == 0).await;
    assert!(timeout(Duration::from_millis(1), &mut leaves).await.is_err());
    drop(leaves);
    gate.add_permits(4);
    assert_eq!(batcher.submit(6).await.unwrap(), 12);
    assert!(!batches.lock().await.concat().contains(&5));
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_and_one_alone_may_have_more() {
    let pool = support::database().await.pool(4);
    let limits = Limits {
        waiting_bytes: 1000,
        ..Limits::of(&pool)
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
    gate.add_permits(4);
    all_served(callers).await;
    assert_eq!(batcher.submit(998).await.unwrap(), 1996);
}

#[tokio::test]
async fn a_caller_whose_time_is_over_is_told_whether_it_was_sent_and_what_was_not_never_is() {
    let pool = support::database().await.pool(4);
    let limits = Limits {
        spare: Spare::new(0),
        ..Limits::of(&pool)
    };
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    let limit = Duration::from_millis(300);
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
    let limits = Limits {
        spare: Spare::new(0),
        wait: Duration::from_millis(60),
        ..Limits::of(&pool)
    };
    // To connect takes longer than a request is willing to wait here.
    drop((pool.get().await.unwrap(), pool.get().await.unwrap()));
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    let busy = occupy(&batcher, &batches).await;
    let waits = timeout(Duration::from_secs(5), batcher.submit(5)).await;
    assert!(matches!(waits, Ok(Err(Error::Deadline { sent: false, .. }))));
    gate.add_permits(4);
    all_served(busy).await;
    assert_eq!(batcher.submit(6).await.unwrap(), 12);
    assert!(!batches.lock().await.concat().contains(&5));
}

#[tokio::test]
async fn requests_of_one_key_go_one_batch_after_the_other_and_hold_up_no_others() {
    let (batcher, gate, batches) = doubler_with(Spare::new(2), 100, false).await;
    let mut callers = JoinSet::new();
    // All lanes are free for those of the key; only one is taken.
    for (sent, number) in [(1, 7), (1, 17), (1, 27), (2, 2), (3, 4)] {
        let submitted = batcher.clone();
        callers.spawn(async move { submitted.submit(number).await });
        until(async || batches.lock().await.concat().len() >= sent).await;
        sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(*batches.lock().await, [[7], [2], [4]]);
    assert_eq!(batcher.stats().waiting, 2);
    gate.add_permits(3);
    all_served(callers).await;
    assert_eq!(batches.lock().await[3], [17, 27], "in order, together");
}

#[tokio::test]
async fn a_batcher_has_as_many_lanes_as_it_is_given() {
    let pool = support::database().await.pool(4);
    let limits = Limits {
        lanes: 1,
        spare: Spare::new(0),
        ..Limits::of(&pool)
    };
    let (batcher, gate, batches) = doubler_within(limits, &pool, false);
    let mut callers = JoinSet::new();
    for number in 0..9 {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.submit(number).await });
        until(async || !batches.lock().await.is_empty()).await;
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    all_served(callers).await;
    assert_eq!(*batches.lock().await, [vec![0], (1..9).collect()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_elsewhere_are_served_when_the_runtime_of_the_lanes_ends() {
    let (batcher, gate, batches) = doubler(100, false).await;
    let (other, lent) = (std::thread::spawn, batcher.clone());
    let runtime = other(|| tokio::runtime::Builder::new_multi_thread().enable_all().build())
        .join()
        .unwrap()
        .unwrap();
    // Its lanes run over there; the callers wait here.
    for number in [2, 4] {
        let batcher = lent.clone();
        runtime.spawn(async move { batcher.submit(number).await });
        until(async || batches.lock().await.concat().contains(&number)).await;
    }
    let waits = tokio::spawn(async move { batcher.submit(6).await });
    until(async || lent.stats().waiting == 1).await;
    runtime.shutdown_background();
    gate.add_permits(4);
    let told = timeout(Duration::from_secs(10), waits).await;
    assert_eq!(told.unwrap().unwrap().unwrap(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batcher_works_on_when_a_runtime_that_used_it_has_ended() {
    let (batcher, gate, _) = doubler(100, false).await;
    let lent = batcher.clone();
    let there = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        gate.add_permits(1);
        let answer = runtime.block_on(lent.submit(2));
        gate.forget_permits(1);
        // Its lane ends, too.
        runtime.block_on(until(async || lent.stats().running == 0));
        (answer, gate)
    });
    let (answer, gate) = there.join().unwrap();
    assert_eq!(answer.unwrap(), 4);
    let callers = async { tokio::join!(batcher.submit(4), batcher.submit(6)) };
    // Longer than a lane is patient.
    let opens = async {
        sleep(Duration::from_millis(50)).await;
        gate.add_permits(9);
    };
    let (answers, ()) = tokio::join!(callers, opens);
    assert_eq!((answers.0.unwrap(), answers.1.unwrap()), (8, 12));
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
            until(async || batches.lock().await.concat().len() > index).await;
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
    let (batcher, gate, batches) = doubler_with(Spare::new(2), 100, false).await;
    let mut stuck = occupy(&batcher, &batches).await;
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
        timeout(Duration::from_secs(5), next).await.unwrap().unwrap().unwrap(),
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
