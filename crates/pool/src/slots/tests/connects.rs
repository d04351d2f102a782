//! How often a failing server is tried.

use super::*;

#[test]
fn a_failing_server_is_tried_by_one_connect_at_a_time_and_ever_more_rarely() {
    let mut core = Core::new(limits(3, 3, 0), 1);
    let first = core.connects_due();
    assert_eq!(first.len(), 3, "a healthy server gets the full concurrency");
    for slot in first {
        core.connect_failed(slot, failure(false, 1.0), Duration::ZERO, Duration::ZERO);
    }
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let until = core.retry_at().unwrap();
        pauses.push((until - core.now).as_millis());
        core.tick(until);
        let probes = core.connects_due();
        assert_eq!(probes.len(), 1);
        core.connect_failed(probes[0], failure(false, 1.0), Duration::ZERO, until);
    }
    assert_eq!(pauses, [50, 100, 200, 400, 500]);
}
