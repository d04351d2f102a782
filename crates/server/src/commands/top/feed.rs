//! Follows the stream of a service, and connects again when it ends.
//!
//! Invariant: only a failure of the first attempt is final; after that an instance may restart or be replaced.

use std::{cell::Cell, time::Duration};

use axum::http::{Request, header::AUTHORIZATION};
use bytes::Bytes;
use http_body_util::Full;
use tokio::time::sleep;

use super::events::{Event, Foreign, Parser};
use crate::{
    commands::admin::{Failure, Target, judge, unanswered},
    http_client::{Client, ClientError},
};

/// The service sends something every 15 s at least.
const SILENCE: Duration = Duration::from_secs(20);
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What happens on the stream.
pub(super) enum Update {
    Event(Event),
    /// The stream has ended, or could not be opened. Another attempt follows.
    Lost(String),
}

/// Why there is no stream. The text continues a sentence that starts with the URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoStream {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error(transparent)]
    Foreign(#[from] Foreign),
    #[error("the stream broke off: {0}")]
    BrokeOff(ClientError),
    #[error("the service is stopping")]
    Draining,
    #[error("the stream ended")]
    Ended,
}

/// Why a stream ended that had begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The service wants to see the credentials again.
    Renew,
    Draining,
}

/// Follows the stream of the service. Returns only if the first attempt fails.
///
/// # Cancel safety
///
/// A dropped future closes the connection.
pub(super) async fn follow(client: &Client, target: &Target, mut take: impl FnMut(Update)) -> NoStream {
    let has_begun = Cell::new(false);
    let mut pause = SHORTEST_PAUSE;
    loop {
        let begun_now = Cell::new(false);
        let ended = read(client, target, |event| {
            if event.name == "start" {
                has_begun.set(true);
                begun_now.set(true);
            }
            take(Update::Event(event));
        })
        .await;
        let why = match ended {
            Ok(()) => continue,
            Err(why) if !has_begun.get() => return why,
            Err(why) => why,
        };
        if begun_now.get() {
            pause = SHORTEST_PAUSE;
        }
        take(Update::Lost(why.to_string()));
        // Not all viewers of an instance that restarts at once.
        sleep(pause.mul_f64(fastrand::f64().mul_add(0.5, 0.75))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Reads one stream. `Ok` if the service wants the viewer to connect again.
async fn read(client: &Client, target: &Target, mut take: impl FnMut(Event)) -> Result<(), NoStream> {
    let url = target.url.below("/dashboard/events");
    let mut request = Request::new(Full::<Bytes>::default());
    if let Some(credentials) = &target.credentials {
        request.headers_mut().insert(AUTHORIZATION, credentials.clone());
    }
    let mut parser = Parser::default();
    let mut foreign = None;
    let mut end = None;
    let take_piece = |piece: Bytes| {
        let parsed = parser.push(&piece, |event| match (&*event.name, event.data["reason"].as_str()) {
            ("end", Some("renew")) => end = Some(End::Renew),
            ("end", _) => end = Some(End::Draining),
            _ => take(event),
        });
        foreign = foreign.or(parsed.err());
    };
    let answer = client.stream(&url, request, SILENCE, take_piece).await;
    if let Some(foreign) = foreign {
        return Err(foreign.into());
    }
    match (answer, end) {
        (_, Some(End::Renew)) => Ok(()),
        (_, Some(End::Draining)) => Err(NoStream::Draining),
        (Ok(answer), None) if answer.status.is_success() => Err(NoStream::Ended),
        (Ok(answer), None) => match judge(answer, target.credentials.is_some()) {
            Ok(_) => Err(NoStream::Ended),
            Err(failure) => Err(failure.into()),
        },
        (Err(error), None) if error.was_sent() && error.tls_failure().is_none() => Err(NoStream::BrokeOff(error)),
        (Err(error), None) => Err(unanswered(error).into()),
    }
}
