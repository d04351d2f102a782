//! The one place that every request passes before its route: who sends it, whether they may, and how often.
//!
//! Invariant: the order is from cheap to dear – the failures of the address, the credentials, the scope, the limit. A
//! request that is refused reaches no handler, and its body is not read.
//!
//! | To find | Look in |
//! |---|---|
//! | which route needs what | `rules` |
//! | the decisions, in their order | `gate` |
//! | administration without credentials | `local` |
//! | administration by pages in a browser | `pages` |
//! | the line of the audit for a call | `audited` |

mod audited;
mod gate;
mod local;
mod pages;
mod rules;

use std::sync::Arc;

use axum::http::{Request, Response};
use http_body_util::Either;

use self::gate::Sender;
pub(crate) use self::gate::{Gate, GateConfig};
pub use self::rules::OpenGroup;
use crate::{
    auth::{Identity, Scope},
    http::{RequestBody, ResponseBody, Service, Stage, Stopwatch, Timings},
    limits::Verdict,
};

/// In the extensions of a request for the figures of the dashboard: its sender could administer the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MayAdminister;

/// A service behind the gate. One for each core.
pub(crate) struct Guarded<S> {
    pub(crate) service: S,
    pub(crate) gate: Arc<Gate>,
}

impl<S: Service> Service for Guarded<S> {
    async fn call(&self, mut request: Request<RequestBody>) -> Response<ResponseBody> {
        let gate = &*self.gate;
        let limits = gate.limits();
        let visit = gate.visit(&request, &limits);
        if gate.is_open_to_all(visit, &limits) {
            drop(limits);
            return self.service.call(request).await;
        }
        let mut audited = gate.audit(&request, visit);
        let timings = request.body().timings().cloned();
        let watch = Stopwatch::start(timings.as_ref());
        let sender = match gate.identify(&request, visit) {
            Sender::Known(identity) => Ok(identity),
            Sender::Refused(problem) => Err(problem),
            // Boxed, as all that is rare here: every request would move its state.
            Sender::Unknown(pending) => Box::pin(gate.resolve(pending, visit)).await.map(Some),
        };
        watch.stop(Stage::Auth);
        let (identity, refusal) = match sender {
            Ok(identity) => (identity, None),
            Err(problem) => (None, Some(problem)),
        };
        if let Some(audited) = &mut audited {
            match &identity {
                Some(identity) => audited.is_by(&identity.name),
                // Nobody has to show anything, and the request comes from this machine.
                None if refusal.is_none() => audited.is_by("local"),
                None => {}
            }
        }
        if visit.is_watch() && gate.may_administer(&request, identity.as_deref()) {
            request.extensions_mut().insert(MayAdminister);
        }
        let measured = identity.as_deref().and_then(|identity| measure(&mut request, identity));
        let watch = Stopwatch::start(request.body().timings());
        let admitted = match refusal {
            Some(problem) => Err(problem),
            None => gate.admit(visit, &limits, identity.as_deref()),
        };
        let (headers, refusal) = match admitted {
            Ok(verdict) => (
                verdict.as_ref().map(Verdict::headers),
                verdict.as_ref().and_then(Verdict::refusal),
            ),
            Err(problem) => (None, Some(problem)),
        };
        watch.stop(Stage::Limit);
        // Nothing of the decisions is held while the handler runs.
        drop((limits, identity));
        let mut response = match refusal {
            Some(problem) => problem.into_full_response().map(Either::Left),
            None => self.service.call(request).await,
        };
        if let Some(headers) = headers {
            headers.add_to(response.headers_mut());
        }
        if let Some(timings) = measured {
            response.extensions_mut().insert(timings);
        }
        if let Some(audited) = audited {
            Box::pin(audited.end(&response)).await;
        }
        response
    }
}

/// Measures what an administrator's request spends its time on from now on, if nothing measures it yet. The request layer
/// finds the result in the extensions of the response.
fn measure(request: &mut Request<RequestBody>, identity: &Identity) -> Option<Timings> {
    let body = request.body_mut();
    if !identity.scopes.has(Scope::Admin) || body.timings().is_some() {
        return None;
    }
    let timings = Timings::default();
    body.measure(timings.clone());
    Some(timings)
}
