//! What the crates of cenote count, offered to any metrics registry.
//!
//! Statistics that implement [`Metrics`] describe each of their metrics and offer its values, read from the counters at that
//! moment. There is no recorder and no registry: nothing is formatted, stored or sent until somebody asks.
//!
//! ```
//! use cenote_metrics::{Description, Metrics, Row, Value};
//!
//! struct Doors { opened: u64, locked: u32, open: u32 }
//!
//! impl Metrics for Doors {
//!     const TABLE: &'static [Row<Self>] = &[
//!         Row::new(
//!             Description::counter("doors_opened_total", "Doors that were opened."),
//!             |doors, out| out.value(doors.opened),
//!         ),
//!         Row::new(Description::gauge("doors", "Doors, by state.").labels(&["state"]), |doors, out| {
//!             out.labelled(&["open"], doors.open);
//!             out.labelled(&["locked"], doors.locked);
//!         }),
//!     ];
//! }
//!
//! let mut seen = Vec::new();
//! Doors { opened: 7, locked: 1, open: 2 }.visit(&mut |sample| {
//!     if let Value::Number(value) = sample.value {
//!         seen.push(format!("{} {:?} {value}", sample.metric.name, sample.labels));
//!     }
//! });
//! assert_eq!(seen, ["doors_opened_total [] 7", "doors [\"open\"] 2", "doors [\"locked\"] 1"]);
//! ```

// In import order: a module uses only those above it.
mod description;
mod histogram;

mod atomic_histogram;
mod exemplars;
mod striped_counters;

mod table;

pub use atomic_histogram::AtomicHistogram;
pub use description::{Description, Kind, Unit};
pub use exemplars::{Exemplar, Exemplars};
pub use histogram::{Buckets, EDGES, Histogram};
pub use striped_counters::StripedCounters;
pub use table::{Metrics, Number, Row, Sample, Samples, Value};
