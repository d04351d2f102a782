//! Notifications that the caller has not received yet.
//!
//! Invariant: lost notifications are reported by one [`Event::Gap`], after everything that came before the loss and
//! before everything that came after it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_postgres::Notification;

/// What a [`Listener`](crate::Listener) receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A notification on a channel of this listener.
    Notification {
        /// The name of the channel.
        channel: String,
        /// The payload; empty if there is none.
        payload: String,
        /// The server process of the sender, as in `pg_stat_activity.pid`.
        process_id: u32,
    },
    /// Notifications may have been lost here: the session was interrupted, or the buffer was full. Treat everything
    /// that depends on them, such as a cache, as changed.
    Gap,
}

/// A bounded queue of notifications.
pub(crate) struct NotificationQueue {
    capacity: usize,
    /// The lock is held for a push or a pop, never across an await. `push` is called under the lock of a connection's
    /// driver.
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    notifications: VecDeque<Notification>,
    /// Notifications were lost after the last one in the queue.
    gap: bool,
}

impl NotificationQueue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            queue: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// Adds a notification. If the queue is full, it is lost, and so are all others until the gap is received.
    pub(crate) fn push(&self, notification: Notification) {
        let mut queue = self.lock();
        if queue.gap || queue.notifications.len() >= self.capacity {
            queue.gap = true;
        } else {
            queue.notifications.push_back(notification);
        }
        drop(queue);
        self.arrived.notify_one();
    }

    /// Notes that notifications may have been lost.
    pub(crate) fn lose(&self) {
        self.lock().gap = true;
        self.arrived.notify_one();
    }

    /// Waits for the next event.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped future takes no event.
    pub(crate) async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.pop() {
                return event;
            }
            // `Notify` keeps a permit, so a push between the look and the wait wakes this at once.
            self.arrived.notified().await;
        }
    }

    fn pop(&self) -> Option<Event> {
        let mut queue = self.lock();
        match queue.notifications.pop_front() {
            Some(notification) => Some(Event::Notification {
                channel: notification.channel().to_owned(),
                payload: notification.payload().to_owned(),
                process_id: notification.process_id().cast_unsigned(),
            }),
            None => std::mem::take(&mut queue.gap).then_some(Event::Gap),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
