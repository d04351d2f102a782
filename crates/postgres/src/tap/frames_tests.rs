//! What [`Frames`] makes of conversations, whole and in pieces.
//!
//! Invariant checked: cutting the bytes elsewhere changes nothing, and no bytes
//! make it panic.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}
use Side::{Client, Server};

type Said = (Side, Vec<u8>);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn start_up() -> Vec<u8> {
    [&12_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"u\0\0\0"].concat()
}

fn error(severity: &str, code: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0Mwhy\0\0");
    message(b'E', body.as_bytes())
}

fn client(tags: &str) -> Said {
    (Client, tags.bytes().flat_map(|tag| message(tag, b"abc")).collect())
}

fn ready(status: &str) -> Said {
    (Server, message(b'Z', status.as_bytes()))
}

fn server(tag: u8, body: &str) -> Said {
    (Server, message(tag, body.as_bytes()))
}

fn say(frames: &mut Frames, (side, bytes): &Said) {
    match side {
        Client => frames.on_write(bytes),
        Server => drop(frames.on_read(bytes)),
    }
}

/// A connection that has just finished its start-up.
fn connected() -> Frames {
    after(&[
        (Client, start_up()),
        server(b'R', "\0\0\0\0"),
        server(b'S', "TimeZone\0UTC\0"),
        (Server, message(b'K', &[0, 0, 1, 2, 9, 9, 9, 9, 9, 9])),
        ready("I"),
    ])
}

fn after(said: &[Said]) -> Frames {
    let mut frames = Frames::new();
    said.iter().for_each(|it| say(&mut frames, it));
    frames
}

fn follow(said: &[Said]) -> Frames {
    let mut frames = connected();
    said.iter().for_each(|it| say(&mut frames, it));
    frames
}

/// All of the state but what is left over in the cutters' buffers.
fn state(frames: &Frames) -> impl PartialEq + std::fmt::Debug {
    (
        (frames.phase, frames.bits(), frames.fault, frames.dirt, frames.error),
        (
            frames.owed.clone(),
            frames.sync_ignored,
            frames.copy_ended,
            frames.copying,
        ),
        (
            frames.copy_failure,
            frames.rows,
            frames.process_id,
            frames.claims,
            frames.backend.is_amid(),
        ),
    )
}

#[test]
fn start_up_is_clean_and_names_the_backend() {
    let mut frames = connected();
    assert_eq!((frames.bits(), frames.process_id()), (0, 0x102));
    assert_eq!(frames.take_dirt(), Dirt::NONE);
}

#[test]
fn a_query_is_owed_until_it_is_ready() {
    let mut frames = connected();
    say(&mut frames, &client("BE"));
    assert_eq!(frames.bits(), status::OPEN);
    say(&mut frames, &client("S"));
    assert_eq!(frames.bits(), status::OWED);
    say(&mut frames, &server(b'D', "row"));
    say(&mut frames, &server(b'C', "SELECT 1\0"));
    assert_eq!(frames.bits(), status::OWED);
    say(&mut frames, &ready("T"));
    assert_eq!(frames.bits(), status::IN_TRANSACTION);
    assert_eq!(frames.take_dirt(), Dirt::NONE);
}

/// A table made of a query completes like the query, but shows nobody its rows.
#[test]
fn a_select_that_shows_no_rows_is_dirt() {
    let done = |tag: &str| server(b'C', tag);
    let (row, columns, none) = (server(b'D', "row"), server(b'T', "columns"), server(b'n', ""));
    let simple = client("Q");
    let extended = client("BES");
    for (said, dirt) in [
        (vec![simple.clone(), done("SELECT 0")], Dirt::SESSION),
        (vec![simple.clone(), done("SELECT 5")], Dirt::SESSION),
        (vec![simple.clone(), columns.clone(), done("SELECT 0")], Dirt::NONE),
        // Two statements in one query.
        (
            vec![simple, columns.clone(), done("SELECT 0"), done("SELECT 0")],
            Dirt::SESSION,
        ),
        (vec![extended.clone(), done("SELECT 5")], Dirt::SESSION),
        (vec![extended.clone(), row, done("SELECT 1")], Dirt::NONE),
        // Its rows were described when it was prepared, and there are none: it cannot be told.
        (vec![extended.clone(), done("SELECT 0")], Dirt::NONE),
        (vec![extended.clone(), none, done("SELECT 0")], Dirt::SESSION),
        (vec![extended, columns, done("SELECT 0")], Dirt::NONE),
    ] {
        let mut frames = follow(&said);
        assert_eq!(frames.take_dirt(), dirt, "{said:?}");
    }
}

#[test]
fn settings_that_change_are_dirt() {
    let mut frames = follow(&[client("Q"), server(b'S', "TimeZone\0CET\0"), ready("I")]);
    assert_eq!(frames.take_dirt(), Dirt::SESSION);
    assert_eq!(frames.take_dirt(), Dirt::NONE);
    // The server has read its configuration again.
    say(&mut frames, &server(b'S', "TimeZone\0UTC\0"));
    assert_eq!(frames.take_dirt(), Dirt::SESSION);
}

#[test]
fn settings_that_come_back_with_the_end_of_their_transaction_are_none() {
    let mut frames = follow(&[
        client("Q"),
        server(b'S', "TimeZone\0CET\0"),
        ready("T"),
        client("Q"),
        server(b'S', "TimeZone\0UTC\0"),
        ready("I"),
    ]);
    assert_eq!(frames.take_dirt(), Dirt::NONE);
}

#[test]
fn each_completion_that_its_text_may_excuse_is_counted() {
    let done = |tag: &str| server(b'C', tag);
    let mut frames = follow(&[client("Q"), done("SET"), done("SET"), done("BEGIN"), ready("T")]);
    assert_eq!((frames.take_dirt(), frames.take_claims()), (Dirt::CLAIMED, 2));
    assert_eq!((frames.take_dirt(), frames.take_claims()), (Dirt::NONE, 0));
}

#[test]
fn a_finished_copy_is_answered_once() {
    let frames = follow(&[client("BES"), server(b'G', "")]);
    assert_eq!(frames.bits(), status::OWED | status::COPY_IN);
    let frames = follow(&[
        client("BES"),
        server(b'G', ""),
        client("ddcS"),
        server(b'C', "COPY 2\0"),
        ready("I"),
    ]);
    assert_eq!(frames.bits(), 0);
}

#[test]
fn a_copy_dropped_before_the_server_took_it_must_be_proved_to_be_over() {
    let mut frames = follow(&[
        client("BES"),
        client("fS"),
        server(b'G', ""),
        (Server, error("ERROR", "57014")),
        ready("I"),
    ]);
    assert_eq!(frames.bits(), status::UNPROVEN);
    say(&mut frames, &client("Q"));
    say(&mut frames, &server(b'C', "ROLLBACK\0"));
    say(&mut frames, &ready("I"));
    assert_eq!(frames.bits(), 0);
}

#[test]
fn a_second_answer_to_a_failed_copy_is_not_taken_for_another() {
    let failed = [
        client("BES"),
        server(b'G', ""),
        (Server, error("ERROR", "22P02")),
        client("cS"),
        ready("I"),
    ];
    let mut frames = follow(&failed);
    say(&mut frames, &client("QCS"));
    say(&mut frames, &server(b'N', ""));
    assert_eq!(frames.bits(), status::UNPROVEN | status::OWED);
    assert_eq!(frames.on_read(&message(b'Z', b"I")), Err(Fault::CopyRefused));
}

#[test]
fn a_refused_copy_ends_the_conversation() {
    // Refused before and after the server said it would take it; the end of data
    // goes out later, or has gone out already.
    let refusal = (Server, error("ERROR", "42501"));
    let later = follow(&[client("BES"), refusal.clone(), ready("I"), client("fS")]);
    let earlier = follow(&[client("BESfS"), refusal.clone(), ready("I")]);
    let taken = follow(&[client("BES"), server(b'G', ""), refusal, ready("I")]);
    for frames in [later, earlier, taken] {
        assert_eq!(frames.fault(), Some(Fault::CopyRefused));
    }
}

#[test]
fn an_end_of_data_behind_another_query_belongs_to_its_own_copy() {
    let frames = follow(&[
        client("QBESfS"),
        server(b'C', "SELECT 1\0"),
        ready("I"),
        server(b'G', ""),
        (Server, error("ERROR", "57014")),
        ready("I"),
    ]);
    assert_eq!((frames.bits(), frames.fault()), (status::UNPROVEN, None));
}

#[test]
fn errors_nobody_waits_for_and_fatal_ones_break_it() {
    let mut frames = follow(&[(Server, error("FATAL", "57P01"))]);
    assert_eq!(frames.bits(), status::BROKEN);
    assert_eq!(frames.take_error().unwrap().as_str(), "57P01");
    let frames = follow(&[client("Q"), (Server, error("FATAL", "57P01"))]);
    assert_eq!(frames.bits(), status::OWED | status::BROKEN);
    let frames = follow(&[client("Q"), (Server, error("ERROR", "42P01")), ready("I")]);
    assert_eq!(frames.bits(), 0);
}

#[test]
fn an_error_about_the_server_is_not_forgotten_over_a_later_one() {
    let mut frames = follow(&[
        client("Q"),
        (Server, error("ERROR", "25006")),
        (Server, error("ERROR", "25P02")),
        ready("E"),
    ]);
    assert_eq!(frames.take_error().unwrap().as_str(), "25006");
    assert_eq!(frames.take_error(), None);
}

/// Bytes of one side, joined from what it said in a row and cut at `cuts`.
fn follow_cut(said: &[Said], mut cut: impl FnMut(&[u8]) -> Vec<usize>) -> Frames {
    let mut frames = Frames::new();
    for run in said.chunk_by(|(a, _), (b, _)| a == b) {
        let bytes: Vec<u8> = run.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let mut start = 0;
        for end in cut(&bytes).into_iter().chain([bytes.len()]) {
            say(&mut frames, &(run[0].0, bytes[start..end].to_vec()));
            start = end;
        }
    }
    frames
}

fn conversation() -> Vec<Said> {
    vec![
        (Client, start_up()),
        server(b'R', "\0\0\0\0"),
        (Server, message(b'K', &[0, 0, 1, 2, 9, 9, 9, 9])),
        ready("I"),
        client("QBES"),
        server(b'C', "BEGIN\0"),
        ready("T"),
        server(b'2', ""),
        server(b'D', "\0\x01\0\0\0\x01x"),
        (Server, error("ERROR", "23505")),
        ready("E"),
        client("QBE"),
    ]
}

#[test]
fn no_two_or_three_way_cut_changes_anything() {
    let said = conversation();
    let whole = follow_cut(&said, |_| vec![]);
    let longest = said
        .chunk_by(|(a, _), (b, _)| a == b)
        .map(|run| run.iter().map(|(_, b)| b.len()).sum::<usize>());
    let longest = longest.max().unwrap();
    for first in 0..=longest {
        for second in first..=longest {
            let cut = follow_cut(&said, |bytes| vec![first.min(bytes.len()), second.min(bytes.len())]);
            assert_eq!(state(&cut), state(&whole), "cut at {first} and {second}");
        }
    }
}

fn any_said() -> impl Strategy<Value = Said> {
    let body = prop::collection::vec(any::<u8>(), 0..80);
    let client_tag = prop::sample::select(b"SSSQQFBEPDHCcfdp".to_vec());
    let server_tag = prop::sample::select(b"ZZZCCEGWSTDKINA123".to_vec());
    let tag = prop::sample::select(vec!["SELECT 1\0", "SET\0", "COPY 1\0", "PREPARE\0"]);
    prop_oneof![
        4 => (client_tag, body.clone()).prop_map(|(tag, body)| (Client, message(tag, &body))),
        2 => (server_tag, body).prop_map(|(tag, body)| (Server, message(tag, &body))),
        2 => prop::sample::select(b"ITE".to_vec()).prop_map(|it| (Server, message(b'Z', &[it]))),
        1 => tag.prop_map(|tag| server(b'C', tag)),
        1 => Just(server(b'G', "")),
        1 => Just((Server, error("ERROR", "22P02"))),
        1 => Just(client("fS")),
    ]
}

proptest! {
    #[test]
    fn no_cut_changes_anything(
        said in prop::collection::vec(any_said(), 0..40),
        cuts in prop::collection::vec(1_usize..50, 1..30),
    ) {
        let said = [&[(Client, start_up())], &said[..]].concat();
        let whole = follow_cut(&said, |_| vec![]);
        let mut steps = cuts.iter().cycle();
        let cut = follow_cut(&said, |bytes| {
            let mut at = 0;
            std::iter::from_fn(|| {
                at += steps.next().unwrap();
                (at < bytes.len()).then_some(at)
            })
            .collect()
        });
        prop_assert_eq!(state(&cut), state(&whole));
    }

    #[test]
    fn no_bytes_make_it_panic(
        said in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20),
    ) {
        for mut frames in [Frames::new(), connected()] {
            for (ours, bytes) in &said {
                say(&mut frames, &(if *ours { Client } else { Server }, bytes.clone()));
            }
            let _ = frames.bits();
        }
    }
}

#[test]
fn a_length_that_makes_no_sense_leaves_the_same_state_whole_and_in_pieces() {
    let garbled = [b'Q', 0, 0, 0, 3];
    for side in [Client, Server] {
        let mut whole = connected();
        say(&mut whole, &(side, garbled.to_vec()));
        let mut pieces = connected();
        for byte in garbled {
            say(&mut pieces, &(side, vec![byte]));
        }
        assert_eq!(whole.fault(), Some(Fault::Garbled));
        assert_eq!((whole.bits(), whole.fault()), (pieces.bits(), pieces.fault()));
    }
}
