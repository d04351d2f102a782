//! The dashboard: a page at `/`, and a stream of figures for it and for `cenote top`.
//!
//! Invariant: however many look, the figures are read and written down once, and what a viewer does not take is dropped. All
//! memory is bounded by constants of this module.
//!
//! | To find | Look in |
//! |---|---|
//! | the files of the page | `assets`, `page/` |
//! | which figures are read, and the rows of numbers made of them | `figures` |
//! | the state in JSON | `state`, `slots` |
//! | the last failed requests and slow statements | `records` |
//! | what is wrong, in words | `verdicts`; where its signs come from: `diagnosis`, `windows` |
//! | who reads the figures, and how often | `sampler` |
//! | the past ten minutes | `history` |
//! | who watches, and what they are sent | `hub`, `viewer`, `frame`, `places`, `events` |

mod assets;
mod events;
mod figures;
mod places;
mod slots;
mod verdicts;
mod windows;

mod diagnosis;
mod frame;
mod history;
mod records;

mod state;

mod viewer;

mod hub;

mod sampler;

#[cfg(test)]
pub(crate) use self::figures::{COLUMNS, ROUTES_OF_CALLERS};
pub(crate) use self::{
    assets::{Asset, asset, page},
    hub::{Dashboard, NoViewer},
    sampler::{About, sample},
};
