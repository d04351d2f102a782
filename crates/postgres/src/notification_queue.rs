//! What a session was notified of, until somebody asks.
//!
//! Invariant: whatever is not delivered is covered by one [`Event::Gap`], delivered after everything that came before the
//! loss and before anything that came after it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_postgres::Notification;

/// What a [`Listener`](crate::Listener) hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody notified a channel that is listened to.
    Notification {
        /// The channel.
        channel: String,
        /// What was said with it; empty if nothing.
        payload: String,
        /// The server process that said it, as in `pg_stat_activity.pid`.
        process_id: u32,
    },
    /// Notifications may have been lost here: the session was interrupted, or nobody asked for events for too long.
    /// Whoever caches must treat everything as changed.
    Gap,
}

/// A bounded queue of notifications.
pub(crate) struct NotificationQueue {
    capacity: usize,
    /// Held for a push or a pop, never across an await. Pushed to under the lock of a connection's driver.
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    notifications: VecDeque<Notification>,
    /// Something was lost after the last of them.
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

    /// Keeps a notification, unless there are too many; until that is told, those that follow are lost with it.
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

    /// Notes that something may have been lost.
    pub(crate) fn lose(&self) {
        self.lock().gap = true;
        self.arrived.notify_one();
    }

    /// Waits for the next event.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken by a future that is dropped.
    pub(crate) async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.pop() {
                return event;
            }
            // A push in between has left its mark.
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
