//! Reads an `ExportTraceServiceResponse` of OTLP 1: how many of the spans a collector has rejected, and why.
//!
//! Invariant: it returns for all bytes. What is no such message rejects nothing, because the status says that it was taken.

use std::iter;

/// The most bytes of a collector's message that are logged.
const LONGEST_TEXT: usize = 256;

/// The spans of a request that the collector did not take. None, with a text, is a warning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) spans: u64,
    /// The collector's own words; bounded, without control characters.
    pub(super) why: String,
}

/// Returns what a successful response says of rejected spans.
pub(super) fn rejected(response: &[u8]) -> Rejected {
    let mut rejected = Rejected::default();
    for field in fields(response) {
        let (1, Value::Bytes(partial_success)) = field else {
            continue;
        };
        for field in fields(partial_success) {
            match field {
                // A negative number of the protocol is huge here, and means nothing.
                (1, Value::Number(spans)) => rejected.spans = i64::try_from(spans).map_or(0, i64::unsigned_abs),
                (2, Value::Bytes(text)) => rejected.why = printable(text),
                _ => {}
            }
        }
    }
    rejected
}

fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let end = text.floor_char_boundary(LONGEST_TEXT);
    let shown = |character: char| if character.is_control() { ' ' } else { character };
    text[..end].chars().map(shown).collect()
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width, which no field here has.
    Fixed,
}

/// Returns the fields of a message, up to the first that is malformed.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    iter::from_fn(move || {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => fixed(&mut message, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Value::Bytes(bytes)
            }
            5 => fixed(&mut message, 4)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    })
}

fn fixed<'a>(message: &mut &'a [u8], length: usize) -> Option<Value<'a>> {
    *message = message.get(length..)?;
    Some(Value::Fixed)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn response(rejected_spans: i64, error_message: &str) -> Vec<u8> {
        let partial = ExportTracePartialSuccess {
            rejected_spans,
            error_message: error_message.to_owned(),
        };
        ExportTraceServiceResponse {
            partial_success: Some(partial),
        }
        .encode_to_vec()
    }

    #[test]
    fn what_an_independent_encoder_wrote_is_read() {
        for (spans, why) in [(0, ""), (7, ""), (0, "the quota is nearly used up"), (512, "zu groß")] {
            let expected = Rejected {
                spans: spans as u64,
                why: why.to_owned(),
            };
            assert_eq!(rejected(&response(spans, why)), expected);
        }
        assert_eq!(rejected(&[]), Rejected::default());
        assert_eq!(rejected(&response(-1, "")), Rejected::default());
    }

    #[test]
    fn a_text_for_the_log_is_short_and_has_no_control_characters() {
        let why = rejected(&response(1, &format!("a\n\x1b[31m{}", "é".repeat(10_000)))).why;
        assert!(why.starts_with("a  [31mé") && why.len() <= LONGEST_TEXT, "{why}");
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut bytes = vec![0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4, 0x28, 9];
        bytes.extend(response(3, "why"));
        assert_eq!(rejected(&bytes).spans, 3);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _rejected = rejected(&bytes);
        }

        #[test]
        fn a_message_that_is_cut_off_makes_it_reject_no_more(length in 0_usize..20) {
            let whole = response(3, "why");
            prop_assert!(rejected(&whole[..length.min(whole.len())]).spans <= 3);
        }
    }
}
