//! `/metrics`: what the service counts, as text for Prometheus and others that read its formats.
//!
//! Invariant: nothing is recorded for metrics alone that a counter does not hold already: a scrape reads the counters and
//! writes the text. The number of series is bounded, because the values of labels come from closed sets.
//!
//! | To find | Look in |
//! |---|---|
//! | the metrics, what they mean, and where each value comes from | `tables`; those of the libraries are in their crates |
//! | what is read at a scrape | `snapshot`, and `process` for what the system says |
//! | the formats, and which a caller gets | `text`, `negotiation` |
//! | docs/metrics.md | `docs` |

#[cfg(test)]
mod docs;
mod negotiation;
mod process;
mod snapshot;
mod tables;
mod text;

pub(crate) use self::{negotiation::format_for, snapshot::Snapshot, text::Format};

/// What a text takes, about.
const USUAL_BYTES: usize = 64 * 1024;

/// Writes the metrics of this moment.
pub(crate) fn write(snapshot: &Snapshot, format: Format) -> String {
    let mut text = text::Text::new(format, USUAL_BYTES);
    snapshot.visit(&mut |sample| text.add(sample));
    text.finish()
}
