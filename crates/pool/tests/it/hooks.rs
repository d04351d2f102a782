//! Hooks: when they run, what they decide, and what becomes of a connection whose hook fails.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_pool::{Condition, Config, ConnectError, Decision, Hooks, Phase, Pool, Reason, Retired};
use tokio::{sync::Semaphore, time::sleep};

use crate::support::{Refused, Scripted, Server, queue_up, settle, small};

type Outcome = Result<Decision, Refused>;

fn pool(config: Config, hooks: Hooks<Scripted>) -> (Pool<Scripted>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let pool = Pool::with_hooks(Scripted(server.clone()), config, hooks).unwrap();
    (pool, server)
}

/// What a hook answers, one call after the other; then it keeps its connections.
fn answers(these: Vec<Outcome>) -> impl Fn() -> Outcome + Send + Sync + 'static {
    let answers = Mutex::new(VecDeque::from(these));
    move || answers.lock().unwrap().pop_front().unwrap_or(Ok(Decision::Keep))
}

fn before(these: Vec<Outcome>) -> Hooks<Scripted> {
    let answer = answers(these);
    Hooks::new().before_acquire(move |_, _| {
        let answer = answer();
        Box::pin(async move { answer })
    })
}

fn after(these: Vec<Outcome>) -> Hooks<Scripted> {
    let answer = answers(these);
    Hooks::new().after_release(move |_, _| {
        let answer = answer();
        Box::pin(async move { answer })
    })
}

#[tokio::test(start_paused = true)]
async fn each_hook_runs_once_at_its_turn_with_the_connection_it_is_about() {
    let turns = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let turns = turns.clone();
        move |number: u32| turns.lock().unwrap().push((what, number))
    };
    let (connected, acquired, released, closed) = (note("open"), note("get"), note("back"), note("close"));
    let hooks = Hooks::<Scripted>::new()
        .after_connect(move |connection, _| {
            connected(connection.number);
            Box::pin(async { Ok(()) })
        })
        .before_acquire(move |connection, _| {
            acquired(connection.number);
            Box::pin(async { Ok(Decision::Keep) })
        })
        .after_release(move |connection, _| {
            released(connection.number);
            Box::pin(async { Ok(Decision::Keep) })
        })
        .on_close(move |connection, _, reason| {
            assert_eq!(reason, Retired::Closed);
            closed(connection.number);
            Box::pin(async {})
        });
    let (pool, _) = pool(small(1), hooks);
    for _ in 0..2 {
        drop(pool.get().await.unwrap());
        settle().await;
    }
    // Inspections are no uses.
    pool.inspect_idle();
    pool.close().await;
    let expected = [
        ("open", 0),
        ("get", 0),
        ("back", 0),
        ("get", 0),
        ("back", 0),
        ("close", 0),
    ];
    assert_eq!(*turns.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_hook_before_an_acquire_wants_closed_is_replaced_by_another() {
    let (pool, server) = pool(small(2), before(vec![Ok(Decision::Keep), Ok(Decision::Close)]));
    drop(pool.get().await.unwrap());
    let held = pool.get().await.unwrap();
    assert_eq!(held.number, 1);
    settle().await;
    assert_eq!(server.open.load(SeqCst), 1);
    assert_eq!(pool.stats().retired(Retired::Discarded), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_wants_every_connection_closed_ends_the_acquire_at_the_first_new_one() {
    let (pool, server) = pool(small(1), before((0..9).map(|_| Ok(Decision::Close)).collect()));
    let error = pool.get().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Rejected);
    assert!(error.hook_error().is_none());
    settle().await;
    assert_eq!((server.tries.load(SeqCst), server.open.load(SeqCst)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_hook_before_an_acquire_is_the_callers_error_and_its_connection_is_closed() {
    let (pool, server) = pool(
        small(1),
        before(vec![Ok(Decision::Keep), Err(Refused("no such tenant"))]),
    );
    drop(pool.get().await.unwrap());
    let error = pool.get().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Rejected);
    assert_eq!(error.hook_error().map(|error| error.0), Some("no such tenant"));
    let text = error.to_string();
    assert!(
        text.starts_with("the hook before the acquire rejected the connection: no such tenant: 0 of 1"),
        "{text}"
    );
    settle().await;
    assert_eq!(server.open.load(SeqCst), 0, "nobody else gets it");
    assert_eq!(pool.get().await.unwrap().number, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hook_before_an_acquire_that_hangs_ends_after_the_check_timeout() {
    let hangs = Arc::new(AtomicBool::new(true));
    let hooks = Hooks::new().before_acquire({
        let hangs = hangs.clone();
        move |_, _| {
            let hangs = hangs.load(SeqCst);
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(Decision::Keep)
            })
        }
    });
    let (pool, server) = pool(small(1), hooks);
    let error = pool.get_within(Duration::from_millis(1)).await.unwrap_err();
    let Reason::Timeout { phase, waited } = error.reason() else {
        panic!("{error}");
    };
    assert_eq!((phase, waited), (Phase::Hook, Duration::from_secs(1)));
    settle().await;
    assert_eq!(server.open.load(SeqCst), 0);
    hangs.store(false, SeqCst);
    pool.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_a_hook_decides_who_gets_a_connection_try_get_hands_out_none() {
    let (pool, _) = pool(small(1), before(vec![]));
    drop(pool.get().await.unwrap());
    assert_eq!(pool.stats().idle, 1);
    assert!(pool.try_get().is_none());
    assert!(pool.get_within(Duration::ZERO).await.is_ok(), "it takes the idle one");
}

#[tokio::test(start_paused = true)]
async fn the_hook_before_an_acquire_sees_the_locals_of_the_callers_task() {
    tokio::task_local! { static TENANT: u32; }
    let seen = Arc::new(AtomicU32::new(0));
    let hooks = Hooks::new().before_acquire({
        let seen = seen.clone();
        move |_, _| {
            let seen = seen.clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                seen.store(TENANT.get(), SeqCst);
                Ok(Decision::Keep)
            })
        }
    });
    let (pool, _) = pool(small(1), hooks);
    // Also for a connection that is handed over.
    let held = pool.get_owned();
    let held = TENANT.scope(1, held).await.unwrap();
    assert_eq!(seen.load(SeqCst), 1);
    let waiting = tokio::spawn(TENANT.scope(2, pool.get_owned()));
    settle().await;
    drop(held);
    drop(waiting.await.unwrap().unwrap());
    assert_eq!(seen.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn the_hook_after_a_release_runs_on_a_clean_connection_and_what_it_leaves_is_cleaned_too() {
    let hooks = Hooks::<Scripted>::new().after_release(|connection, _| {
        assert_eq!(connection.condition, Condition::Clean);
        connection.condition = Condition::Dirty;
        Box::pin(async { Ok(Decision::Keep) })
    });
    let (pool, server) = pool(small(1), hooks);
    let mut held = pool.get().await.unwrap();
    held.condition = Condition::Dirty;
    drop(held);
    settle().await;
    assert_eq!(server.cleans.load(SeqCst), 2);
    assert_eq!(pool.get().await.unwrap().condition, Condition::Clean);
    assert_eq!(server.opened.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_hook_after_a_release_may_have_its_connection_closed_and_a_waiter_gets_another() {
    let (pool, server) = pool(small(1), after(vec![Ok(Decision::Close)]));
    let held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    drop(held);
    waiting.await.unwrap().unwrap();
    assert_eq!(server.opened.load(SeqCst), 2);
    assert_eq!(pool.stats().retired(Retired::Discarded), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hook_after_a_release_that_fails_or_hangs_costs_its_connection_alone() {
    let answer = answers(vec![Err(Refused("cannot audit"))]);
    let gate = Arc::new(Semaphore::new(1));
    let hooks = Hooks::<Scripted>::new().after_release({
        let gate = gate.clone();
        move |_, _| {
            let (answer, gate) = (answer(), gate.clone());
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                answer
            })
        }
    });
    let (pool, server) = pool(small(1), hooks);
    drop(pool.get().await.unwrap());
    // The first failed; this one waits at the shut gate.
    drop(pool.get().await.unwrap());
    settle().await;
    assert_eq!(pool.stats().cleaning, 1);
    assert_eq!(pool.stats().cleaned, 0, "it was not dirty");
    let next = pool.get().await.unwrap();
    assert_eq!(next.number, 2);
    assert_eq!(pool.stats().retired(Retired::Broken), 2);
    gate.add_permits(9);
    drop(next);
    assert_eq!(pool.get().await.unwrap().number, 2);
    assert_eq!(server.open.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_hook_after_a_release_does_not_run_on_what_nobody_had_or_what_is_closed_instead() {
    let ran = Arc::new(AtomicU32::new(0));
    let hooks = Hooks::<Scripted>::new().after_release({
        let ran = ran.clone();
        move |_, _| {
            ran.fetch_add(1, SeqCst);
            Box::pin(async { Ok(Decision::Keep) })
        }
    });
    let checked = Config {
        check_after: Some(Duration::ZERO),
        ..small(1)
    };
    let (pool, server) = pool(checked, hooks);
    pool.get().await.unwrap().discard();
    let mut held = pool.get().await.unwrap();
    held.condition = Condition::Broken;
    drop(held);
    drop(pool.get().await.unwrap().detach());
    assert_eq!(ran.load(SeqCst), 0);
    drop(pool.get().await.unwrap());
    settle().await;
    assert_eq!(ran.load(SeqCst), 1);
    // Dropped during its check.
    Server::shut_gate(&server.check_gate);
    let checking = queue_up(&pool);
    settle().await;
    checking.abort();
    settle().await;
    assert_eq!((ran.load(SeqCst), pool.stats().idle), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_hook_on_a_new_connection_fails_the_connect_and_closes_it() {
    let fails = Arc::new(AtomicBool::new(true));
    let hooks = Hooks::<Scripted>::new().after_connect({
        let fails = fails.clone();
        move |_, _| {
            let fails = fails.load(SeqCst);
            Box::pin(async move {
                match fails {
                    true => Err(Refused("no such role")),
                    false => Ok(()),
                }
            })
        }
    });
    let (pool, server) = pool(small(1), hooks);
    let error = pool.get_within(Duration::from_secs(2)).await.unwrap_err();
    assert!(error.to_string().contains("no such role"), "{error}");
    let last = pool.last_connect_error().unwrap();
    assert!(matches!(&*last, ConnectError::Failed(Refused("no such role"))));
    assert_eq!(server.open.load(SeqCst), 0);
    // While its close hangs, it counts against the maximum.
    Server::shut_gate(&server.close_gate);
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((server.open.load(SeqCst), pool.stats().connecting), (1, 1));
    Server::open_gate(&server.close_gate);
    fails.store(false, SeqCst);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hook_on_a_new_connection_shares_the_connect_timeout() {
    let hooks = Hooks::<Scripted>::new().after_connect(|_, _| Box::pin(std::future::pending()));
    let (pool, server) = pool(small(1), hooks);
    let waiting = queue_up(&pool);
    sleep(Duration::from_millis(4_900)).await;
    assert!(pool.last_connect_error().is_none());
    // Before the next attempt.
    sleep(Duration::from_millis(110)).await;
    let last = pool.last_connect_error().unwrap();
    assert!(matches!(&*last, ConnectError::TimedOut(_)), "{last}");
    assert_eq!(server.open.load(SeqCst), 0);
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn the_hook_on_a_close_learns_why_and_a_hanging_one_keeps_the_slot_until_the_close_timeout() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let hooks = Hooks::<Scripted>::new().on_close({
        let reasons = reasons.clone();
        move |connection, _, reason| {
            reasons.lock().unwrap().push(reason);
            let hangs = connection.number == 2;
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
            })
        }
    });
    let (pool, server) = pool(small(1), hooks);
    pool.get().await.unwrap().discard();
    let mut held = pool.get().await.unwrap();
    held.condition = Condition::Broken;
    drop(held);
    drop(pool.get().await.unwrap());
    pool.replace_all();
    settle().await;
    assert_eq!(
        *reasons.lock().unwrap(),
        [Retired::Discarded, Retired::Broken, Retired::Replaced]
    );
    assert_eq!(pool.stats().closing, 1);
    let started = tokio::time::Instant::now();
    assert_eq!(pool.get().await.unwrap().number, 3);
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(server.open.load(SeqCst), 1);
}
