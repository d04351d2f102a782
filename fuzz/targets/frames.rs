//! The follower of PostgreSQL's message frames: no bytes make it panic, and where a stream is cut changes nothing.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Conversation {
    /// Whether the server says it, and what.
    said: Vec<(bool, Vec<u8>)>,
    cut: u8,
}

fuzz_target!(|conversation: Conversation| {
    let said = &conversation.said;
    let whole = cenote_postgres::follow(said.iter().map(|(server, bytes)| (*server, &bytes[..])));
    let length = usize::from(conversation.cut) + 1;
    let pieces = said
        .iter()
        .flat_map(|(server, bytes)| bytes.chunks(length).map(|piece| (*server, piece)));
    assert_eq!(cenote_postgres::follow(pieces), whole);
});
