//! Trace contexts, and the header `traceparent` that carries them (W3C Trace Context, level 2).
//!
//! Invariant: an id is never zero, and its text is lower-case hexadecimal digits of its full length.

use std::fmt;
use std::num::{NonZero, NonZeroU64, NonZeroU128};

/// Bytes of a header of version 00, and the least of any version.
const LENGTH: usize = 55;
/// The flag of a trace that its caller records.
const SAMPLED: u64 = 1;

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// The id of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span; `None` if the trace begins here.
    pub parent: Option<SpanId>,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl TraceId {
    /// Returns a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(NonZero::new(fastrand::u128(..)).unwrap_or(NonZero::<u128>::MIN))
    }

    /// Returns the bytes in the order of the text.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    /// Returns a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(NonZero::new(fastrand::u64(..)).unwrap_or(NonZero::<u64>::MIN))
    }

    /// Returns the bytes in the order of the text.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TraceContext {
    /// Returns a trace that begins here.
    #[must_use]
    pub fn begin(is_sampled: bool) -> Self {
        Self {
            trace_id: TraceId::random(),
            parent: None,
            is_sampled,
        }
    }

    /// Parses the value of `traceparent`. Returns `None` for a malformed one, which the standard tells to ignore.
    ///
    /// What a later version appends is ignored. The only flag that is known is that of sampling.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (known, rest) = header.split_at_checked(LENGTH)?;
        let dashes = [known[2], known[35], known[52]];
        let version = hexadecimal(&known[..2])?;
        let ends_well = rest.is_empty() || version > 0 && rest[0] == b'-';
        if dashes != [b'-'; 3] || version == 0xff || !ends_well {
            return None;
        }
        let (high, low) = (hexadecimal(&known[3..19])?, hexadecimal(&known[19..35])?);
        let trace_id = u128::from(high) << 64 | u128::from(low);
        let flags = hexadecimal(&known[53..])?;
        Some(Self {
            trace_id: TraceId(NonZero::new(trace_id)?),
            parent: Some(SpanId(NonZero::new(hexadecimal(&known[36..52])?)?)),
            is_sampled: flags & SAMPLED != 0,
        })
    }
}

/// Stands for bytes that are no digit.
const NO_DIGIT: u8 = 0xff;

/// The value of each byte as a digit. The standard allows no capital letters.
const DIGITS: [u8; 256] = {
    let (mut digits, mut value) = ([NO_DIGIT; 256], 0);
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// Parses at most 16 digits, without a branch for each.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let (mut value, mut seen) = (0, 0);
    for digit in digits {
        let digit = DIGITS[usize::from(*digit)];
        seen |= digit;
        value = value << 4 | u64::from(digit & 0xf);
    }
    (seen < 16).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn header(version: u8, context: &TraceContext, flags: u8) -> String {
        let TraceContext { trace_id, parent, .. } = context;
        format!("{version:02x}-{trace_id}-{}-{flags:02x}", parent.unwrap())
    }

    #[test]
    fn the_example_of_the_standard_is_understood() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.parent.unwrap().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled);
        assert_eq!(context.trace_id.to_bytes()[..2], [0x4b, 0xf9]);
        assert_eq!(context.parent.unwrap().to_bytes()[..2], [0x00, 0xf0]);
    }

    #[test]
    fn only_the_last_flag_says_that_the_trace_is_recorded() {
        for (flags, is_sampled) in [("00", false), ("01", true), ("02", false), ("ff", true), ("fe", false)] {
            let text = format!("{}{flags}", &VALID[..53]);
            assert_eq!(
                TraceContext::parse(text.as_bytes()).unwrap().is_sampled,
                is_sampled,
                "{flags}"
            );
        }
    }

    #[test]
    fn a_malformed_header_is_no_context() {
        for text in [
            "",
            "00",
            &VALID[..54],
            &format!("{VALID}0"),
            &format!("{VALID}-00"),
            &VALID.to_uppercase(),
            &VALID.replacen("00-", "ff-", 1),
            &VALID.replacen("00-", "0g-", 1),
            &VALID.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e473 -00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_may_have_more_parts() {
        for rest in ["", "-", "-what-the-future-will-be-like"] {
            let text = format!("{}{rest}", VALID.replacen("00-", "cc-", 1));
            assert_eq!(
                TraceContext::parse(text.as_bytes()),
                TraceContext::parse(VALID.as_bytes()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed(
            trace_id in 1_u128..,
            parent in 1_u64..,
            version in 0_u8..0xff,
            flags: u8,
        ) {
            let context = TraceContext {
                trace_id: TraceId(NonZero::new(trace_id).unwrap()),
                parent: NonZero::new(parent).map(SpanId),
                is_sampled: flags & 1 == 1,
            };
            prop_assert_eq!(TraceContext::parse(header(version, &context, flags).as_bytes()), Some(context));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _context = TraceContext::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_gives_another_context_or_none(at in 0..LENGTH, byte: u8) {
            let mut changed = VALID.as_bytes().to_vec();
            changed[at] = byte;
            if let Some(context) = TraceContext::parse(&changed) {
                let written = header(0, &context, 0);
                prop_assert_eq!(&written.as_bytes()[3..53], &changed[3..53]);
            }
        }
    }
}
