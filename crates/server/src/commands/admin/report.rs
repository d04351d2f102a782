//! Shows in words what a service answered.

use serde::Deserialize;

use super::arguments::Action;
use crate::{admin::AdminState, output::Output};

/// The answer to a reload: names of settings.
#[derive(Debug, Deserialize)]
struct Reloaded {
    applied: Vec<String>,
    needs_restart: Vec<String>,
}

/// Writes what was done, and the state after it.
///
/// # Errors
///
/// The answer is not that of the action.
pub(super) fn show(action: &Action, answer: &[u8], output: &mut Output) -> Result<(), serde_json::Error> {
    if *action == Action::Reload {
        reloaded(&serde_json::from_slice(answer)?, output);
        return Ok(());
    }
    let state: AdminState = serde_json::from_slice(answer)?;
    if *action == Action::Flush {
        // The state does not show it.
        output.line("everything that was cached is dropped, on all instances");
    }
    show_state(&state, output);
    Ok(())
}

fn show_state(state: &AdminState, output: &mut Output) {
    let AdminState {
        paused,
        resumes_in_s,
        in_use,
        min,
        max,
        overflow,
        hosts,
        log,
    } = state;
    let pause = match (paused, resumes_in_s) {
        (false, _) => "running".to_owned(),
        (true, Some(left)) => format!("paused, resumes by itself in {left:.1} s"),
        (true, None) => "paused".to_owned(),
    };
    output.line(format_args!(
        "pool  {pause}; {in_use} in use; min {min}, max {max}, overflow {overflow}"
    ));
    for host in hosts {
        let use_ = if host.drained { "out of use" } else { "in use" };
        output.line(format_args!("host  {}, {use_}", host.host));
    }
    output.line(format_args!("log   {log}"));
}

fn reloaded(Reloaded { applied, needs_restart }: &Reloaded, output: &mut Output) {
    if applied.is_empty() && needs_restart.is_empty() {
        output.line("no setting has changed");
    }
    if !applied.is_empty() {
        output.line(format_args!("applied: {}", applied.join(", ")));
    }
    if !needs_restart.is_empty() {
        output.line(format_args!(
            "changed, but needs a restart: {}",
            needs_restart.join(", ")
        ));
    }
}
