//! The whole protocol keeps its promises. Four searches take longer and run only when asked for:
//! `cargo nextest run -p cenote-cache --test model --run-ignored only`.

use std::time::Instant;

use crate::{rules::Scenario, scenarios, search::explore};

fn keeps_its_promises(scenario: &Scenario) {
    let started = Instant::now();
    let found = explore(scenario);
    println!("{} states, {} deep, {:?}", found.states, found.depth, started.elapsed());
    if let Some((what, trace)) = found.violation {
        panic!("{what}\n{}", trace.join("\n"));
    }
}

#[test]
fn local_reads_see_every_acknowledged_write() {
    keeps_its_promises(&scenarios::LOCAL);
}

#[test]
fn strong_reads_never_go_back_when_redis_loses_cells() {
    keeps_its_promises(&scenarios::LOSS);
}

#[test]
fn strong_reads_never_go_back_when_commands_arrive_late() {
    keeps_its_promises(&scenarios::LOSS_AND_STRAYS);
}

#[test]
fn strong_reads_never_go_back_over_a_delete() {
    keeps_its_promises(&scenarios::DELETION);
}

#[test]
fn strong_reads_never_go_back_when_an_instance_crashes() {
    keeps_its_promises(&scenarios::CRASH);
}

#[test]
fn strong_reads_never_go_back_when_an_instance_is_cut_off() {
    keeps_its_promises(&scenarios::CUT);
}

#[test]
fn strong_reads_never_go_back_when_the_last_commands_of_a_cut_off_instance_arrive_late() {
    keeps_its_promises(&scenarios::CUT_AND_STRAYS);
}

#[test]
fn strong_reads_see_every_acknowledged_write_when_an_instance_is_cut_off_and_redis_loses_cells() {
    keeps_its_promises(&scenarios::CUT_AND_LOSS);
}

#[test]
fn no_two_epochs_are_in_use_at_once() {
    keeps_its_promises(&scenarios::EPOCHS);
}

#[test]
fn strong_reads_never_go_back_when_a_split_brain_cuts_off_the_writer() {
    keeps_its_promises(&scenarios::SPLIT_FROM_WRITER);
}

#[test]
fn strong_reads_never_go_back_when_a_split_brain_cuts_off_a_reader() {
    keeps_its_promises(&scenarios::SPLIT_FROM_READER);
}

#[test]
fn strong_reads_see_every_acknowledged_write_after_a_restart_from_a_snapshot() {
    keeps_its_promises(&scenarios::RESTART);
}

#[test]
fn strong_reads_see_every_acknowledged_write_after_an_outage_of_redis() {
    keeps_its_promises(&scenarios::OUTAGE);
}

#[test]
fn a_commit_that_takes_effect_late_is_seen_once_it_is_acknowledged() {
    keeps_its_promises(&scenarios::LATE);
}

#[test]
fn near_hits_stay_within_the_bound_when_the_tracked_connection_ends() {
    keeps_its_promises(&scenarios::BOUNDED_CUT);
}

#[test]
fn near_hits_stay_within_the_bound_when_redis_loses_cells() {
    keeps_its_promises(&scenarios::BOUNDED_LOSS);
}

#[test]
fn near_hits_stay_within_the_bound_while_the_cell_is_loaded() {
    keeps_its_promises(&scenarios::BOUNDED_FILL);
}

#[test]
fn near_hits_see_the_writes_of_their_own_instance() {
    keeps_its_promises(&scenarios::BOUNDED_OWN);
}

#[test]
fn near_hits_stay_within_the_bound_over_a_split_brain() {
    keeps_its_promises(&scenarios::BOUNDED_SPLIT);
}

#[test]
fn strong_reads_never_go_back_when_instances_are_connected_to_different_databases() {
    keeps_its_promises(&scenarios::DATABASES);
}

#[test]
#[ignore = "millions of states"]
fn strong_reads_see_every_acknowledged_write_when_databases_are_swapped_and_swapped_back() {
    keeps_its_promises(&scenarios::SWAP);
}

#[test]
fn strong_reads_never_go_back_when_databases_are_swapped_under_load() {
    keeps_its_promises(&scenarios::SWAP_UNDER_LOAD);
}

#[test]
fn strong_reads_never_go_back_when_redis_loses_the_proof() {
    keeps_its_promises(&scenarios::FORGET);
}

#[test]
fn strong_reads_see_every_acknowledged_write_when_redis_loses_the_proof_and_an_instance_crashes() {
    keeps_its_promises(&scenarios::FORGET_AND_CRASH);
}

#[test]
fn near_hits_stay_within_the_bound_when_databases_are_swapped() {
    keeps_its_promises(&scenarios::BOUNDED_SWAP);
}

#[test]
fn no_two_epochs_are_in_use_at_once_in_a_fresh_system() {
    keeps_its_promises(&scenarios::FRESH_EPOCHS);
}

#[test]
fn strong_reads_never_go_back_in_a_fresh_system() {
    keeps_its_promises(&scenarios::FRESH);
}

#[test]
#[ignore = "millions of states"]
fn strong_reads_never_go_back_over_a_restart_from_a_snapshot() {
    keeps_its_promises(&scenarios::RESTART_WIDE);
}

#[test]
#[ignore = "millions of states"]
fn strong_reads_never_go_back_over_an_outage_of_redis() {
    keeps_its_promises(&scenarios::OUTAGE_WIDE);
}

#[test]
#[ignore = "millions of states"]
fn strong_reads_never_go_back_over_losses_crashes_and_late_commands() {
    keeps_its_promises(&scenarios::LOSS_WIDE);
}
