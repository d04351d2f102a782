//! The decisions on a request. Invariant: only the look-up of unknown credentials waits, for a bounded time.

use std::{net::IpAddr, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use axum::http::{HeaderMap, Request};
use tokio::time::Instant;

use super::{
    audited::Audited,
    local, pages,
    rules::{Needs, OpenGroup, OpenGroups, Rule, WATCH},
};
use crate::{
    audit::AuditLog,
    auth::{Authenticator, Certificates, Decision, Identity, Method, Pending, Refusal, Scope},
    http::{Problem, RequestBody},
    limits::{Base, Caller, ClassId, Limits, LimitsConfig, Verdict},
};

/// Decides on requests. All cores share one.
pub(crate) struct Gate {
    /// `None`: nobody has to show credentials.
    authenticator: Option<Arc<Authenticator>>,
    /// Names clients that show a certificate and need not show a key or token.
    certificates: Option<Arc<Certificates>>,
    limits: ArcSwap<Limits>,
    /// The routes that everyone may use.
    open: OpenGroups,
    audit: AuditLog,
    /// Whether pages in a browser may administer the service.
    pages_may_act: bool,
}

/// What operators decide about the gate.
pub(crate) struct GateConfig<'a> {
    /// The routes that everyone may use.
    pub(crate) open: &'a [OpenGroup],
    /// `DASHBOARD_ACTIONS`: whether pages in a browser may administer the service.
    pub(crate) pages_may_act: bool,
}

/// What the gate knows of a request before it looks at the credentials.
#[derive(Clone, Copy)]
pub(super) struct Visit {
    rule: Rule,
    /// The limit that the request counts against.
    class: Option<ClassId>,
    pub(super) client: IpAddr,
    /// Whether a proxy names the client: then a certificate is that of the proxy.
    is_proxied: bool,
    received: Instant,
}

/// What can be said of the sender at once.
pub(super) enum Sender {
    /// `None`: nobody has to show credentials, and the sender shows no certificate either.
    Known(Option<Arc<Identity>>),
    Refused(Problem),
    /// [`Gate::resolve`] tells.
    Unknown(Pending),
}

impl Visit {
    pub(super) fn is_administration(self) -> bool {
        self.rule.limit == Some(Base::Admin)
    }

    /// Whether the sender wants the figures of the dashboard.
    pub(super) fn is_watch(self) -> bool {
        self.rule == WATCH
    }

    fn charge<'a>(self, limits: &'a Limits, identity: Option<&'a Identity>) -> Option<Verdict<'a>> {
        let is_of_proxy = |identity: &Identity| identity.method == Method::Certificate && self.is_proxied;
        let (caller, overrides) = match identity.filter(|identity| !is_of_proxy(identity)) {
            Some(identity) => (Caller::Identity(identity.id), identity.limits.as_ref()),
            None => (Caller::Address(self.client), None),
        };
        Some(limits.charge(self.class?, caller, overrides, self.received))
    }
}

impl Gate {
    pub(crate) fn new(
        authenticator: Option<Arc<Authenticator>>,
        certificates: Option<Arc<Certificates>>,
        limits: Arc<Limits>,
        config: &GateConfig<'_>,
        audit: AuditLog,
    ) -> Self {
        let gate = Self {
            authenticator,
            certificates,
            limits: ArcSwap::new(limits),
            open: OpenGroups::default(),
            audit,
            pages_may_act: config.pages_may_act,
        };
        gate.set_open(config.open);
        gate
    }

    /// Changes the routes that everyone may use.
    pub(crate) fn set_open(&self, groups: &[OpenGroup]) {
        self.open.set(groups);
    }

    /// The limits in force. A request is judged by those that are when it arrives.
    pub(crate) fn limits(&self) -> Guard<Arc<Limits>> {
        self.limits.load()
    }

    /// Changes the limits. Returns whether that is possible: not if they are shared.
    pub(crate) fn set_limits(&self, config: &LimitsConfig) -> bool {
        let new = self.limits.load().reconfigured(config);
        let is_possible = new.is_some();
        if let Some(new) = new {
            self.limits.store(Arc::new(new));
        }
        is_possible
    }

    pub(super) fn visit(&self, request: &Request<RequestBody>, limits: &Limits) -> Visit {
        let (method, path) = (request.method(), request.uri().path());
        let rule = Rule::of(method, path);
        Visit {
            rule,
            class: rule.limit.map(|base| limits.class_of(method, path, base)),
            client: request.body().client(),
            is_proxied: request.body().client() != request.body().peer().address,
            received: request.body().received(),
        }
    }

    /// Whether nothing is asked of the sender, nor counted.
    pub(super) fn is_open_to_all(&self, visit: Visit, limits: &Limits) -> bool {
        let is_unlimited = visit.class.is_none_or(|class| limits.is_off(class));
        is_unlimited && !self.asks_for_credentials(visit.rule) && !visit.is_administration() && !visit.is_watch()
    }

    fn asks_for_credentials(&self, rule: Rule) -> bool {
        let is_opened = rule.group.is_some_and(|group| self.open.contains(group));
        self.authenticator.is_some() && rule.needs != Needs::Nothing && !is_opened
    }

    /// Looks at the credentials.
    pub(super) fn identify(&self, request: &Request<RequestBody>, visit: Visit) -> Sender {
        let subject = request.body().peer().subject.as_ref();
        if visit.is_administration()
            && let Err(problem) = pages::check(request, self.pages_may_act)
        {
            return Sender::Refused(problem);
        }
        let authenticator = match &self.authenticator {
            Some(authenticator) if self.asks_for_credentials(visit.rule) => authenticator,
            None if visit.is_administration() && !local::is_local(request) => {
                return Sender::Refused(local::refusal());
            }
            _ => return Sender::Known(self.owner(subject)),
        };
        match authenticator.authenticate(request.headers(), subject, visit.received.into_std()) {
            Decision::Known(identity) => Sender::Known(Some(identity)),
            Decision::Refused(refusal) => Sender::Refused(self.refuse(refusal, visit)),
            // A look-up or a signature costs more than all else, so an address that failed too often gets none.
            Decision::Unknown(pending) => match self.failures(visit) {
                Some(problem) => Sender::Refused(problem),
                None => Sender::Unknown(pending),
            },
        }
    }

    fn owner(&self, subject: Option<&Arc<str>>) -> Option<Arc<Identity>> {
        let (certificates, subject) = self.certificates.as_ref().zip(subject)?;
        Some(certificates.owner(subject))
    }

    /// Asks for credentials that are not known. Waits for a bounded time.
    pub(super) async fn resolve(&self, pending: Pending, visit: Visit) -> Result<Arc<Identity>, Problem> {
        match &self.authenticator {
            Some(authenticator) => {
                let resolved = authenticator.resolve(pending).await;
                resolved.map_err(|refusal| self.refuse(refusal, visit))
            }
            None => Err(local::refusal()),
        }
    }

    /// Counts a failed authentication against the address. The response is that of the failure, or a 429.
    fn refuse(&self, refusal: Refusal, visit: Visit) -> Problem {
        if !refusal.is_failure() {
            return refusal.problem();
        }
        let caller = Caller::Address(visit.client);
        let class = ClassId::from(Base::AuthFailures);
        let limits = self.limits();
        let verdict = limits.charge(class, caller, None, visit.received);
        limited(verdict).unwrap_or_else(|| refusal.problem())
    }

    /// The 429 for an address that failed too often.
    fn failures(&self, visit: Visit) -> Option<Problem> {
        let class = ClassId::from(Base::AuthFailures);
        let caller = Caller::Address(visit.client);
        limited(self.limits().peek(class, caller, visit.received))
    }

    /// Checks the sender's scope, where one is asked for, and charges the request to its limits: `None` if its class has no
    /// limit. The verdict may be a refusal.
    pub(super) fn admit<'a>(
        &self,
        visit: Visit,
        limits: &'a Limits,
        identity: Option<&'a Identity>,
    ) -> Result<Option<Verdict<'a>>, Problem> {
        self.permit(visit, identity)?;
        Ok(visit.charge(limits, identity))
    }

    fn permit(&self, visit: Visit, identity: Option<&Identity>) -> Result<(), Problem> {
        let authenticator = self.authenticator.as_ref();
        let asking = authenticator.filter(|_| self.asks_for_credentials(visit.rule));
        let missing = identity.and_then(|identity| visit.rule.missing(identity.scopes));
        match (asking, identity, missing) {
            (Some(authenticator), Some(identity), Some(scope)) => Err(authenticator.forbid(identity, scope)),
            _ => Ok(()),
        }
    }

    /// Whether the sender could administer the service.
    pub(super) fn may_administer(&self, request: &Request<RequestBody>, identity: Option<&Identity>) -> bool {
        self.pages_may_act
            && match &self.authenticator {
                Some(_) => identity.is_some_and(|identity| identity.scopes.has(Scope::Admin)),
                None => local::is_local(request),
            }
    }

    /// Where administrative calls leave their lines.
    pub(crate) fn audit_log(&self) -> &AuditLog {
        &self.audit
    }

    /// The line of the audit for an administrative call.
    pub(super) fn audit(&self, request: &Request<RequestBody>, visit: Visit) -> Option<Audited<'_>> {
        visit
            .is_administration()
            .then(|| Audited::begin(&self.audit, request.method(), request.uri().path(), visit.client))
    }
}

/// The 429 of a verdict with the headers of its limit, if it refuses.
fn limited(verdict: Verdict<'_>) -> Option<Problem> {
    let problem = verdict.refusal()?;
    let mut headers = HeaderMap::new();
    verdict.headers().add_to(&mut headers);
    let named = headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    Some(named.fold(problem, |problem, (name, value)| problem.header(name, value)))
}
