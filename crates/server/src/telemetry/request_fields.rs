//! Adds the current request to the lines of the log: its id, its route and its trace.
//!
//! Invariant: a line of JSON stays one object, because none of the three texts has a character that JSON escapes.

use std::fmt::{self, Write};

use cenote_trace::{RequestContext, with_current};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
    },
    registry::LookupSpan,
};

/// Lines of text, whose fields end with those of the request.
#[derive(Default)]
pub(super) struct TextWithRequest(DefaultFields);

impl<'writer> FormatFields<'writer> for TextWithRequest {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        self.0.format_fields(writer.by_ref(), fields)?;
        with_current(|request| {
            let RequestContext { id, route, trace } = request;
            write!(writer, " request_id={id} route={route}")?;
            match trace {
                Some(trace) => write!(writer, " trace_id={}", trace.trace_id),
                None => Ok(()),
            }
        })
        .unwrap_or(Ok(()))
    }
}

/// Lines of JSON, whose members end with those of the request.
pub(super) struct JsonWithRequest<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for JsonWithRequest<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(512);
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let members = with_current(json_members);
        match (members, line.strip_suffix("}\n")) {
            (Some(members), Some(open)) => writeln!(writer, "{open}{members}}}"),
            _ => writer.write_str(&line),
        }
    }
}

fn json_members(request: &RequestContext) -> String {
    let RequestContext { id, route, trace } = request;
    let mut members = format!(r#","request_id":"{id}","route":"{route}""#);
    if let Some(trace) = trace {
        // Cannot fail: memory accepts every write.
        let _never = write!(members, r#","trace_id":"{}""#, trace.trace_id);
    }
    members
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use cenote_trace::{RequestId, TraceContext, scope};
    use tracing_subscriber::fmt;

    use super::*;

    const HEADER: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Logs a line in a request with a trace, one in a request without, and one in none.
    fn log_three() {
        let context = |trace| {
            let context = RequestContext {
                id: RequestId::from_text(b"req-7").unwrap(),
                route: "/read/{key}",
                trace,
            };
            Some(Arc::new(context))
        };
        for context in [context(TraceContext::parse(HEADER)), context(None), None] {
            let log = scope(context, async {
                ready(()).await;
                tracing::info!(number = 7, "hello");
            });
            let polled = pin!(log).poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready());
        }
    }

    fn lines(logged: &Lines) -> Vec<String> {
        let bytes = logged.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_of_json_names_its_request() {
        let logged = Lines::default();
        let writer = logged.clone();
        let log = fmt().json().flatten_event(true).map_event_format(JsonWithRequest);
        let log = log.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, log_three);
        let members = |line: &String| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["message"], "hello");
            ["request_id", "route", "trace_id"].map(|name| line[name].as_str().map(str::to_owned))
        };
        let text = |text: &str| Some(text.to_owned());
        let lines = lines(&logged);
        let trace = text("4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(members(&lines[0]), [text("req-7"), text("/read/{key}"), trace]);
        assert_eq!(members(&lines[1]), [text("req-7"), text("/read/{key}"), None]);
        assert_eq!(members(&lines[2]), [None, None, None]);
    }

    #[test]
    fn a_line_of_text_ends_with_its_request() {
        let logged = Lines::default();
        let writer = logged.clone();
        let log = fmt().fmt_fields(TextWithRequest::default()).with_ansi(false);
        let log = log.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, log_three);
        let lines = lines(&logged);
        let named = "hello number=7 request_id=req-7 route=/read/{key}";
        let traced = format!("{named} trace_id=4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(lines[0].ends_with(&traced), "{lines:?}");
        assert!(lines[1].ends_with(named), "{lines:?}");
        assert!(lines[2].ends_with("hello number=7"), "{lines:?}");
    }
}
