//! Parses a stream of server-sent events, piece by piece. Invariant: at most [`MOST_BYTES`] are kept, whatever arrives.

use serde_json::Value;

/// Longest event. The first one has ten minutes of rows: about 200 KiB.
const MOST_BYTES: usize = 4 << 20;

/// An event with JSON.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: Value,
}

/// The stream is none of a dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its answer is no stream of a dashboard")]
pub(super) struct Foreign;

/// What has arrived of the next event.
#[derive(Default)]
pub(super) struct Parser(Vec<u8>);

impl Parser {
    /// Takes a piece of the stream, and passes on the events that it completes.
    ///
    /// # Errors
    ///
    /// An event is too long, or its data is no JSON.
    pub(super) fn push(&mut self, piece: &[u8], mut take: impl FnMut(Event)) -> Result<(), Foreign> {
        let mut searched = self.0.len().saturating_sub(1);
        self.0.extend_from_slice(piece);
        let mut begin = 0;
        while let Some(end) = find(&self.0, searched.max(begin)) {
            if let Some(event) = parse(&self.0[begin..end])? {
                take(event);
            }
            begin = end + 2;
            searched = begin;
        }
        self.0.drain(..begin);
        match self.0.len() > MOST_BYTES {
            true => Err(Foreign),
            false => Ok(()),
        }
    }
}

/// The end of an event: an empty line.
fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let found = bytes[from..].windows(2).position(|two| two == b"\n\n");
    found.map(|at| from + at)
}

/// `None` for comments and the like.
fn parse(block: &[u8]) -> Result<Option<Event>, Foreign> {
    let block = str::from_utf8(block).map_err(|_| Foreign)?;
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let (Some(name), Some(data)) = (field("event: "), field("data: ")) else {
        return Ok(None);
    };
    Ok(Some(Event {
        name: name.to_owned(),
        data: serde_json::from_str(data).map_err(|_| Foreign)?,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const STREAM: &str = "retry: 1000\n\nevent: start\ndata: {\"a\":1}\n\n:\n\nevent: row\ndata: [1,\"\u{e4}\"]\n\n";

    fn events(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece, |event| events.push(event)).unwrap();
        }
        events
    }

    proptest! {
        #[test]
        fn a_stream_has_the_same_events_in_whatever_pieces_it_arrives(
            mut cuts in prop::collection::vec(0..=STREAM.len(), 0..8),
        ) {
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &STREAM.as_bytes()[cut[0]..cut[1]]).collect();
            let event = |name: &str, data| Event { name: name.to_owned(), data };
            prop_assert_eq!(events(&pieces), [event("start", json!({"a": 1})), event("row", json!([1, "ä"]))]);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes: Vec<u8>) {
            let _events = Parser::default().push(&bytes, |_| {});
        }
    }

    #[test]
    fn a_stream_without_an_end_of_an_event_is_given_up() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; MOST_BYTES / 2];
        parser.push(&piece, |_| {}).unwrap();
        parser.push(&piece, |_| {}).unwrap();
        assert_eq!(parser.push(b"x", |_| {}), Err(Foreign));
        assert_eq!(Parser::default().push(b"event: row\ndata: {\n\n", |_| {}), Err(Foreign));
    }
}
