//! Why connections end. Invariant: every open connection that ends has exactly one reason.

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Retired {
    /// It broke, or could not be cleaned.
    Broken,
    /// Its holder [discarded](crate::Pooled::discard) it.
    Discarded,
    /// It reached its maximum lifetime.
    Lifetime,
    /// It was idle for too long.
    Idle,
    /// There were more than `max_size` connections, and no caller was waiting.
    Overflow,
    /// The pool was drained or closed.
    Closed,
}

impl Retired {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Broken,
        Self::Discarded,
        Self::Lifetime,
        Self::Idle,
        Self::Overflow,
        Self::Closed,
    ];
}
