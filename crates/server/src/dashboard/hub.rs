//! Where the sampler publishes, and viewers join.
//!
//! Invariant: each row and each state is written down once, for all viewers. A viewer that joins gets all rows up to the
//! frame that it has, and then the frames after it, each at most once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    events,
    figures::Row,
    frame::Frame,
    history::{History, write_row},
    places::Places,
    state::State,
    viewer::Viewer,
};

/// The dashboard's data. A clone is another handle to the same.
#[derive(Clone)]
pub(crate) struct Dashboard(Arc<Shared>);

struct Shared {
    /// The members of the first event that never change, as JSON without the braces.
    about: String,
    frames: watch::Sender<Arc<Frame>>,
    /// Also locked while a frame is published, so that a viewer misses no row and gets none twice.
    past: Mutex<Past>,
    places: Places,
}

struct Past {
    history: History,
    state: State,
    /// The rest of the first event, for viewers that know no rows yet; until the next frame.
    start: Option<Bytes>,
}

/// Why somebody cannot watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoViewer {
    /// As many watch as may.
    TooMany,
    /// The service stops.
    Draining,
}

impl Dashboard {
    /// `about`: the members of the first event that never change, as JSON without the braces.
    pub(super) fn new(about: String) -> Self {
        Self(Arc::new(Shared {
            about,
            frames: watch::Sender::new(Arc::default()),
            past: Mutex::new(Past {
                history: History::new(),
                state: State::default(),
                start: None,
            }),
            places: Places::default(),
        }))
    }

    /// The places of viewers.
    pub(super) fn places(&self) -> &Places {
        &self.0.places
    }

    /// Publishes the figures of a moment.
    pub(super) fn publish(&self, row: Option<Row>, state: State) {
        let mut past = self.past();
        let mut text = Vec::new();
        if let Some(row) = row {
            let mut json = Vec::new();
            write_row(&row, &mut json);
            events::push(&mut text, "row", &json);
            past.history.push(row);
        }
        let row = Bytes::from(text.clone());
        if let Some(changes) = state.changes(&past.state) {
            events::push(&mut text, "state", &changes);
        }
        past.start = None;
        let whole_state = state.whole().into();
        past.state = state;
        self.0.frames.send_if_modified(|frame| {
            if frame.is_last {
                return false;
            }
            *frame = Arc::new(Frame {
                number: frame.number + 1,
                next: text.into(),
                row,
                state: whole_state,
                ..Frame::default()
            });
            true
        });
        drop(past);
    }

    /// Ends all streams at once. Nobody can watch any more.
    pub(crate) fn end(&self) {
        self.0.frames.send_modify(|frame| {
            *frame = Arc::new(Frame {
                number: frame.number + 1,
                is_last: true,
                ..Frame::default()
            });
        });
    }

    /// Begins to watch. `since`: the time of the last row that the viewer has, in milliseconds since 1970, or 0. `may_act`:
    /// whether it may change something too.
    ///
    /// # Errors
    ///
    /// Too many watch, or the service stops.
    pub(crate) fn watch(&self, since: u64, may_act: bool) -> Result<Viewer, NoViewer> {
        let Some(place) = self.0.places.take() else {
            return Err(NoViewer::TooMany);
        };
        let mut past = self.past();
        let mut frames = self.0.frames.subscribe();
        let frame = frames.borrow_and_update().clone();
        if frame.is_last {
            return Err(NoViewer::Draining);
        }
        let rest = match since {
            0 => match past.start.take() {
                Some(start) => start,
                None => start(&past, &frame, 0),
            },
            since => start(&past, &frame, since),
        };
        if since == 0 {
            past.start = Some(rest.clone());
        }
        drop(past);
        let head = format!(
            "{}event: start\ndata: {{\"actions\":{may_act},{}",
            events::RETRY,
            self.0.about
        );
        Ok(Viewer::new(place, frames, frame.number, head.into(), rest))
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // What it guards is whole after each statement.
        self.0.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first event from its history on.
fn start(past: &Past, frame: &Frame, since: u64) -> Bytes {
    let mut json = b",\"history\":".to_vec();
    past.history.write_later(since, &mut json);
    json.extend_from_slice(b",\"state\":");
    json.extend_from_slice(match &*frame.state {
        // Nothing was read yet.
        [] => b"{}",
        state => state,
    });
    json.extend_from_slice(b"}\n\n");
    json.into()
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
