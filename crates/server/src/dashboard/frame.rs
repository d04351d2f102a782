//! What viewers are sent at one moment. Invariant: each form of it is written down once, for all viewers.

use std::sync::OnceLock;

use bytes::Bytes;

use super::events;

/// What viewers are sent at one moment.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) number: u64,
    /// For viewers that have the frame before: the row, and what changed in the state.
    pub(super) next: Bytes,
    pub(super) row: Bytes,
    /// The whole state, as JSON.
    pub(super) state: Bytes,
    /// For viewers that missed a frame. Made for the first that needs it.
    pub(super) whole: OnceLock<Bytes>,
    /// Nothing follows.
    pub(super) is_last: bool,
}

impl Frame {
    /// The row and the whole state, for viewers that missed the frame before.
    pub(super) fn whole(&self) -> Bytes {
        let make = || {
            let mut text = self.row.to_vec();
            events::push(&mut text, "state", &self.state);
            text.into()
        };
        self.whole.get_or_init(make).clone()
    }
}
