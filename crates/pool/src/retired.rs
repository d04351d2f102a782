//! Why connections leave a pool. Invariant: every open connection that leaves has exactly one reason.

/// Why a connection was closed, or left the pool in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(usize)]
pub enum Retired {
    /// It broke, or could not be cleaned.
    Broken,
    /// Its holder [discarded](crate::Pooled::discard) it, [`Pool::retain`](crate::Pool::retain) removed it, or a
    /// [hook](crate::Hooks) decided so.
    Discarded,
    /// It reached its maximum lifetime.
    Lifetime,
    /// It was idle for too long.
    Idle,
    /// There were more than `max_size` connections, and no caller was waiting.
    Overflow,
    /// The pool was drained or closed.
    Closed,
    /// It was opened before the last [`Pool::replace_all`](crate::Pool::replace_all).
    Replaced,
    /// Its holder [detached](crate::Pooled::detach) it. The pool did not close it.
    Detached,
}

impl Retired {
    /// Every reason, in the order of their declaration.
    pub(crate) const ALL: [Self; 8] = [
        Self::Broken,
        Self::Discarded,
        Self::Lifetime,
        Self::Idle,
        Self::Overflow,
        Self::Closed,
        Self::Replaced,
        Self::Detached,
    ];
}
