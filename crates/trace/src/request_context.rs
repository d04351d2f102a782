//! Which request a future works for.
//!
//! A context is shared, because it is exchanged at every poll.
//!
//! Invariant: while a future in a [`Scope`] is polled or dropped, its context is the current one of the thread, and
//! afterwards the one before is again, also after a panic.

use std::cell::RefCell;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::{RequestId, TraceContext};

/// What a request is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// Its id.
    pub id: RequestId,
    /// The template of its route.
    pub route: &'static str,
    /// The trace that it belongs to, if any.
    pub trace: Option<TraceContext>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<RequestContext>>> = const { RefCell::new(None) };
}

/// Calls `look` with the context of the current request. Returns `None` outside of a [`scope`].
pub fn with_current<T>(look: impl FnOnce(&RequestContext) -> T) -> Option<T> {
    let looked = CURRENT.try_with(|current| current.try_borrow().ok()?.as_deref().map(look));
    looked.ok().flatten()
}

/// Returns the context of the current request.
#[must_use]
pub fn current() -> Option<Arc<RequestContext>> {
    let current = CURRENT.try_with(|current| current.try_borrow().ok()?.clone());
    current.ok().flatten()
}

/// Makes this the context of all that `future` does; with `None` it works for no request.
pub fn scope<F: Future>(context: Option<Arc<RequestContext>>, future: F) -> Scope<F> {
    Scope {
        context,
        future: Some(future),
    }
}

pin_project! {
    /// A future with its own [`RequestContext`]; see [`scope`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F: Future> {
        // That of the surrounding while the future is polled.
        context: Option<Arc<RequestContext>>,
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
    }

    impl<F: Future> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _entered = Entered::new(this.context);
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut place = this.future;
        let Some(future) = place.as_mut().as_pin_mut() else {
            unreachable!("BUG: a future was polled after its end");
        };
        let _entered = Entered::new(this.context);
        let polled = future.poll(context);
        if polled.is_ready() {
            // Here, because the context is entered already.
            place.set(None);
        }
        polled
    }
}

/// Exchanges a context with the current one, until it is dropped.
struct Entered<'a>(&'a mut Option<Arc<RequestContext>>);

impl<'a> Entered<'a> {
    fn new(context: &'a mut Option<Arc<RequestContext>>) -> Self {
        exchange(context);
        Self(context)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        exchange(self.0);
    }
}

#[inline]
fn exchange(context: &mut Option<Arc<RequestContext>>) {
    // Fails only while the thread ends, when nobody asks any more.
    let _ended = CURRENT.try_with(|current| {
        if let Ok(mut current) = current.try_borrow_mut() {
            mem::swap(&mut *current, context);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    fn context(id: &str) -> Option<Arc<RequestContext>> {
        let context = RequestContext {
            id: RequestId::from_text(id.as_bytes()).unwrap(),
            route: "/read/{key}",
            trace: None,
        };
        Some(Arc::new(context))
    }

    fn current_id() -> Option<String> {
        with_current(|current| current.id.to_string())
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    async fn once_later() -> Option<String> {
        let mut is_later = false;
        std::future::poll_fn(|_| match mem::replace(&mut is_later, true) {
            false => Poll::Pending,
            true => Poll::Ready(()),
        })
        .await;
        current_id()
    }

    #[test]
    fn futures_that_are_polled_in_turn_keep_their_own_contexts() {
        let mut one = pin!(scope(context("one"), once_later()));
        let mut two = pin!(scope(context("two"), once_later()));
        assert!(poll(one.as_mut()).is_pending());
        assert!(poll(two.as_mut()).is_pending());
        assert_eq!(current_id(), None);
        assert_eq!(poll(one), Poll::Ready(Some("one".into())));
        assert_eq!(poll(two), Poll::Ready(Some("two".into())));
        assert_eq!(current_id(), None);
    }

    #[test]
    fn an_inner_scope_hides_the_outer_one_and_none_hides_it_too() {
        let outer = scope(context("outer"), async {
            let inner = scope(context("inner"), async { current_id() }).await;
            let nothing = scope(None, async { current_id() }).await;
            (inner, nothing, current_id())
        });
        let Poll::Ready((inner, nothing, after)) = poll(pin!(outer)) else {
            panic!("it waits for nothing");
        };
        assert_eq!(
            (inner.as_deref(), nothing, after.as_deref()),
            (Some("inner"), None, Some("outer"))
        );
    }

    #[test]
    fn a_future_that_is_dropped_early_is_dropped_in_its_context() {
        struct OnDrop<'a>(&'a RefCell<Option<String>>);
        impl Drop for OnDrop<'_> {
            fn drop(&mut self) {
                *self.0.borrow_mut() = current_id();
            }
        }
        let seen = RefCell::new(None);
        let held = OnDrop(&seen);
        drop(scope(context("dropped"), async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        assert_eq!(seen.take().as_deref(), Some("dropped"));
        assert_eq!(current_id(), None);
    }

    #[test]
    fn a_panic_leaves_no_context_behind() {
        let panicking = scope(context("panics"), async { panic!("on purpose") });
        catch_unwind(AssertUnwindSafe(|| poll(pin!(panicking)))).unwrap_err();
        assert_eq!(current_id(), None);
    }

    #[test]
    fn a_context_that_is_taken_along_is_the_same_elsewhere() {
        let mut asking = pin!(scope(context("asked"), async { current() }));
        let Poll::Ready(taken) = poll(asking.as_mut()) else {
            panic!("it waits for nothing");
        };
        assert_eq!(taken, context("asked"));
    }
}
