//! The current problem with Redis, and the log lines about it. Invariant: a problem is logged once, and again only after Redis
//! was reached in between.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::redis::problem::RedisProblem;

/// The most problems that are remembered as logged. A server that fails in turns shows two or three.
const MOST: usize = 8;

#[derive(Default)]
pub(crate) struct RedisReports(Mutex<Reports>);

/// Locked for a few instructions, never across an await.
#[derive(Default)]
struct Reports {
    /// The newest problem; `None` while there is a session.
    problem: Option<RedisProblem>,
    /// What has been logged since the last session.
    logged: Vec<RedisProblem>,
}

impl RedisReports {
    /// Notes that there is no session.
    pub(crate) fn failed(&self, problem: RedisProblem) {
        let mut reports = self.lock();
        let is_new = !reports.logged.contains(&problem);
        if is_new {
            reports.logged.truncate(MOST - 1);
            reports.logged.push(problem.clone());
        }
        reports.problem = Some(problem.clone());
        drop(reports);
        if is_new {
            tracing::warn!("Redis is not used; reads and writes go to the database: {problem}");
        } else {
            tracing::debug!(%problem, "still no connection to Redis");
        }
    }

    /// Notes that there is a session.
    pub(crate) fn connected(&self) {
        let mut reports = self.lock();
        reports.problem = None;
        reports.logged.clear();
        drop(reports);
        tracing::info!("connected to Redis");
    }

    pub(crate) fn problem(&self) -> Option<RedisProblem> {
        self.lock().problem.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
