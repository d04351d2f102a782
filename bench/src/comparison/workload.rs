//! What clients ask for. Invariant: every request has an answer, and that answer is 200.

use std::io::Write;

use fastrand::Rng;

/// Keys that are there from the start, `key-00000` and so on; requests choose among them at random.
pub(super) const KEYS: u32 = 10_000;
/// Users that are there from the start, numbered from 1.
pub(super) const USERS: u32 = 1_000;
/// In a mixed workload, one request in this many is a write.
const MIX: u32 = 10;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Workload {
    /// `GET /read/{key}`.
    Read,
    /// `GET /users/{id}`.
    Users,
    /// `POST /write`.
    Write,
    /// Nine reads, one write.
    Mixed,
    /// Reads of keys that have all been read before, by services with a cache.
    Cached,
    /// Nine reads, one write, to services with a cache.
    CachedMixed,
    /// The reads of [`Cached`](Self::Cached), with credentials and without.
    Guarded,
    /// `GET /users/?limit=1000`, which is much work for the database and the service.
    List,
}

impl Workload {
    /// Its name on the command line and in tables.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Users => "users",
            Self::Write => "write",
            Self::Mixed => "mixed",
            Self::Cached => "cached",
            Self::CachedMixed => "cached-mixed",
            Self::Guarded => "guarded",
            Self::List => "list",
        }
    }

    /// What is asked for.
    #[must_use]
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Read => "`GET /read/{key}`, 10,000 keys at random",
            Self::Users => "`GET /users/{id}`, 1,000 users at random",
            Self::Write => "`POST /write`, 10,000 keys at random",
            Self::Mixed => "nine reads, one write",
            Self::Cached => "reads of keys that have all been read before",
            Self::CachedMixed => "nine reads, one write, with a cache",
            Self::Guarded => "reads from the cache with credentials and limits, and refusals",
            Self::List => "`GET /users/?limit=1000`",
        }
    }

    /// Whether it is for services with a cache.
    #[must_use]
    pub(super) fn is_cached(self) -> bool {
        matches!(self, Self::Cached | Self::CachedMixed | Self::Guarded)
    }

    /// Appends a request with its random choices to `out`.
    pub(super) fn write_request(self, random: &mut Rng, out: &mut Vec<u8>) {
        match self {
            Self::Read | Self::Cached | Self::Guarded => read(random.u32(..KEYS), out),
            Self::Users => get(format_args!("/users/{}", 1 + random.u32(..USERS)), out),
            Self::List => get(format_args!("/users/?limit={USERS}"), out),
            Self::Write => write(random, out),
            Self::Mixed | Self::CachedMixed if random.u32(..MIX) == 0 => write(random, out),
            Self::Mixed | Self::CachedMixed => read(random.u32(..KEYS), out),
        }
    }
}

/// Appends a read of one of the [`KEYS`].
pub(super) fn read(key: u32, out: &mut Vec<u8>) {
    get(format_args!("/read/key-{key:05}"), out);
}

/// Appends a GET.
pub(super) fn get(path: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    append(out, format_args!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
}

/// Appends a POST of JSON.
pub(super) fn post(path: &str, json: &str, out: &mut Vec<u8>) {
    let length = json.len();
    append(
        out,
        format_args!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{json}"
        ),
    );
}

/// A write of as many bytes as the values have that are there from the start.
fn write(random: &mut Rng, out: &mut Vec<u8>) {
    let key = random.u32(..KEYS);
    let value = random.u128(..);
    let json = format!(r#"{{"key":"key-{key:05}","value":"{value:032x}{value:032x}"}}"#);
    post("/write", &json, out);
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(workload: Workload, count: usize) -> Vec<String> {
        let mut random = Rng::with_seed(7);
        let request = |_| {
            let mut out = Vec::new();
            workload.write_request(&mut random, &mut out);
            String::from_utf8(out).unwrap_or_default()
        };
        (0..count).map(request).collect()
    }

    #[test]
    fn a_tenth_of_a_mixed_workload_are_writes() {
        let all = requests(Workload::Mixed, 10_000);
        let writes = all.iter().filter(|r| r.starts_with("POST /write ")).count();
        assert!((900..1100).contains(&writes), "{writes}");
        assert!(
            all.iter()
                .all(|r| r.starts_with("POST /write ") || r.starts_with("GET /read/key-"))
        );
    }

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        for request in requests(Workload::Write, 10) {
            let (head, body) = request.split_once("\r\n\r\n").unwrap_or_default();
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{request}");
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
        }
    }
}
