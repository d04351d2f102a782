//! An error of any kind as a manager's error. Invariant: it prints and leads to what it was made of.

use std::{error::Error, fmt};

/// Wraps an error whose type is not an [`Error`](std::error::Error) itself, such as `anyhow::Error`, a boxed error or a text, as
/// [`Manager::Error`](crate::Manager::Error).
///
/// ```
/// use cenote_pool::{AnyError, Manager};
///
/// struct Queue;
///
/// impl Manager for Queue {
///     type Connection = u32;
///     type Error = AnyError;
///
///     async fn connect(&self) -> Result<u32, AnyError> {
///         open().map_err(AnyError::new) // its error may be `anyhow::Error`
///     }
/// }
/// # fn open() -> Result<u32, String> { Ok(7) }
/// ```
pub struct AnyError(Box<dyn Error + Send + Sync>);

impl AnyError {
    /// Wraps an error.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// Returns the error as this type, if it has it.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for AnyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
