//! `traceparent` and `x-request-id`: no bytes make the parsers panic, and what is accepted is written as it came.
#![no_main]

use cenote_trace::{RequestId, TraceContext};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &[u8]| {
    if let Some(context) = TraceContext::parse(header) {
        let parent = context.parent.map(|parent| parent.to_string()).unwrap_or_default();
        let written = format!("{}-{parent}", context.trace_id);
        assert_eq!(written.as_bytes(), &header[3..52]);
    }
    if let Some(id) = RequestId::from_text(header) {
        assert_eq!(id.to_string().as_bytes(), header);
    }
});
