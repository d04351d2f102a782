//! Where a pool's tasks run, and what becomes of it when a runtime ends or nobody runs it any more.
//!
//! Connections live on the pool's *homes*; connects, and what else takes time, runs there or where the housekeeper is. A
//! pool may outlive any of these: a `static` one is made in one `#[tokio::test]` and used in the next. So each home
//! has a sentinel, a task whose end is that of its runtime, and the housekeeper tells of its own end likewise. A
//! runtime that lives but is not run says nothing: whoever waits elsewhere asks it for a sign of life, see [`vigil`].
//!
//! Invariant: whoever waits for the pool is on the runtime that keeps house, and ends with it, or keeps a vigil.
//!
//! Nothing is spawned or dropped under the lock: either may come back here.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{
    Manager,
    holder::HomeId,
    housekeeper::keep_house,
    lifecycle::Shared,
    runtime::{Handle, Instant, MutexGuard, is_cut_off, sleep_until},
    slots::Live,
};

/// How long a runtime has to give a sign of life, and how long is waited before it is asked for one.
const LOOK: Duration = Duration::from_secs(1);

/// How long the close of a connection is waited for whose runtime is gone: it cannot be closed in good order.
const LOST: Duration = Duration::from_millis(50);

/// The runtimes of a pool.
pub(crate) struct House {
    /// Where the housekeeper is; `None` if it ended with its runtime.
    keeper: Option<Handle>,
    /// How often the housekeeper has moved in: tells the present one from those before.
    moves: u64,
    /// A housekeeper is moving in, and may find that the runtime has ended.
    moving: bool,
    homes: Box<[Home]>,
    /// When the runtime of the housekeeper was last asked for a sign of life by someone who did not wait.
    asked: Duration,
}

/// One of the runtimes on which connections live.
struct Home {
    runtime: Handle,
    /// Ends the sentinel; `None` if the runtime has ended, or was given up.
    sentinel: Option<oneshot::Sender<()>>,
    /// How many sentinels there have been.
    moves: u64,
    /// A sentinel is moving in, and may find that the runtime has ended.
    moving: bool,
}

impl House {
    pub(crate) fn new(homes: Vec<Handle>) -> Self {
        let home = |runtime| Home {
            runtime,
            sentinel: None,
            moves: 0,
            moving: false,
        };
        Self {
            keeper: None,
            moves: 0,
            moving: false,
            homes: homes.into_iter().map(home).collect(),
            asked: Duration::ZERO,
        }
    }

    fn living_homes(&self) -> Vec<Handle> {
        let living = self.homes.iter().filter(|home| home.sentinel.is_some());
        living.map(|home| home.runtime.clone()).collect()
    }
}

impl<M: Manager> Shared<M> {
    fn house(&self) -> MutexGuard<'_, House> {
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn homes(&self) -> usize {
        self.house().homes.len()
    }

    /// Takes the pool's runtimes into use.
    pub(crate) fn move_in(self: &Arc<Self>) {
        let here = Handle::current();
        self.core().keep_on(Some(here.id()));
        self.keep_house_on(here);
        for home in 0..self.homes() {
            let runtime = self.house().homes[home].runtime.clone();
            self.live_on(home, runtime);
        }
    }

    /// Whether this is the housekeeper that moved in last.
    pub(crate) fn is_kept_by(&self, moves: u64) -> bool {
        self.house().moves == moves
    }

    /// The runtime that keeps house: if it has ended, another of the pool's, or else the current one, from now on.
    /// `None` if all have ended.
    pub(crate) fn household(self: &Arc<Self>) -> Option<Handle> {
        let here = Handle::try_current().ok();
        let mut house = self.house();
        if let Some(keeper) = &house.keeper {
            let keeper = keeper.clone();
            let now = self.now();
            let elsewhere = here.filter(|here| here.id() != keeper.id());
            if let Some(here) = elsewhere
                && now >= house.asked
            {
                // Nobody may be waiting for what is to be done there, and so find out that nobody does it.
                house.asked = now.saturating_add(LOOK * 4);
                drop(house);
                let deadline = now.saturating_add(LOOK * 3);
                here.spawn(vigil(Arc::downgrade(self), Some(deadline)));
            }
            return Some(keeper);
        }
        let living = house.living_homes();
        drop(house);
        let mut candidates = living.into_iter().chain(here);
        candidates.find(|runtime| self.keep_house_on(runtime.clone()))
    }

    /// Starts the housekeeper, if there is none; false if that runtime has ended.
    fn keep_house_on(self: &Arc<Self>, runtime: Handle) -> bool {
        let mut house = self.house();
        if house.keeper.is_some() {
            return true;
        }
        house.moves += 1;
        house.keeper = Some(runtime.clone());
        house.moving = true;
        let moves = house.moves;
        drop(house);
        if moves > 1 {
            self.core().keep_on(None);
        }
        let keeping = Keeping {
            pool: Arc::downgrade(self),
            moves,
        };
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(listen(Arc::downgrade(self), stopped));
        runtime.spawn(keep_house(keeping, self.poke.clone(), stop));
        let mut house = self.house();
        house.moving = false;
        house.keeper.is_some()
    }

    /// Where the connection of a slot is to be opened; `None` if all runtimes have ended.
    pub(crate) fn runtime_of(self: &Arc<Self>, home: HomeId) -> Option<Handle> {
        {
            let home = &self.house().homes[home];
            if home.sentinel.is_some() {
                return Some(home.runtime.clone());
            }
        }
        let keeper = self.household();
        let living = self.house().living_homes();
        let here = Handle::try_current().ok();
        let mut candidates = keeper.into_iter().chain(living).chain(here);
        candidates.find_map(|runtime| self.live_on(home, runtime))
    }

    /// Has the connections of a home live on this runtime, unless it has ended.
    fn live_on(self: &Arc<Self>, home: HomeId, runtime: Handle) -> Option<Handle> {
        let (stop, stopped) = oneshot::channel();
        let moves = {
            let home = &mut self.house().homes[home];
            if home.sentinel.is_some() {
                return Some(home.runtime.clone());
            }
            home.runtime = runtime.clone();
            home.sentinel = Some(stop);
            home.moves += 1;
            home.moving = true;
            home.moves
        };
        let sentinel = Sentinel {
            pool: Arc::downgrade(self),
            home,
            moves,
        };
        runtime.spawn(async move {
            let _sentinel = sentinel;
            let _stopped = stopped.await;
        });
        let home = &mut self.house().homes[home];
        home.moving = false;
        home.sentinel.is_some().then_some(runtime)
    }

    /// The runtime of a home has ended, and with it what its connections need.
    fn home_ended(self: &Arc<Self>, home: HomeId, moves: u64) {
        let (stop, moving) = {
            let home = &mut self.house().homes[home];
            if home.moves != moves {
                return;
            }
            (home.sentinel.take(), home.moving)
        };
        drop(stop);
        if moving {
            // Nothing lives there yet, and whoever had it move in goes on searching.
            return;
        }
        let now = self.now();
        let (idle, error) = self.core().lose(home, now);
        drop(error);
        self.close_lost(idle);
        self.connect_what_is_due();
    }

    /// Moves from a runtime that nobody runs to the current one, unless that has been done.
    fn take_over(self: &Arc<Self>, moves: u64) {
        let Ok(here) = Handle::try_current() else {
            return;
        };
        let mut lost = Vec::new();
        let _keeper = {
            let mut house = self.house();
            if house.moves != moves {
                return;
            }
            let elsewhere = |keeper: &mut Handle| keeper.id() != here.id();
            let Some(keeper) = house.keeper.take_if(elsewhere) else {
                return;
            };
            for (home, at) in house.homes.iter_mut().enumerate() {
                if at.runtime.id() == keeper.id() {
                    lost.push((home, at.sentinel.take()));
                }
            }
            keeper
        };
        tracing::warn!("the runtime on which the pool was made is not being run; the pool goes on on that of a caller");
        let now = self.now();
        self.core().abandon_tasks();
        for (home, sentinel) in lost {
            drop(sentinel);
            let (idle, error) = {
                let mut core = self.core();
                core.abandon_connects(home);
                core.lose(home, now)
            };
            drop(error);
            self.close_lost(idle);
        }
        self.keep_house_on(here);
        self.connect_what_is_due();
    }

    fn close_lost(self: &Arc<Self>, lost: Vec<Live<M::Connection>>) {
        for live in lost {
            self.close_one_lost(live);
        }
    }

    /// Closes a connection whose runtime has ended or is not run.
    pub(crate) fn close_one_lost(self: &Arc<Self>, live: Live<M::Connection>) {
        self.close_within(live, LOST.min(self.config.close_timeout));
    }

    /// Whether a caller that waits on the current runtime has to keep a [`vigil`].
    pub(crate) fn needs_vigil(&self) -> bool {
        let here = Handle::try_current();
        here.is_ok_and(|here| !self.core().is_kept_on(here.id()))
    }

    /// Looks whether someone keeps house. `asked` is from the look before; `stood`: the current runtime was not run in
    /// between, as when the process was stopped, which says nothing about the other.
    fn look(self: &Arc<Self>, asked: Option<Asked>, stood: bool) -> Option<Asked> {
        if let Some(mut asked) = asked
            && matches!(asked.answer.try_recv(), Err(TryRecvError::Empty))
        {
            if stood && !asked.spared {
                asked.spared = true;
                return Some(asked);
            }
            self.take_over(asked.moves);
        }
        let keeper = self.household()?;
        if Handle::try_current().is_ok_and(|here| here.id() == keeper.id()) {
            return None;
        }
        let moves = self.house().moves;
        let (alive, answer) = oneshot::channel();
        keeper.spawn(async move {
            let _nobody_asks = alive.send(());
        });
        Some(Asked {
            moves,
            answer,
            spared: false,
        })
    }
}

/// A question for a sign of life.
struct Asked {
    /// Which housekeeper's runtime was asked.
    moves: u64,
    answer: oneshot::Receiver<()>,
    /// It was given more time once, as the runtime of whoever asked was not run either.
    spared: bool,
}

/// Looks after the housekeeper for someone who waits on another runtime, and takes over from one that has ended or is
/// not run. Completes at the deadline, by the pool's clock: the wait is over then, whoever should have said so.
pub(crate) async fn vigil<M: Manager>(pool: Weak<Shared<M>>, deadline: Option<Duration>) {
    let mut asked = None;
    loop {
        let pause = {
            let Some(shared) = pool.upgrade() else { return };
            let now = shared.now();
            match deadline {
                Some(deadline) if deadline <= now => return,
                Some(deadline) => LOOK.min(deadline - now),
                None => LOOK,
            }
        };
        let before = Instant::now();
        sleep_until(before + pause).await;
        let Some(shared) = pool.upgrade() else { return };
        if pause == LOOK {
            asked = shared.look(asked, before.elapsed() > LOOK * 2);
        }
    }
}

/// The housekeeper; its end is noticed.
pub(crate) struct Keeping<M: Manager> {
    pub(crate) pool: Weak<Shared<M>>,
    pub(crate) moves: u64,
}

impl<M: Manager> Drop for Keeping<M> {
    fn drop(&mut self) {
        let Some(shared) = self.pool.upgrade().filter(|_| !is_cut_off()) else {
            return;
        };
        let mut house = shared.house();
        if house.moves != self.moves {
            return;
        }
        let _ended = house.keeper.take();
        let others = match house.moving {
            // Whoever had it move in goes on searching.
            true => Vec::new(),
            false => house.living_homes(),
        };
        drop(house);
        shared.core().keep_on(None);
        // Not on the current runtime, which is the one that ends. If there is no other, the next caller finds out.
        others.into_iter().find(|runtime| shared.keep_house_on(runtime.clone()));
    }
}

/// Lives on a home until that ends.
struct Sentinel<M: Manager> {
    pool: Weak<Shared<M>>,
    home: HomeId,
    moves: u64,
}

impl<M: Manager> Drop for Sentinel<M> {
    fn drop(&mut self) {
        if let Some(shared) = self.pool.upgrade()
            && !is_cut_off()
        {
            shared.home_ended(self.home, self.moves);
        }
    }
}

/// Has idle connections looked at whenever the manager has news of them.
async fn listen<M: Manager>(pool: Weak<Shared<M>>, stopped: oneshot::Receiver<()>) {
    let listening = async {
        while let Some(shared) = pool.upgrade() {
            let news = shared.manager.news();
            drop(shared);
            news.await;
            let Some(shared) = pool.upgrade() else { return };
            shared.sweep();
        }
    };
    tokio::select! {
        biased;
        _ = stopped => {}
        () = listening => {}
    }
}
