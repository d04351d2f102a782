//! The number of instructions of one get and return. Unlike times, it does not depend on other load on the machine.
//!
//! Invariant: what is counted is the difference between a short and a long run, so that start and
//! end of the program and of the pool cancel out.

use std::{env, io, process::Command};

use super::{Contender, Crowd, TASKS, alone, warm};

/// Gets of the short run and of the long one; whole rounds of the crowd.
const RUNS: [u64; 2] = [64 * 50, 64 * 350];

/// The first argument that makes this program use one pool and nothing else, for valgrind.
const ARGUMENT: &str = "--only-use";

/// How the pool is used while instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// One task: a connection is always idle.
    One,
    /// The [`Crowd`]: almost every get has to wait.
    Crowd,
}

/// The arguments of such a run.
#[derive(Debug)]
pub struct Counting {
    pool: String,
    users: Users,
    times: u64,
}

impl Counting {
    /// The arguments of this process, if it is such a run.
    pub fn asked() -> Option<Self> {
        let mut arguments = env::args().skip(1);
        (arguments.next()? == ARGUMENT).then_some(())?;
        Some(Self {
            pool: arguments.next()?,
            users: match arguments.next()?.as_str() {
                "one" => Users::One,
                _ => Users::Crowd,
            },
            times: arguments.next()?.parse().ok()?,
        })
    }

    /// Uses this pool, on a runtime of one thread, if it is the one that was asked for.
    ///
    /// # Errors
    ///
    /// The runtime cannot be started.
    pub fn run<P: Contender>(&self) -> io::Result<()> {
        if self.pool != P::NAME {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let pool: P = warm().await;
            match self.users {
                Users::One => alone(&pool, self.times).await,
                Users::Crowd => {
                    Crowd::run(&pool, self.times as usize / TASKS).await;
                }
            }
        });
        Ok(())
    }
}

/// The number of instructions of one get and return, counted by valgrind's callgrind; `None` if valgrind is not
/// installed.
///
/// # Errors
///
/// This program cannot be started again, or the output of valgrind has no count.
pub fn per_use<P: Contender>(users: Users) -> io::Result<Option<u64>> {
    let users = match users {
        Users::One => "one",
        Users::Crowd => "crowd",
    };
    let mut counts = [0; 2];
    for (count, times) in counts.iter_mut().zip(RUNS) {
        let run = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe()?)
            .args([ARGUMENT, P::NAME, users, &times.to_string()])
            .output();
        let report = match run {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            run => run?.stderr,
        };
        *count =
            collected(&String::from_utf8_lossy(&report)).ok_or_else(|| io::Error::other("valgrind counted nothing"))?;
    }
    Ok(Some((counts[1] - counts[0]) / (RUNS[1] - RUNS[0])))
}

/// The number in callgrind's line `==1== Collected : 12345`.
fn collected(report: &str) -> Option<u64> {
    let (_, after) = report.split_once("Collected :")?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_read_from_callgrinds_report() {
        let report = "==9== Events    : Ir\n==9== Collected : 6321\n==9== \n";
        assert_eq!(collected(report), Some(6321));
        assert_eq!(collected("valgrind: not this time"), None);
    }
}
