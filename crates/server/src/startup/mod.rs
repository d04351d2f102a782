//! The composition root: builds a service, or only its database, from settings, runs it, and stops it.
//!
//! Invariant: a failure leaves nothing running.
//!
//! | To find | Look in |
//! |---|---|
//! | which parts a service has, and how they are joined | `compose` |
//! | what it does until its end | `service` |
//! | why it cannot be built, or ended by itself | `failure` |
//! | sockets, threads' files and memory | `listen`, `memory` |
//! | the database, and the wait for it | `backend`, `private`, `reach`, `readiness` |
//! | the cache, credentials, the first key | `cache`, `auth`, `first_key` |
//! | what a reload changes | `reload` |

mod auth;
mod backend;
mod cache;
mod compose;
mod failure;
mod first_key;
mod listen;
mod memory;
mod private;
mod reach;
mod readiness;
mod reload;
mod service;

use tokio::runtime::Handle;

pub(crate) use self::{
    auth::{key_hasher, tokens},
    backend::{Backend, Opened},
    cache::{CacheError, cache_config, limits_redis},
    listen::as_reached_from_here,
    reach::reach,
    reload::LoadedFrom,
};
use self::{
    compose::{Surroundings, compose},
    failure::Failure,
};
pub use self::{
    failure::{RunError, StartError},
    service::{Service, Stop},
};
use crate::{memory_watch::MemoryReader, settings::Settings, spans::Spans, systemd::PassedSockets};

/// Binds the listeners, starts the threads that serve, and opens the pool over the database that the settings name. If
/// they name none, it starts a private PostgreSQL and waits for it. A database or a Redis that does not answer is no
/// error: [`Service::run`] waits for it.
///
/// # Errors
///
/// [`StartError`], after which nothing is left running.
///
/// # Cancel safety
///
/// A dropped future closes what it has opened.
pub async fn build(settings: Settings) -> Result<Service, StartError> {
    // Boxed, because it is large.
    Ok(Box::pin(compose(settings, Surroundings::default())).await?)
}

/// Like [`build`], but accepts on the sockets that systemd passed, if it passed any, and not on `HOST` and `PORT`; the
/// settings can be reloaded, and `spans` are exported.
pub(crate) async fn build_for_serve(
    settings: Settings,
    from: LoadedFrom,
    sockets: PassedSockets,
    spans: Spans,
) -> Result<Service, StartError> {
    let surroundings = Surroundings {
        sockets,
        from: Some(from),
        spans,
        ..Surroundings::default()
    };
    Ok(Box::pin(compose(settings, surroundings)).await?)
}

/// Opens only the pool over the database of the settings, on this runtime, for commands that serve nothing. A database
/// that does not answer is no error.
///
/// # Errors
///
/// [`StartError`], after which nothing is left running.
///
/// # Cancel safety
///
/// A dropped future closes what it has opened.
pub(crate) async fn open(settings: Settings) -> Result<Opened, StartError> {
    let opened = Opened::open(settings, &[Handle::current()]).await;
    Ok(opened.map_err(Failure::from)?)
}

/// Like [`build`], with another reader of the memory than the system's; `None` watches none. For tests.
///
/// # Errors
///
/// Those of [`build`].
///
/// # Cancel safety
///
/// As [`build`].
pub async fn build_with_memory(
    settings: Settings,
    reader: Option<Box<dyn MemoryReader>>,
) -> Result<Service, StartError> {
    let surroundings = Surroundings {
        memory: reader,
        ..Surroundings::default()
    };
    Ok(Box::pin(compose(settings, surroundings)).await?)
}
