//! The scenarios. Invariant: each ends by checking that the pool is whole or terminated.

use super::*;

async fn busy(config: Config) {
    let pool = start(config, Mood::Well);
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            spawn(async move {
                for _ in 0..2 {
                    if let Some(asked) = ask(&pool).await {
                        hold(asked.unwrap()).await;
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    is_whole(pool).await;
}

#[test]
fn every_waiter_is_served_and_nothing_is_lost_without_timers() {
    explore(3_000, || busy(config(1, 0)));
    explore(3_000, || {
        busy(Config {
            min_size: Some(1),
            ..config(1, 1)
        })
    });
}

/// An operator pauses, sweeps and resizes the pool while callers use it. In the end it has its first limits.
async fn operated(config: Config) {
    let whole = Limits {
        min_size: config.min_size,
        max_size: config.max_size,
        max_overflow: config.max_overflow,
    };
    let pool = start(config, Mood::Well);
    let operator = spawn({
        let pool = pool.clone();
        async move {
            for _ in 0..2 {
                dawdle().await;
                match thread_rng().gen_range(0..6) {
                    0 => pool.pause().await,
                    1 => drop(pool.pause()),
                    2 => pool.inspect_idle(),
                    3 => pool.replace_all(),
                    4 => drop(pool.retain(|_, _| one_in(2))),
                    _ => pool
                        .resize(Limits {
                            max_overflow: 0,
                            ..whole
                        })
                        .unwrap(),
                }
                dawdle().await;
                pool.resize(whole).unwrap();
                // Last, so that nothing else makes up for what it forgets.
                pool.resume();
            }
        }
    });
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            spawn(async move {
                if let Some(asked) = ask(&pool).await {
                    hold(asked.unwrap()).await;
                }
            })
        })
        .collect();
    for task in callers.into_iter().chain([operator]) {
        task.await.unwrap();
    }
    is_whole(pool).await;
}

#[test]
fn pauses_sweeps_and_new_limits_at_any_moment_lose_nobody_and_nothing() {
    // Without overflow, no new connection can stand in for one that is forgotten.
    explore(2_000, || operated(config(1, 0)));
    explore(2_000, || operated(config(1, 1)));
}

/// A connect must not wait until a connection is released.
#[test]
fn as_many_as_the_capacity_hold_a_connection_at_once() {
    explore(4_000, || async {
        let one_at_a_time = Config {
            connect_concurrency: 1,
            ..config(2, 1)
        };
        let pool = start(one_at_a_time, Mood::Well);
        let asking: Vec<_> = (0..3).map(|_| spawn(pool.get_owned())).collect();
        let mut held = Vec::new();
        for asked in asking {
            held.push(asked.await.unwrap().unwrap());
        }
        drop(held);
        is_whole(pool).await;
    });
}

#[test]
fn who_joined_first_is_served_first() {
    explore(4_000, || async {
        let pool = start(config(1, 0), Mood::Well);
        // The times before a caller asked, after it joined, and when it was served.
        let turns = Arc::new(Mutex::new(Vec::new()));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (pool, turns) = (pool.clone(), turns.clone());
                spawn(async move {
                    let far = pool.manager();
                    let asked = far.now();
                    let mut asking: Asking = Box::pin(pool.get_owned());
                    let first = poll_once(&mut asking).await;
                    let joined = far.now();
                    let held = match first {
                        Poll::Ready(held) => held,
                        Poll::Pending if one_in(3) => return dawdle().await,
                        Poll::Pending => asking.await,
                    };
                    let mut held = held.unwrap();
                    turns.lock().unwrap().push((asked, joined, far.now()));
                    dawdle().await;
                    if one_in(3) {
                        held.condition = Condition::Dirty;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let turns = std::mem::take(&mut *turns.lock().unwrap());
        for (_, joined, served) in &turns {
            let overtaken = turns.iter().any(|(asked, _, before)| joined < asked && before < served);
            assert!(!overtaken, "a later caller was served earlier");
        }
        is_whole(pool).await;
    });
}

#[test]
fn an_outage_at_any_moment_leaves_a_whole_pool() {
    explore(3_000, || async {
        let pool = start(
            Config {
                min_size: Some(1),
                max_waiters: 2,
                acquire_timeout: Duration::from_secs(3),
                connect_timeout: Duration::from_secs(2),
                check_after: Some(Duration::from_secs(1)),
                max_lifetime: Some(Duration::from_secs(20)),
                idle_timeout: Some(Duration::from_secs(5)),
                ..config(1, 1)
            },
            Mood::Erratic,
        );
        let clock = spawn(pool.manager().clone().run_clock());
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                spawn(async move {
                    for _ in 0..2 {
                        match ask(&pool).await {
                            Some(Ok(held)) => hold(held).await,
                            Some(Err(error)) => assert_ne!(error.reason(), Reason::Closed),
                            None => {}
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        is_whole(pool).await;
        clock.await.unwrap();
    });
}

#[test]
fn a_drain_at_any_moment_refuses_no_caller_that_was_waiting() {
    explore(4_000, || async {
        let pool = start(config(1, 1), Mood::Well);
        // When the first close and the first drain began.
        let began = Arc::new(Mutex::new((u64::MAX, u64::MAX)));
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (pool, began) = (pool.clone(), began.clone());
                spawn(async move {
                    let mut asking: Asking = Box::pin(pool.get_owned());
                    let first = poll_once(&mut asking).await;
                    let joined = pool.manager().now();
                    let asked = match first {
                        Poll::Ready(asked) => asked,
                        Poll::Pending if one_in(4) => return dawdle().await,
                        Poll::Pending => asking.await,
                    };
                    let (closed, drained) = *began.lock().unwrap();
                    match asked {
                        Ok(held) => hold(held).await,
                        Err(error) => {
                            assert_eq!(error.reason(), Reason::Closed);
                            let to_be_served = joined < drained && closed == u64::MAX;
                            assert!(!to_be_served, "was waiting before the drain");
                        }
                    }
                })
            })
            .collect();
        let enders: Vec<_> = (0..2)
            .map(|_| {
                let (pool, began) = (pool.clone(), began.clone());
                spawn(async move {
                    dawdle().await;
                    let closes = one_in(3);
                    {
                        let (now, mut began) = (pool.manager().now(), began.lock().unwrap());
                        let first = if closes { &mut began.0 } else { &mut began.1 };
                        *first = now.min(*first);
                    }
                    match closes {
                        true => pool.close().await,
                        false => pool.drain().await,
                    }
                    is_terminated(&pool);
                })
            })
            .collect();
        for task in callers.into_iter().chain(enders) {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_drain_during_an_outage_ends_when_the_last_waiter_gives_up() {
    explore(4_000, || async {
        let pool = start(config(1, 0), Mood::Down);
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                spawn(async move {
                    let mut asking: Asking = Box::pin(pool.get_owned());
                    drop(poll_once(&mut asking).await);
                    dawdle().await;
                })
            })
            .collect();
        pool.drain().await;
        is_terminated(&pool);
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

/// Without a clock: no caller may need a timeout.
#[test]
fn while_connects_fail_permanently_every_waiter_is_refused_and_none_is_served() {
    explore(4_000, || async {
        let pool = start(config(2, 0), Mood::DownForGood);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                spawn(async move {
                    for _ in 0..2 {
                        match ask(&pool).await {
                            Some(Ok(_)) => panic!("served"),
                            Some(Err(error)) => {
                                assert_eq!(error.reason(), Reason::Permanent);
                                assert!(error.snapshot().last_connect_error.is_some());
                            }
                            None => {}
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        pool.drain().await;
        is_terminated(&pool);
    });
}

/// An open connection can be released, so callers wait for it.
#[test]
fn while_a_connection_is_in_use_callers_wait_for_it_though_connects_fail_permanently() {
    explore(4_000, || async {
        let pool = start(config(2, 0), Mood::Well);
        let held = pool.get_owned().await.unwrap();
        *pool.manager().mood.lock().unwrap() = Mood::DownForGood;
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                spawn(async move {
                    dawdle().await;
                    drop(pool.get().await.unwrap());
                })
            })
            .collect();
        dawdle().await;
        drop(held);
        for caller in callers {
            caller.await.unwrap();
        }
        pool.close().await;
        is_terminated(&pool);
    });
}

#[test]
fn a_pool_whose_last_handle_goes_at_any_moment_leaves_nothing_open() {
    explore(3_000, || async {
        let pool = start(
            Config {
                min_size: Some(1),
                ..config(1, 1)
            },
            Mood::Well,
        );
        let far = pool.manager().clone();
        for _ in 0..2 {
            let pool = pool.clone();
            drop(spawn(async move {
                if let Some(Ok(held)) = ask(&pool).await {
                    drop(pool);
                    hold(held).await;
                }
            }));
        }
        drop(pool);
        // Two handles are left: this one, and the manager's in the pool.
        while Arc::strong_count(&far) > 1 {
            yield_now().await;
        }
        assert_eq!(far.existing.load(SeqCst), 0);
    });
}
