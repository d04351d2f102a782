//! Instances, a Redis and the network between them in simulated time: whatever arrives late or gets lost, the limit holds.
//!
//! Invariant: the instances are the real table and the real terms; only the script is written once more.

use proptest::prelude::*;

use super::script::Charge;
use crate::limits::caller::Caller;
use crate::limits::gcra::Rate;
use crate::limits::policy::{Lease, Policy, Window};
use crate::limits::table::{Decision, Outcome, ReportEnd, Table, Terms};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const CALLER: u64 = 8;

#[derive(Debug)]
struct World {
    window: Window,
    rate: Rate,
    lease: Lease,
    now: u64,
    instances: Vec<Table>,
    /// The bucket of all, in microseconds.
    tat: u64,
    flights: Vec<Flight>,
    /// When requests were admitted.
    admitted: Vec<u64>,
    random: fastrand::Rng,
    /// How often a report is lost, of a hundred.
    losses: u32,
}

/// A report, or its answer.
#[derive(Debug)]
struct Flight {
    instance: usize,
    sent: u64,
    arrival: u64,
    hop: Hop,
}

#[derive(Debug)]
enum Hop {
    ToRedis { arguments: [u64; 4] },
    ToNowhere,
    Back(ReportEnd),
}

impl World {
    fn new(policy: &str, instances: usize, seed: u64, losses: u32) -> Self {
        let policy: Policy = policy.parse().unwrap();
        let window = policy.windows()[0];
        Self {
            window,
            rate: Rate::new(window.interval(), window.burst()),
            lease: window.lease(instances as u32),
            now: SECOND,
            instances: (0..instances).map(|_| Table::new(64)).collect(),
            tat: 0,
            flights: Vec::new(),
            admitted: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            losses,
        }
    }

    fn count(&self) -> u32 {
        self.instances.len() as u32
    }

    fn request(&mut self, instance: usize) -> bool {
        let terms = Terms {
            rates: &[self.rate],
            leases: &[self.lease],
        };
        let decision = self.instances[instance].charge(CALLER, terms, self.now);
        if decision.due[0] > 0 {
            self.report(instance, &decision);
        }
        let is_admitted = decision.outcome == Outcome::Admitted;
        if is_admitted {
            self.admitted.push(self.now);
        }
        is_admitted
    }

    fn report(&mut self, instance: usize, decision: &Decision) {
        let caller = Caller::Identity(CALLER);
        let (count, ahead) = (decision.due[0], decision.ahead[0]);
        let arguments = Charge::new("read", self.window, caller, count, ahead, self.count()).arguments;
        let hop = match self.is_lost() {
            true => Hop::ToNowhere,
            false => Hop::ToRedis { arguments },
        };
        self.fly(instance, self.now, hop);
    }

    fn is_lost(&mut self) -> bool {
        self.random.u32(0..100) < self.losses
    }

    fn fly(&mut self, instance: usize, sent: u64, hop: Hop) {
        let arrival = self.now + self.random.u64(0..25 * MILLISECOND);
        self.flights.push(Flight {
            instance,
            sent,
            arrival,
            hop,
        });
    }

    /// Lets time pass. What arrives meanwhile arrives in order.
    fn pass(&mut self, time: u64) {
        let end = self.now + time;
        while let Some(next) = (0..self.flights.len()).min_by_key(|at| self.flights[*at].arrival) {
            if self.flights[next].arrival > end {
                break;
            }
            let Flight {
                instance,
                sent,
                arrival,
                hop,
            } = self.flights.swap_remove(next);
            self.now = arrival;
            match hop {
                Hop::ToRedis { arguments } => {
                    let ahead = self.charge_redis(arguments) * 1000;
                    let end = match self.is_lost() {
                        true => ReportEnd::Lost,
                        false => ReportEnd::Known { ahead },
                    };
                    self.fly(instance, sent, Hop::Back(end));
                }
                Hop::ToNowhere => self.fly(instance, sent, Hop::Back(ReportEnd::Lost)),
                Hop::Back(end) => {
                    self.instances[instance].settle(CALLER, 0, self.rate.interval, end, sent);
                }
            }
        }
        self.now = end;
    }

    /// What the script does.
    fn charge_redis(&mut self, [cost, ahead, most_ahead, _]: [u64; 4]) -> u64 {
        let now = self.now / 1000;
        self.tat = (self.tat.min(now + most_ahead) + cost).max(now + ahead);
        self.tat - now
    }

    /// By how many requests the worst time span exceeds the quota and the burst.
    fn excess(&self) -> u64 {
        // As in a bucket that admits everything: its lead is the worst sum of what came minus what may come.
        let (mut tat, mut most) = (0, 0);
        for at in &self.admitted {
            tat = at.max(&tat) + self.rate.interval;
            most = most.max((tat - at).saturating_sub(self.rate.tolerance));
        }
        most.div_ceil(self.rate.interval)
    }

    /// A lease of each instance, and what the quota gives in the longest round trip.
    fn most_excess(&self) -> u64 {
        u64::from(self.count() * self.lease.most) + (50 * MILLISECOND).div_ceil(self.rate.interval)
    }
}

fn world() -> impl Strategy<Value = World> {
    let losses = prop_oneof![Just(0), Just(0), 0..100_u32];
    let policy = (1..2000_u32, prop_oneof!["s", "min"], 1..100_u32);
    let policy = policy.prop_map(|(quota, unit, burst)| format!("{quota}/{unit} burst={burst}"));
    (policy, 1..6_usize, any::<u64>(), losses)
        .prop_map(|(policy, instances, seed, losses)| World::new(&policy, instances, seed, losses))
}

proptest! {
    /// Bursts, pauses of any length, and now and then a caller that asks all instances as fast as it can.
    #[test]
    fn whatever_a_caller_does_the_instances_admit_at_most_a_lease_each_beyond_the_limit(mut world in world()) {
        let mut is_greedy = false;
        for _ in 0..300 {
            if world.random.u32(0..20) == 0 {
                is_greedy = !is_greedy;
            }
            let (interval, lease) = (world.rate.interval, world.lease.most);
            let pause = match world.random.u32(0..4) {
                _ if is_greedy => world.random.u64(0..interval.div_ceil(2)),
                0 => 0,
                1 => world.random.u64(0..interval * u64::from(lease)),
                _ => world.random.u64(0..30 * MILLISECOND),
            };
            world.pass(pause);
            for instance in 0..world.instances.len() {
                if is_greedy {
                    while world.request(instance) {}
                } else if world.random.bool() {
                    let requests = world.random.u32(0..2 * lease + 4);
                    (0..requests).for_each(|_| _ = world.request(instance));
                }
            }
        }
        let (excess, most) = (world.excess(), world.most_excess());
        prop_assert!(excess <= most, "{excess} beyond {:?}; at most {most}", world.window);
    }
}

/// Two minutes of requests to all instances, far more than the limit allows.
fn admitted_in_two_minutes(policy: &str, instances: usize, losses: u32) -> f64 {
    let mut world = World::new(policy, instances, 7, losses);
    let end = world.now + 120 * SECOND;
    while world.now < end {
        for instance in 0..instances {
            world.request(instance);
        }
        world.pass(5 * MILLISECOND);
    }
    world.admitted.len() as f64
}

#[test]
fn in_the_long_run_the_instances_admit_the_quota_even_if_every_other_report_is_lost() {
    for (policy, quota) in [
        ("50/s burst=5", 6_000.0),
        ("600/min", 1_200.0),
        ("60/min burst=1", 120.0),
    ] {
        for instances in [1, 3, 5] {
            let admitted = admitted_in_two_minutes(policy, instances, 0);
            assert!(
                (quota * 0.9..quota * 1.1).contains(&admitted),
                "{admitted} of {policy}, {instances}"
            );
            let admitted = admitted_in_two_minutes(policy, instances, 50);
            assert!(
                (quota * 0.3..quota * 1.1).contains(&admitted),
                "{admitted} of {policy}, {instances}"
            );
        }
    }
}

/// A caller that stays within its limit is never refused, however its requests are spread.
#[test]
fn a_caller_within_its_limit_is_not_refused() {
    for policy in [
        "100000/d burst=10",
        "6000/min burst=600",
        "6000/min burst=10",
        "60/min burst=5",
        "60/min burst=4",
        "60/min burst=3",
        "60/min burst=2",
        "60/min burst=1",
    ] {
        for instances in [1, 3, 5] {
            let mut world = World::new(policy, instances, 3, 0);
            let pause = world.rate.interval * 11 / 10 + 50 * MILLISECOND;
            for request in 0..5_000_u32 {
                let instance = match request / 1_000 % 2 {
                    0 => 0,
                    _ => request as usize % instances,
                };
                assert!(world.request(instance), "{request} of {policy}, {instances}");
                world.pass(pause);
            }
        }
    }
}
