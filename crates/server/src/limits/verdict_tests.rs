use axum::http::header::RETRY_AFTER;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn verdict(limit: &Limit, ahead: [u64; MOST_WINDOWS], is_refused: bool) -> Verdict<'_> {
    let style = HeaderStyle {
        on: HeadersOn::All,
        legacy: true,
    };
    let mut refused_by = Windows::default();
    let windows = limit.rates.iter().enumerate().filter(|_| is_refused);
    for (window, _) in windows.filter(|(window, rate)| !rate.admits(ahead[*window])) {
        refused_by.insert(window);
    }
    Verdict {
        limit,
        parts: 1,
        ahead,
        refused_by,
        style,
    }
}

fn limit(policy: &str) -> Limit {
    Limit::new("search", policy.parse().unwrap())
}

fn headers(verdict: &Verdict<'_>) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    verdict.headers().add_to(&mut headers);
    let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    headers.iter().map(text).collect()
}

fn header(verdict: &Verdict<'_>, name: &str) -> String {
    let all = headers(verdict);
    all.into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn headers_tell_the_policy_and_what_is_left_of_each_window() {
    let one = limit("100/min");
    let full = verdict(&one, [0; MOST_WINDOWS], false);
    assert_eq!(
        header(&full, "ratelimit-policy"),
        "\"search\";q=100;w=60;cenote-burst=10"
    );
    assert_eq!(header(&full, "ratelimit"), "\"search\";r=10");
    let spent = verdict(&one, [SECOND / 10 * 6, 0, 0, 0], false);
    assert_eq!(header(&spent, "ratelimit"), "\"search\";r=9;t=1");
    let two = limit("100/s burst=5, 5000/h burst=1000");
    let spent = verdict(&two, [SECOND / 100 * 5, 720 * SECOND - 1, 0, 0], false);
    assert_eq!(
        header(&spent, "ratelimit-policy"),
        "\"search-s\";q=100;w=1;cenote-burst=5, \"search-h\";q=5000;w=3600;cenote-burst=1000"
    );
    assert_eq!(
        header(&spent, "ratelimit"),
        "\"search-s\";r=0;t=1, \"search-h\";r=0;t=1"
    );
    assert_eq!(header(&spent, "x-ratelimit-limit"), "100");
    assert_eq!(header(&spent, "x-ratelimit-remaining"), "0");
    assert_eq!(header(&spent, "x-ratelimit-reset"), "1");
}

#[test]
fn while_instances_do_not_know_of_each_other_headers_tell_the_part_of_each() {
    let limit = limit("60/min burst=6");
    let alone = Verdict {
        parts: 3,
        ..verdict(&limit, [SECOND, 0, 0, 0], false)
    };
    assert_eq!(header(&alone, "ratelimit"), "\"search\";r=1;t=1");
    let full = Verdict {
        ahead: [0; MOST_WINDOWS],
        ..alone
    };
    assert_eq!(header(&full, "ratelimit"), "\"search\";r=2");
}

#[test]
fn a_caller_refused_until_redis_answers_is_told_to_come_back_in_a_second() {
    let hour = limit("60/h burst=6");
    let mut refused = verdict(&hour, [60 * SECOND, 0, 0, 0], false);
    assert_eq!(header(&refused, "ratelimit"), "\"search\";r=5;t=60");
    refused.refused_by.insert(0);
    assert_eq!(header(&refused, "ratelimit"), "\"search\";r=0;t=1");
    let response = refused.refusal().unwrap().into_full_response();
    assert_eq!(response.headers()[RETRY_AFTER], "1");
}

#[test]
fn the_longest_header_fits() {
    let all = Limit::new(
        &"n".repeat(32),
        "1000000/s,1000000000/h,1000000/min,1000000000/d".parse().unwrap(),
    );
    let ahead = all.rates.iter().map(|rate| rate.tolerance * 2).collect::<Vec<_>>();
    let ahead = ahead.try_into().unwrap();
    assert!(header(&verdict(&all, ahead, true), "ratelimit").len() > 4 * 36);
    assert!(verdict(&all, [u64::MAX; MOST_WINDOWS], true).refusal().is_some());
}

#[test]
fn headers_are_sent_where_the_settings_want_them() {
    let (one, off) = (limit("100/min"), limit("off"));
    for (on, on_admission, on_refusal) in [
        (HeadersOn::All, 2, 2),
        (HeadersOn::Refusals, 0, 2),
        (HeadersOn::Nothing, 0, 0),
    ] {
        let style = HeaderStyle { on, legacy: false };
        for (is_refused, count) in [(false, on_admission), (true, on_refusal)] {
            let verdict = Verdict {
                style,
                ..verdict(&one, [u64::MAX; MOST_WINDOWS], is_refused)
            };
            assert_eq!(headers(&verdict).len(), count, "{on:?}");
        }
    }
    assert_eq!(headers(&verdict(&off, [0; MOST_WINDOWS], false)), []);
}

#[test]
fn a_refusal_names_the_violated_policies_and_when_to_try_again() {
    let two = limit("100/s burst=5, 60/h burst=2");
    // The hour admits again when its bucket lies one interval ahead, in 59.5 s.
    let refused = verdict(&two, [0, 120 * SECOND - SECOND / 2, 0, 0], true);
    for _ in 0..50 {
        let problem = refused.refusal().unwrap();
        let body = serde_json::to_value(&problem).unwrap();
        assert_eq!(body["type"], "urn:cenote:problem:too-many-requests");
        assert_eq!(body["status"], 429);
        assert_eq!(body["violated-policies"], serde_json::json!(["search-h"]));
        let response = problem.into_full_response();
        let wait: u32 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((60..=66).contains(&wait), "{wait}");
        assert_eq!(
            body["detail"],
            format!("the limit of 60/h is exceeded; try again in {wait} s")
        );
    }
    assert!(verdict(&two, [0; MOST_WINDOWS], false).refusal().is_none());
    let short = verdict(&two, [SECOND / 100 * 5, 0, 0, 0], true).refusal().unwrap();
    assert_eq!(short.into_full_response().headers()[RETRY_AFTER], "1");
}
