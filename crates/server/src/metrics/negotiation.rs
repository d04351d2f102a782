//! Which text a caller gets. Invariant: OpenMetrics only if `Accept` names it and weighs it no less than plain text; so a
//! browser, curl and old readers get the text that all know.

use axum::http::{HeaderMap, header::ACCEPT};

use super::text::Format;

/// Returns the format for a request with these headers.
pub(crate) fn format_for(headers: &HeaderMap) -> Format {
    let (mut open, mut plain) = (0.0, 0.0);
    for line in headers.get_all(ACCEPT) {
        // What is not text is no media type either.
        for range in line.to_str().unwrap_or_default().split(',') {
            let (essence, parameters) = range.split_once(';').unwrap_or((range, ""));
            let (essence, weight) = (essence.trim(), weight(parameters));
            let version = parameter(parameters, "version");
            if essence.eq_ignore_ascii_case("application/openmetrics-text") && version.is_none_or(|it| it == "1.0.0") {
                open = f32::max(open, weight);
            } else if essence.eq_ignore_ascii_case("text/plain") {
                plain = f32::max(plain, weight);
            }
        }
    }
    match open > 0.0 && open >= plain {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    }
}

/// The weight of a media range, 1 if it has none; 0 if it is malformed.
fn weight(parameters: &str) -> f32 {
    let given = parameter(parameters, "q");
    let weight = given.map_or(Some(1.0), |text| text.parse::<f32>().ok());
    weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0)
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        for (accept, format) in [
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            // Prometheus 3.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.4,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Format::Prometheus),
            (
                "application/openmetrics-text;q=0.3,text/plain;q=0.9",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=many", Format::Prometheus),
            ("application/openmetrics-text;q=NaN", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("text/html,*/*", Format::Prometheus),
            ("", Format::Prometheus),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(format_for(&headers), format, "{accept}");
        }
        assert_eq!(format_for(&HeaderMap::new()), Format::Prometheus);
    }
}
