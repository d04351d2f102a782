//! `If-Match` and `If-None-Match` (RFC 9110, section 13). Invariant: a malformed header is refused, never ignored.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ETAG, IF_MATCH, IF_NONE_MATCH},
};

use crate::{
    http::{FullResponse, Problem},
    store::{ABSENT, Condition},
};

/// The conditions of a request on the version of its key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Preconditions {
    if_match: Option<Condition>,
    if_none_match: Option<Condition>,
}

/// How a conditional read is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200, with the value.
    Send,
    /// 304
    NotModified,
    /// 412
    Failed,
}

impl Preconditions {
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let if_match = tags(headers, &IF_MATCH)?.map(|tags| match tags {
            Tags::Any => Condition::Unlike(vec![ABSENT]),
            // A weak tag never matches here: section 13.1.1 requires the strong comparison.
            Tags::These(tags) => Condition::Among(versions(tags.into_iter().filter(|tag| !tag.weak))),
        });
        let if_none_match = tags(headers, &IF_NONE_MATCH)?.map(|tags| match tags {
            Tags::Any => Condition::Among(vec![ABSENT]),
            Tags::These(tags) => Condition::Unlike(versions(tags.into_iter())),
        });
        Ok(Self {
            if_match,
            if_none_match,
        })
    }

    pub(super) fn any(&self) -> bool {
        self.if_match.is_some() || self.if_none_match.is_some()
    }

    /// Returns the condition under which a write is made.
    pub(super) fn into_condition(self) -> Option<Condition> {
        match (self.if_match, self.if_none_match) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        }
    }

    /// Judges a read of this version, in the order of section 13.2.2.
    pub(super) fn verdict(&self, version: i64) -> Verdict {
        let fails = |condition: &Option<Condition>| {
            let condition = condition.as_ref();
            condition.is_some_and(|condition| !condition.holds(version))
        };
        if fails(&self.if_match) {
            Verdict::Failed
        } else if fails(&self.if_none_match) {
            Verdict::NotModified
        } else {
            Verdict::Send
        }
    }
}

/// The status of a read of this version under these headers, for a fuzzer.
#[cfg(fuzzing)]
pub fn status_for_version(if_match: Option<HeaderValue>, if_none_match: Option<HeaderValue>, version: i64) -> u16 {
    let headers = [(IF_MATCH, if_match), (IF_NONE_MATCH, if_none_match)];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
    match Preconditions::from_headers(&headers.collect()).map(|conditions| conditions.verdict(version)) {
        Ok(Verdict::Send) => 200,
        Ok(Verdict::NotModified) => 304,
        Ok(Verdict::Failed) => 412,
        Err(_) => 400,
    }
}

/// Returns the 412 for a key whose current version fails the condition; [`ABSENT`] if the key has no value.
pub(super) fn failed(version: i64) -> FullResponse {
    if version == ABSENT {
        return Problem::precondition_failed("there is no value under this key").into_full_response();
    }
    let detail = format!("the key has version {version}, which the request excludes");
    let mut response = Problem::precondition_failed(detail).into_full_response();
    response.headers_mut().insert(ETAG, entity_tag(version));
    response
}

/// Formats a version as a strong entity tag. A key never has the same version twice.
pub(super) fn entity_tag(version: i64) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(version).as_bytes();
    // An i64 has at most 20 characters, and the quotes are two.
    let mut tag = [b'"'; 22];
    tag[1..=digits.len()].copy_from_slice(digits);
    // Cannot fail: digits and quotes are valid in a header.
    HeaderValue::from_bytes(&tag[..digits.len() + 2]).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// The parsed value of one of the headers.
enum Tags<'a> {
    /// `*`
    Any,
    These(Vec<Tag<'a>>),
}

struct Tag<'a> {
    weak: bool,
    /// The text between the quotes.
    opaque: &'a [u8],
}

/// Returns the versions that tags name. A tag that [`entity_tag`] cannot have written names none.
fn versions<'a>(tags: impl Iterator<Item = Tag<'a>>) -> Vec<i64> {
    let version = |tag: Tag<'_>| {
        let version: i64 = std::str::from_utf8(tag.opaque).ok()?.parse().ok()?;
        let written = itoa::Buffer::new().format(version).as_bytes() == tag.opaque;
        (written && version > ABSENT).then_some(version)
    };
    tags.filter_map(version).collect()
}

/// Parses all values of a header as one list (section 5.3); `None` if the header is absent.
fn tags<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<Tags<'h>>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let malformed = || {
        Problem::bad_request(format!(
            "the header {} is neither * nor a list of entity tags such as \"2\"",
            match *name {
                IF_MATCH => "If-Match",
                _ => "If-None-Match",
            }
        ))
    };
    let (mut any, mut these) = (false, Vec::new());
    for value in headers.get_all(name) {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            any = true;
            continue;
        }
        loop {
            // Empty elements of a list are ignored (section 5.6.1).
            while let Some((b',' | b' ' | b'\t', after)) = rest.split_first() {
                rest = after;
            }
            if rest.is_empty() {
                break;
            }
            let (tag, after) = first_tag(rest).ok_or_else(malformed)?;
            these.push(tag);
            rest = after.trim_ascii_start();
            if !rest.is_empty() && rest[0] != b',' {
                return Err(malformed());
            }
        }
    }
    match (any, these.is_empty()) {
        (true, true) => Ok(Some(Tags::Any)),
        (false, false) => Ok(Some(Tags::These(these))),
        _ => Err(malformed()),
    }
}

/// Parses the entity tag at the start of a text; returns it and the rest.
fn first_tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (weak, text) = match text.strip_prefix(b"W/") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|byte| *byte == b'"')?;
    let opaque = &text[..end];
    let is_tag = opaque.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..));
    is_tag.then_some((Tag { weak, opaque }, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(name: HeaderName, values: &[&str]) -> Result<Preconditions, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Preconditions::from_headers(&headers)
    }

    fn condition(name: HeaderName, values: &[&str]) -> Option<Condition> {
        of(name, values).unwrap().into_condition()
    }

    #[test]
    fn lists_weak_tags_and_repeated_headers_give_one_condition() {
        use Condition::{Among, Unlike};
        assert_eq!(condition(IF_MATCH, &[]), None);
        for (values, versions) in [
            (&["\"2\""][..], vec![2]),
            (&["\"2\", \"3\""], vec![2, 3]),
            (&[" ,\"2\",,\t\"3\" , "], vec![2, 3]),
            (&["\"2\"", "\"3\""], vec![2, 3]),
            (&["\"x,\", \"3\""], vec![3]),
            (
                &["\"\", \"02\", \"+2\", \"0\", \"-1\", \"99999999999999999999\""],
                vec![],
            ),
        ] {
            assert_eq!(condition(IF_MATCH, values), Some(Among(versions.clone())), "{values:?}");
            assert_eq!(condition(IF_NONE_MATCH, values), Some(Unlike(versions)), "{values:?}");
        }
        let weak = ["W/\"2\", \"3\""];
        assert_eq!(condition(IF_MATCH, &weak), Some(Among(vec![3])));
        assert_eq!(condition(IF_NONE_MATCH, &weak), Some(Unlike(vec![2, 3])));
        assert_eq!(condition(IF_MATCH, &["*"]), Some(Unlike(vec![ABSENT])));
        assert_eq!(condition(IF_NONE_MATCH, &[" * "]), Some(Among(vec![ABSENT])));
    }

    #[test]
    fn a_malformed_list_of_entity_tags_is_refused() {
        for values in [
            &[""][..],
            &[","],
            &["2"],
            &["\"2"],
            &["2\""],
            &["w/\"2\""],
            &["W/ \"2\""],
            &["\"2\"\"3\""],
            &["\"2\" \"3\""],
            &["\"2 3\""],
            &["*, \"2\""],
            &["*", "\"2\""],
            &["**"],
        ] {
            for name in [IF_MATCH, IF_NONE_MATCH] {
                assert!(of(name, values).is_err(), "{values:?}");
            }
        }
    }

    #[test]
    fn a_read_judges_if_match_first() {
        let both = Preconditions {
            if_match: condition(IF_MATCH, &["\"2\""]),
            if_none_match: condition(IF_NONE_MATCH, &["\"2\""]),
        };
        assert_eq!(both.verdict(2), Verdict::NotModified);
        assert_eq!(both.verdict(3), Verdict::Failed);
    }

    proptest! {
        #[test]
        fn every_value_is_parsed_without_a_panic_and_an_entity_tag_names_its_version(
            value in "[ -~\\t]{0,40}",
            version in 1..=i64::MAX,
        ) {
            let _either = of(IF_MATCH, &[&value]);
            let tag = entity_tag(version);
            let condition = condition(IF_MATCH, &[tag.to_str().unwrap()]);
            prop_assert_eq!(condition, Some(Condition::Among(vec![version])));
        }
    }
}
