//! The figures as lines of text, for `--once` and for the screen. Invariant: no line has control characters, whatever the
//! service sent.

use std::fmt::Write;

use super::model::{Cache, Failure, Level, Memory, Model, Pool, Queue, Server, Slot, Slow, Verdict};

/// The name of a line takes this many columns.
pub(super) const INDENT: usize = 10;
/// Most connections and records that are shown.
const MOST_HOLDERS: usize = 5;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `None`: neither good nor bad.
    pub(super) level: Option<Level>,
    pub(super) text: String,
}

/// The first line: which service, and since when.
pub(super) fn title(model: &Model) -> String {
    let about = &model.about;
    let instance = about.instance.as_deref().unwrap_or("an unknown address");
    let up = (model.time() / 1000).saturating_sub(about.started);
    printable(&format!("cenote {} at {instance}, up {}", about.version, seconds(up)))
}

/// The verdicts, broken at this width.
pub(super) fn verdicts(model: &Model, width: usize) -> Vec<Line> {
    let verdict = |verdict: Verdict| {
        let word = match verdict.level {
            Level::Critical => "CRITICAL",
            Level::Warning => "WARNING",
            Level::Info => "info",
            Level::Ok => "ok",
        };
        wrapped(word, &verdict.text, width).into_iter().map(move |text| Line {
            level: Some(verdict.level),
            text,
        })
    };
    model.verdicts().into_iter().flat_map(verdict).collect()
}

/// The figures of the moment.
pub(super) fn figures(model: &Model) -> Vec<Line> {
    let n = |column| model.number(column);
    let pool: Pool = model.member("pool");
    let mut lines = Lines::default();
    lines.add(
        "requests",
        format!(
            "{}/s, {} errors/s, {} refused/s; p50 {}, p99 {}, p99.9 {}; {} clients",
            n("requests"),
            n("errors"),
            n("refused"),
            micros(n("p50")),
            micros(n("p99")),
            micros(n("p999")),
            n("connections"),
        ),
    );
    lines.add(
        "pool",
        format!(
            "{} of {} in use, {} idle, {} connecting, {} cleaning{}{}",
            n("in_use"),
            pool.max + pool.overflow,
            n("idle"),
            n("connecting"),
            n("cleaning"),
            if pool.paused.is_some() { ", PAUSED" } else { "" },
            if pool.leaked > 0 {
                format!(", {} leaked", pool.leaked)
            } else {
                String::new()
            },
        ),
    );
    lines.add(
        "waits",
        format!(
            "{} wait, longest {}, p99 {}; held p99 {}",
            n("waiting"),
            micros(n("longest_wait")),
            micros(n("wait_p99")),
            micros(n("use_p99")),
        ),
    );
    let queues: Vec<Queue> = model.member("queues");
    let queues = queues.iter().map(|queue| {
        format!(
            "{} {} waiting, {:.1} a statement",
            queue.name, queue.waiting, queue.batch
        )
    });
    lines.add("queues", queues.collect::<Vec<_>>().join("; "));
    lines.add(
        "reads",
        format!(
            "{}/s near, {}/s Redis, {}/s database; {} statements/s",
            n("near"),
            n("shared"),
            n("database"),
            n("statements"),
        ),
    );
    parts(model, &mut lines);
    lines.0
}

/// Cache, servers and memory.
fn parts(model: &Model, lines: &mut Lines) {
    let cache: Cache = model.member("cache");
    lines.add(
        "cache",
        format!(
            "{}, {}; {} keys, {} of {} in the process",
            cache.mode,
            cache.state,
            cache.keys,
            bytes(cache.bytes),
            bytes(cache.limit),
        ),
    );
    let server = |server: Server| {
        let up = if server.up { "up" } else { "DOWN" };
        let host = server.host.map_or_else(String::new, |host| format!(" {host}"));
        let problem = server
            .problem
            .map_or_else(String::new, |problem| format!(": {problem}"));
        format!("{up}{host}{problem}")
    };
    if let Some(redis) = model.member::<Option<Server>>("redis") {
        lines.add("Redis", server(redis));
    }
    lines.add("database", server(model.member("database")));
    if let Some(memory) = model.member::<Option<Memory>>("memory") {
        lines.add(
            "memory",
            format!("{} of {}, {}", bytes(memory.used), bytes(memory.limit), memory.level),
        );
    }
}

/// The connections: a letter each, then the longest uses with their source lines.
pub(super) fn slots(model: &Model, width: usize) -> Vec<Line> {
    let mut slots: Vec<Slot> = model.member("slots");
    let letters: String = slots.iter().map(letter).collect();
    let more = match model.member::<u64>("slots_more") {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let mut lines = Lines::default();
    for text in wrapped("slots", &format!("{letters}{more}"), width) {
        lines.0.push(Line { level: None, text });
    }
    lines.add(
        "",
        "U in use, I idle, C connecting, R cleaning, X closing; small letters: overflow".to_owned(),
    );
    slots.retain(|slot| slot.age_ms.is_some());
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.age_ms));
    for (at, slot) in slots.iter().take(MOST_HOLDERS).enumerate() {
        let age = micros(slot.age_ms.unwrap_or(0).saturating_mul(1000));
        let holder = slot.holder.as_deref().unwrap_or_default();
        lines.add(if at == 0 { "held" } else { "" }, format!("{age:>8} by {holder}"));
    }
    lines.0
}

/// As on the page.
fn letter(slot: &Slot) -> char {
    let letter = match &*slot.state {
        "in-use" => 'U',
        "idle" => 'I',
        "connecting" => 'C',
        "cleaning" => 'R',
        "closing" => 'X',
        _ => '?',
    };
    match slot.overflow {
        true => letter.to_ascii_lowercase(),
        false => letter,
    }
}

/// The last failed requests and slow statements, at most this many of each.
pub(super) fn records(model: &Model, most: usize) -> Vec<Line> {
    let mut lines = Lines::default();
    let failures: Vec<Failure> = model.member("errors");
    for (at, failure) in failures.iter().take(most).enumerate() {
        let Failure {
            status,
            route,
            code,
            request_id,
            ..
        } = failure;
        let time = clock(failure.at);
        lines.add(
            if at == 0 { "errors" } else { "" },
            format!("{time} {status} {route} {code} {request_id}"),
        );
    }
    let slow: Vec<Slow> = model.member("statements");
    for (at, slow) in slow.iter().take(most).enumerate() {
        let [execute, queue, wait] = [slow.execute_us, slow.queue_us, slow.wait_us].map(micros);
        let time = clock(slow.at);
        lines.add(
            if at == 0 { "slow" } else { "" },
            format!("{time} {execute} {} (queue {queue}, wait {wait})", slow.name),
        );
    }
    lines.0
}

/// Everything, for `--once`.
pub(super) fn whole(model: &Model, width: usize) -> Vec<Line> {
    let title = Line {
        level: None,
        text: title(model),
    };
    let mut lines = vec![title];
    lines.extend(verdicts(model, width));
    lines.extend(figures(model));
    lines.extend(slots(model, width));
    lines.extend(records(model, MOST_HOLDERS));
    lines
}

/// A row as one line, for output that is no terminal.
pub(super) fn row(model: &Model) -> String {
    let n = |column| model.number(column);
    let names: Vec<_> = model.verdicts().into_iter().map(|verdict| verdict.name).collect();
    printable(&format!(
        "{} {}/s {} errors/s p50 {} p99 {} in use {} waiting {} {}",
        clock(model.time()),
        n("requests"),
        n("errors"),
        micros(n("p50")),
        micros(n("p99")),
        n("in_use"),
        n("waiting").max(n("queued")),
        names.join(","),
    ))
}

#[derive(Default)]
struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, name: &str, text: String) {
        let text = printable(&format!("{name:<INDENT$}{text}"));
        self.0.push(Line { level: None, text });
    }
}

/// The text in lines of at most this width, the first with a name.
fn wrapped(name: &str, text: &str, width: usize) -> Vec<String> {
    let room = width.saturating_sub(INDENT).max(20);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in printable(text).split(' ') {
        let mut word = word;
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        }
        // A word that is longer than a line is cut.
        while let Some((cut, _)) = word.char_indices().nth(room) {
            lines.push(word[..cut].to_owned());
            word = &word[cut..];
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    let named = |(at, line): (usize, String)| format!("{:<INDENT$}{line}", if at == 0 { name } else { "" });
    lines.into_iter().enumerate().map(named).collect()
}

fn printable(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '?' } else { it }).collect()
}

/// Microseconds in a unit that fits.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        _ => seconds(micros / 1_000_000),
    }
}

pub(super) fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// The time of day in UTC.
fn clock(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000 % 86_400;
    let mut text = String::new();
    // Cannot fail: a string takes all.
    let _written = write!(
        text,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::model::tests::{event, model},
        *,
    };

    #[test]
    fn the_verdict_comes_first_and_every_part_has_its_line() {
        let lines: Vec<String> = whole(&model(), 80).into_iter().map(|line| line.text).collect();
        assert_eq!(lines[0], "cenote 0.1.0 at 127.0.0.1:8000, up 60 min");
        assert_eq!(
            lines[1],
            "WARNING   All 10 connections are in use and 34 requests wait, the first for 1.2"
        );
        assert_eq!(lines[2], "          s. Held longest: 4.1 s by src/combiner.rs:214.");
        for expected in [
            "requests  1240/s, 2 errors/s, 3 refused/s; p50 210 µs, p99 34.0 ms, p99.9 51.0 ms; 64 clients",
            "pool      10 of 11 in use, 0 idle, 0 connecting, 0 cleaning",
            "waits     2 wait, longest 1.2 s, p99 30.0 ms; held p99 4.1 s",
            "queues    reads 34 waiting, 4.1 a statement",
            "cache     local, ok; 12 keys, 2.0 KiB of 64.0 MiB in the process",
            "database  up db-1:5432",
            "memory    100.0 MiB of 1.0 GiB, normal",
            "slots     UIc",
            "held         4.1 s by src/combiner.rs:214",
            "slow      14:46:38 1.5 s read keys (queue 10 µs, wait 20 µs)",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:#?}");
        }
        assert!(
            lines
                .iter()
                .any(|line| line.ends_with("503 /read/{key} pool-timeout id-7")),
            "{lines:#?}"
        );
    }

    #[test]
    fn what_the_service_sends_cannot_steer_the_terminal() {
        let mut model = model();
        let evil = "\u{1b}]0;title\u{7}\r\n\u{9b}2J";
        model.apply(event(
            "state",
            json!({
                "verdicts": [{"level": "ok", "text": evil}],
                "slots": [{"state": "in-use", "age_ms": 1, "holder": evil}],
                "database": {"up": false, "host": evil, "problem": evil},
                "errors": [{"route": evil, "code": evil, "request_id": evil}],
            }),
        ));
        for line in whole(&model, 80) {
            assert!(!line.text.contains(char::is_control), "{:?}", line.text);
        }
        assert!(!row(&model).contains(char::is_control));
    }

    #[test]
    fn a_long_word_is_cut_at_the_width() {
        let lines = wrapped("name", &"x".repeat(100), 50);
        assert!(lines.iter().all(|line| line.chars().count() <= 50), "{lines:?}");
        assert_eq!(lines.concat().matches('x').count(), 100);
    }
}
