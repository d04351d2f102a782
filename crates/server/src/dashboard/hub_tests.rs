use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use super::{super::figures::COLUMNS, *};

fn dashboard() -> Dashboard {
    Dashboard::new(r#""version":"1""#.to_owned())
}

fn row(time: u64) -> Row {
    let mut row = [0; COLUMNS.len()];
    row[0] = time;
    row
}

fn state(slots_more: u64) -> State {
    State::with_member("slots_more", slots_more.to_string())
}

/// The events of a text: names and data.
fn events(text: &[u8]) -> Vec<(String, Value)> {
    let text = str::from_utf8(text).unwrap();
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    let event = |block: &str| {
        let field = |name| block.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        (
            field("event: ").to_owned(),
            serde_json::from_str(field("data: ")).unwrap(),
        )
    };
    blocks.map(event).collect()
}

/// The first event of a viewer.
async fn first(viewer: &mut Viewer) -> Value {
    let mut text = viewer.next().await.unwrap().to_vec();
    assert!(text.starts_with(b"retry: 1000\n\n"));
    text.extend_from_slice(&viewer.next().await.unwrap());
    let [(name, data)] = &events(&text)[..] else {
        panic!("{text:?}");
    };
    assert_eq!(name, "start");
    data.clone()
}

async fn next(viewer: &mut Viewer) -> Vec<(String, Value)> {
    events(&viewer.next().await.unwrap())
}

fn times(rows: &Value) -> Vec<u64> {
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row[0].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_viewer_gets_each_row_once_and_what_changes_in_the_state() {
    let dashboard = dashboard();
    dashboard.publish(None, state(1));
    dashboard.publish(Some(row(500)), state(1));
    dashboard.publish(Some(row(1000)), state(2));
    let mut viewer = dashboard.watch(0, false).unwrap();
    let start = first(&mut viewer).await;
    assert_eq!(times(&start["history"]), [500, 1000]);
    assert_eq!((&start["version"], &start["actions"]), (&json!("1"), &json!(false)));
    assert_eq!(start["state"]["slots_more"], 2);
    dashboard.publish(Some(row(1500)), state(2));
    let expected = json!(row(1500));
    assert_eq!(next(&mut viewer).await, [("row".to_owned(), expected)]);
    dashboard.publish(Some(row(2000)), state(3));
    let (row, change) = (json!(row(2000)), json!({"slots_more": 3}));
    assert_eq!(
        next(&mut viewer).await,
        [("row".to_owned(), row), ("state".to_owned(), change)]
    );
    let mut late = dashboard.watch(1000, true).unwrap();
    let start = first(&mut late).await;
    assert_eq!(
        (times(&start["history"]), &start["actions"]),
        (vec![1500, 2000], &json!(true))
    );
}

#[tokio::test]
async fn a_viewer_that_does_not_read_gets_one_frame_with_the_whole_state_later() {
    let dashboard = dashboard();
    dashboard.publish(None, state(0));
    let mut viewer = dashboard.watch(0, false).unwrap();
    first(&mut viewer).await;
    for number in 1..=1000 {
        dashboard.publish(Some(row(number * 500)), state(number));
    }
    let events = next(&mut viewer).await;
    assert_eq!(events[0], ("row".to_owned(), json!(row(500_000))));
    assert_eq!(events[1].1["slots_more"], 1000);
    assert!(
        events[1].1.as_object().unwrap().len() > 5,
        "the whole state: {events:?}"
    );
    dashboard.publish(Some(row(500_500)), state(1000));
    assert_eq!(next(&mut viewer).await.len(), 1);
}

#[tokio::test]
async fn a_hundred_thousand_different_states_leave_one_and_the_newest_rows() {
    let dashboard = dashboard();
    let viewer = dashboard.watch(0, false).unwrap();
    let mut frames = Vec::new();
    for number in 0..100_000 {
        dashboard.publish(Some(row(number * 500)), state(number));
        frames.push(Arc::downgrade(&*dashboard.0.frames.borrow()));
    }
    assert_eq!(frames.iter().filter(|frame| frame.strong_count() > 0).count(), 1);
    let mut late = dashboard.watch(0, false).unwrap();
    assert_eq!(times(&first(&mut late).await["history"]).len(), 601);
    assert!(dashboard.past().start.is_some(), "kept for the next viewer");
    drop((viewer, late));
    assert!(!dashboard.places().is_any_taken());
    dashboard.publish(None, state(0));
    assert!(dashboard.past().start.is_none());
}

#[tokio::test]
async fn an_end_reaches_viewers_at_once_and_nobody_can_begin_to_watch() {
    let dashboard = dashboard();
    let mut viewer = dashboard.watch(0, false).unwrap();
    first(&mut viewer).await;
    dashboard.end();
    assert_eq!(
        next(&mut viewer).await,
        [("end".to_owned(), json!({"reason": "draining"}))]
    );
    assert_eq!(viewer.next().await, None);
    assert_eq!(dashboard.watch(0, false).err(), Some(NoViewer::Draining));
    // The sampler has not heard of it yet.
    dashboard.publish(None, state(1));
    assert_eq!(dashboard.watch(0, false).err(), Some(NoViewer::Draining));
    assert!(!dashboard.places().is_any_taken() || viewer.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_a_quarter_of_an_hour_so_that_credentials_are_checked_again() {
    let dashboard = dashboard();
    let mut viewer = dashboard.watch(0, false).unwrap();
    first(&mut viewer).await;
    let begun = Instant::now();
    let end = loop {
        dashboard.publish(Some(row(begun.elapsed().as_millis() as u64)), state(0));
        match &next(&mut viewer).await[..] {
            [(name, data), ..] if name == "end" => break data.clone(),
            _ => advance(Duration::from_millis(500)).await,
        }
    };
    assert_eq!(end, json!({"reason": "renew"}));
    assert_eq!(begun.elapsed().as_secs(), 900);
    assert_eq!(viewer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_gets_a_comment_before_a_proxy_ends_it() {
    let dashboard = dashboard();
    let mut viewer = dashboard.watch(0, false).unwrap();
    first(&mut viewer).await;
    let begun = Instant::now();
    assert_eq!(viewer.next().await.unwrap(), ":\n\n");
    assert_eq!(begun.elapsed().as_secs(), 15);
}
