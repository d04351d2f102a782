//! The request header `Accept-Encoding` (RFC 9110, section 12.5.3), as far as gzip is concerned.
//!
//! Invariant: gzip is used only if the header asks for it with a weight above zero and does not prefer no coding. A header
//! that is malformed asks for nothing.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;

/// Whether a request prefers a response in gzip to one without a coding.
pub(crate) fn prefers_gzip(headers: &HeaderMap) -> bool {
    let mut weights = Weights::default();
    for value in headers.get_all(ACCEPT_ENCODING) {
        let Ok(value) = value.to_str() else {
            return false;
        };
        if weights.read(value).is_none() {
            return false;
        }
    }
    let gzip = weights.gzip.or(weights.any).unwrap_or(0);
    gzip > 0 && gzip >= weights.identity.unwrap_or(0)
}

/// Whether a request with these lines of the header prefers gzip, for a fuzzer.
#[cfg(fuzzing)]
pub fn accepts_gzip(lines: impl IntoIterator<Item = axum::http::HeaderValue>) -> bool {
    let lines = lines.into_iter().map(|line| (ACCEPT_ENCODING, line));
    prefers_gzip(&HeaderMap::from_iter(lines))
}

/// The weights of codings, in thousandths. `None` if the header does not name the coding.
#[derive(Default)]
struct Weights {
    gzip: Option<u16>,
    identity: Option<u16>,
    /// `*`: every coding that is not named.
    any: Option<u16>,
}

impl Weights {
    /// Reads one line of the header; `None` if it is malformed.
    fn read(&mut self, value: &str) -> Option<()> {
        // A list may have empty elements (section 5.6.1).
        for element in value.split(',').map(trim).filter(|element| !element.is_empty()) {
            let (coding, weight) = match element.split_once(';') {
                None => (element, 1000),
                Some((coding, parameter)) => (trim(coding), weight(trim(parameter))?),
            };
            let place = match coding {
                "*" => &mut self.any,
                _ if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => &mut self.gzip,
                _ if coding.eq_ignore_ascii_case("identity") => &mut self.identity,
                _ if is_token(coding) => continue,
                _ => return None,
            };
            // Named twice: the lower weight, so that a refusal counts.
            *place = Some(place.map_or(weight, |before| before.min(weight)));
        }
        Some(())
    }
}

/// Removes optional white space.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Parses `q=0.8` into thousandths: at most three decimals, at most 1 (section 12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_number = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = decimals
        .bytes()
        .chain(*b"000")
        .take(3)
        .fold(0, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0')));
    match whole {
        "0" if is_number => Some(thousandths),
        "1" if is_number && thousandths == 0 => Some(1000),
        _ => None,
    }
}

fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asks(values: &[&str]) -> bool {
        let lines = values
            .iter()
            .map(|value| (ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap()));
        prefers_gzip(&lines.collect())
    }

    #[test]
    fn gzip_is_used_if_it_is_accepted_and_not_less_welcome_than_no_coding() {
        for value in [
            "gzip",
            "GZIP",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "deflate;q=0.5,gzip;q=0.001",
            "gzip;q=1.000",
            "gzip ; q=0.5 , identity;q=0.5",
            "*",
            "*;q=0.1",
            "br;q=1.0, *;q=0.5",
            ", gzip,,",
            "identity;q=0, gzip;q=0.1",
        ] {
            assert!(asks(&[value]), "{value}");
        }
        assert!(asks(&["br", "gzip"]), "two lines are one list");
    }

    #[test]
    fn gzip_is_not_used_if_it_is_refused_or_not_named_or_the_header_is_malformed() {
        for value in [
            "",
            "br",
            "identity",
            "gzip;q=0",
            "gzip;q=0.0, *",
            "gzip;q=0.000",
            "*;q=0",
            "gzip;q=0.5, identity",
            "gzip, gzip;q=0",
            "gzip;q=1.001",
            "gzip;q=2",
            "gzip;q=-1",
            "gzip;q=0.0001",
            "gzip;q=",
            "gzip;q=.5",
            "gzip;q=0.5;q=1",
            "gzip;level=9",
            "gzip;",
            "gz ip",
            "gzip;q=\u{b2}",
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.clone())]);
            assert!(!prefers_gzip(&headers), "{value:?}");
        }
        assert!(!prefers_gzip(&HeaderMap::new()));
        assert!(!asks(&["gzip", "gzip;q=0"]));
    }

    proptest! {
        /// Two lines are one list, and a line more that refuses gzip is obeyed.
        #[test]
        fn lines_are_one_list_and_a_refusal_counts(
            one in "[ -~]{0,20}|(gzip|br|\\*)( ?; ?q=[01](\\.[0-9]{0,3})?)?",
            other in "(gzip|identity|\\*)(;q=0(\\.[0-9]{0,3})?)?",
        ) {
            let joined = format!("{one},{other}");
            prop_assert_eq!(asks(&[&joined]), asks(&[&one, &other]));
            prop_assert!(!asks(&[&one, &other, "gzip;q=0"]));
        }
    }
}
