//! Each rule is needed: without it the search finds a counter-example, which the test prints. Each documented limit of
//! the promises is real: the search finds an example of it.

use crate::{
    rules::{Rule, Scenario},
    scenarios,
    search::explore,
    state::{
        Cell, Faults,
        Property::{self, GoingBack, ReadAfterWrite, Staleness, TwoEpochs},
    },
};

fn breaks(scenario: &Scenario, property: Property) {
    let found = explore(scenario);
    println!("{} states, {} deep", found.states, found.depth);
    let Some((what, trace)) = found.violation else {
        panic!("no counter-example");
    };
    println!("{}\n{what}", trace.join("\n"));
    assert_eq!(what, format!("{property:?}"));
}

fn without(rule: Rule, scenario: Scenario) -> Scenario {
    Scenario {
        without: Some(rule),
        ..scenario
    }
}

#[test]
fn it_breaks_if_anyone_may_fill_a_lease() {
    breaks(&without(Rule::LeaseToken, scenarios::LOSS), ReadAfterWrite);
}

#[test]
fn it_breaks_if_a_write_sets_no_fence() {
    breaks(&without(Rule::Fence, scenarios::CUT), GoingBack);
}

#[test]
fn it_breaks_if_a_fence_expires_before_its_statement_ends() {
    breaks(&without(Rule::FenceOutlastsStatement, scenarios::CUT), GoingBack);
}

#[test]
fn it_breaks_if_a_write_is_acknowledged_before_its_release() {
    breaks(
        &without(Rule::ReleaseBeforeAcknowledgement, scenarios::LOSS),
        ReadAfterWrite,
    );
}

#[test]
fn it_breaks_if_a_fence_names_only_its_last_writer() {
    breaks(&without(Rule::IdsNotLast, scenarios::CUT), GoingBack);
}

#[test]
fn it_breaks_if_a_fence_counts_its_writers() {
    breaks(&without(Rule::IdsNotCounter, scenarios::CUT_AND_STRAYS), GoingBack);
}

#[test]
fn it_breaks_if_a_read_that_is_not_stored_does_not_seal() {
    breaks(&without(Rule::Seal, scenarios::LOSS), GoingBack);
}

#[test]
fn it_breaks_if_a_flight_is_shared_after_a_failed_fill() {
    breaks(&without(Rule::ShareOnlyFilled, scenarios::LOSS), ReadAfterWrite);
}

#[test]
fn it_breaks_if_a_late_commit_is_released_in_an_ended_epoch() {
    breaks(&without(Rule::ReleaseUnderView, scenarios::LATE), ReadAfterWrite);
}

#[test]
fn it_breaks_if_an_epoch_is_used_at_once() {
    breaks(&without(Rule::EpochWaits, scenarios::EPOCHS), TwoEpochs);
}

#[test]
fn it_breaks_if_an_epoch_counts_from_when_it_was_written() {
    breaks(&without(Rule::KnownSinceSeen, scenarios::EPOCHS), TwoEpochs);
}

#[test]
fn it_breaks_if_a_poll_counts_from_its_answer() {
    breaks(&without(Rule::PollBySending, scenarios::EPOCHS), TwoEpochs);
}

#[test]
fn it_breaks_if_recovery_reuses_the_previous_epoch() {
    breaks(&without(Rule::NewEpochOnRecovery, scenarios::OUTAGE), ReadAfterWrite);
}

#[test]
fn it_breaks_if_a_statement_outlives_its_view() {
    breaks(
        &without(Rule::StatementWithinView, scenarios::SPLIT_FROM_WRITER),
        GoingBack,
    );
}

#[test]
fn it_breaks_if_a_proof_does_not_name_its_run() {
    breaks(&without(Rule::ProofNamesRun, scenarios::RESTART), ReadAfterWrite);
}

#[test]
fn it_breaks_if_any_database_of_the_trusted_run_is_trusted() {
    breaks(&without(Rule::Keyspace, scenarios::DATABASES), ReadAfterWrite);
}

#[test]
fn it_breaks_if_the_proof_is_asked_for_only_when_connecting() {
    breaks(
        &without(Rule::ProofInCommand, scenarios::SWAP_UNDER_LOAD),
        ReadAfterWrite,
    );
}

#[test]
fn it_breaks_if_a_missing_proof_is_always_put_back() {
    breaks(
        &without(Rule::ProofPutBackIfUnswapped, scenarios::SWAP_UNDER_LOAD),
        ReadAfterWrite,
    );
}

#[test]
fn it_breaks_if_an_undecided_row_is_acted_on() {
    breaks(&without(Rule::UndecidedWaits, scenarios::FRESH_EPOCHS), TwoEpochs);
}

#[test]
fn it_breaks_if_local_reads_keep_values_invalidated_during_the_load() {
    breaks(&without(Rule::Generation, scenarios::LOCAL), ReadAfterWrite);
}

#[test]
fn it_breaks_if_local_writes_do_not_drop_the_kept_value() {
    breaks(&without(Rule::DropOwn, scenarios::LOCAL), ReadAfterWrite);
}

#[test]
fn it_breaks_if_near_hits_keep_values_invalidated_during_the_load() {
    breaks(&without(Rule::Generation, scenarios::BOUNDED_CUT), Staleness);
}

#[test]
fn it_breaks_if_a_write_leaves_its_own_near_entry() {
    breaks(&without(Rule::DropOwn, scenarios::BOUNDED_OWN), Staleness);
}

#[test]
fn it_breaks_if_a_nil_push_is_ignored() {
    breaks(&without(Rule::NilPush, scenarios::BOUNDED_LOSS), Staleness);
}

#[test]
fn it_breaks_if_near_entries_outlive_their_connection() {
    breaks(&without(Rule::DropOnDisconnect, scenarios::BOUNDED_CUT), Staleness);
}

#[test]
fn it_breaks_if_a_ping_counts_from_its_answer() {
    breaks(&without(Rule::PingBySending, scenarios::BOUNDED_CUT), Staleness);
}

#[test]
fn it_breaks_if_the_clock_tick_is_not_subtracted() {
    breaks(&without(Rule::ClockTick, scenarios::BOUNDED_CUT), Staleness);
}

#[test]
fn it_breaks_if_invalidations_are_broadcast() {
    breaks(&without(Rule::NoBroadcast, scenarios::BOUNDED_CUT), Staleness);
}

#[test]
fn it_breaks_if_a_filled_value_is_kept_as_a_near_value() {
    breaks(&without(Rule::TrackedReply, scenarios::BOUNDED_FILL), Staleness);
}

#[test]
fn it_breaks_if_near_hits_need_no_view() {
    breaks(&without(Rule::NearUnderView, scenarios::BOUNDED_SPLIT), Staleness);
}

/// The documented limit: an instance that is cut off from Redis cannot seal, and at the same time the fence is lost.
#[test]
fn reads_may_go_back_when_an_instance_is_cut_off_and_redis_loses_a_fence() {
    let strong = scenarios::LOSS.holds;
    breaks(
        &Scenario {
            holds: strong,
            ..scenarios::CUT_AND_LOSS
        },
        GoingBack,
    );
}

/// An instance without a view cannot seal either.
#[test]
fn reads_may_go_back_when_a_view_runs_out_and_redis_loses_a_fence() {
    breaks(
        &Scenario {
            faults: Faults {
                cut: 0,
                evict: 1,
                ..scenarios::OUTAGE.faults
            },
            calls: scenarios::SPLIT_FROM_WRITER.calls,
            start: Cell::Empty,
            holds: scenarios::LOSS.holds,
            ..scenarios::OUTAGE
        },
        GoingBack,
    );
}

/// A commit after its deadline has the effect of a lost fence.
#[test]
fn reads_may_go_back_when_a_commit_takes_effect_late() {
    let calls = scenarios::SPLIT_FROM_WRITER.calls;
    let holds = scenarios::LOSS.holds;
    breaks(
        &Scenario {
            calls,
            holds,
            polls: [false, true],
            ..scenarios::LATE
        },
        GoingBack,
    );
}
