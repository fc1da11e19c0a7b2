//! What waits for the reader of one answer: a queue between two ends.
//!
//! Channels of the runtime allocate room for 32 items at once, 9 KB of a request that waits for its first token. This
//! one holds nothing while nothing waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The filling end.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Mutex<Queue<T>>>);

/// The reading end.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Mutex<Queue<T>>>);

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    /// One of the ends is gone.
    is_closed: bool,
    reader: Option<Waker>,
}

/// Two ends of an empty queue.
pub(super) fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Mutex::new(Queue { items: VecDeque::new(), is_closed: false, reader: None }));
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<T> Sender<T> {
    /// Returns whether somebody may still read it. The caller bounds what waits.
    pub(super) fn send(&self, item: T) -> bool {
        let mut queue = lock(&self.0);
        if queue.is_closed {
            return false;
        }
        queue.items.push_back(item);
        wake(queue);
        true
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.is_closed = true;
        wake(queue);
    }
}

impl<T> Receiver<T> {
    /// The next item; `None` once all were read and the sender is gone.
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut queue = lock(&self.0);
        match queue.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if queue.is_closed => Poll::Ready(None),
            None => {
                match &mut queue.reader {
                    Some(reader) => reader.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.is_closed = true;
        let _unread = std::mem::take(&mut queue.items);
    }
}

fn lock<T>(queue: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    // Every change is complete when the lock is released.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes outside the lock: the woken one wants it next.
fn wake<T>(mut queue: MutexGuard<'_, Queue<T>>) {
    let reader = queue.reader.take();
    drop(queue);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn items_come_in_order_and_then_the_end() {
        let (sender, mut receiver) = mailbox();
        assert!(sender.send(1) && sender.send(2));
        drop(sender);
        let mut next = async || poll_fn(|context| receiver.poll_recv(context)).await;
        assert_eq!([next().await, next().await, next().await], [Some(1), Some(2), None]);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_an_item_and_by_the_end() {
        let (sender, mut receiver) = mailbox();
        let reader = tokio::spawn(async move {
            let first = poll_fn(|context| receiver.poll_recv(context)).await;
            (first, poll_fn(|context| receiver.poll_recv(context)).await)
        });
        tokio::task::yield_now().await;
        assert!(sender.send(1));
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(reader.await.unwrap(), (Some(1), None));
    }

    #[test]
    fn nothing_waits_for_a_reader_that_is_gone() {
        let (sender, receiver) = mailbox();
        drop(receiver);
        assert!(!sender.send(1));
    }
}
