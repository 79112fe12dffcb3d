//! What waits to be written to one session: bounded, and without memory of its own while nothing waits.
//!
//! Tokio's channel keeps a block of 32 places (1 KiB) for each of its ends' lifetimes; of ten thousand idle sessions
//! that is most of what their queues would cost.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use bytes::Bytes;

/// Places that are kept for the next messages when a queue has drained.
const PLACES_KEPT: usize = 4;

#[derive(Default)]
struct State {
    messages: VecDeque<Bytes>,
    /// Of the receiver, while it waits.
    waker: Option<Waker>,
    /// One of the ends is gone.
    is_closed: bool,
    /// Something did not fit, and whoever sends waits for the queue to drain.
    is_lagging: bool,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().expect("nobody panics with it")
}

/// The co-op's end. Dropping it lets the receiver take what is left.
pub struct Sender {
    shared: Shared,
    messages_max: usize,
}

/// The connection's end. Dropping it makes every further message one that does not fit.
pub struct Receiver(Shared);

/// A queue of so many messages.
pub fn queue(messages_max: usize) -> (Sender, Receiver) {
    let shared = Shared::default();
    (Sender { shared: shared.clone(), messages_max }, Receiver(shared))
}

impl Sender {
    /// `false`: it does not fit, if so many places are to stay free after it.
    pub fn push(&self, bytes: Bytes, free_after: usize) -> bool {
        let mut state = lock(&self.shared);
        if state.is_closed || state.messages.len() + free_after >= self.messages_max {
            return false;
        }
        state.messages.push_back(bytes);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The receiver is to tell when it has drained the queue. `true`: it is empty by now, and the receiver will not tell.
    pub fn lag(&self) -> bool {
        let mut state = lock(&self.shared);
        state.is_lagging = !state.messages.is_empty();
        state.messages.is_empty()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.is_closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Receiver {
    /// Moves up to so many messages into `batch`, in order. `false`: there are none left, and none will come.
    pub async fn recv_many(&mut self, batch: &mut Vec<Bytes>, batch_max: usize) -> bool {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if !state.messages.is_empty() {
                let taken = batch_max.min(state.messages.len());
                batch.extend(state.messages.drain(..taken));
                if state.messages.is_empty() && state.messages.capacity() > PLACES_KEPT {
                    state.messages = VecDeque::new();
                }
                return Poll::Ready(true);
            }
            if state.is_closed {
                return Poll::Ready(false);
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether something did not fit and everything before it has been taken. Says so once.
    pub fn has_caught_up(&self) -> bool {
        let mut state = lock(&self.0);
        state.messages.is_empty() && std::mem::take(&mut state.is_lagging)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_closed = true;
        state.messages = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn taken(receiver: &mut Receiver, batch_max: usize) -> Option<Vec<Bytes>> {
        let mut batch = Vec::new();
        let is_open = receiver.recv_many(&mut batch, batch_max).now_or_never()?;
        assert_eq!(is_open, !batch.is_empty());
        Some(batch)
    }

    #[test]
    fn fault_26_it_is_full_at_its_bound_and_says_when_it_has_drained() {
        let (sender, mut receiver) = queue(4);
        let bytes = Bytes::from_static;
        assert!(sender.push(bytes(b"1"), 0) && sender.push(bytes(b"2"), 1));
        assert!(!sender.push(bytes(b"3"), 2), "two places stay free");
        assert!(sender.push(bytes(b"3"), 1) && sender.push(bytes(b"4"), 0));
        assert!(!sender.push(bytes(b"5"), 0));
        assert!(!sender.lag());
        assert!(!receiver.has_caught_up());
        assert_eq!(taken(&mut receiver, 3), Some(vec![bytes(b"1"), bytes(b"2"), bytes(b"3")]));
        assert!(!receiver.has_caught_up());
        assert_eq!(taken(&mut receiver, 3), Some(vec![bytes(b"4")]));
        assert!(receiver.has_caught_up() && !receiver.has_caught_up());
        assert!(sender.lag(), "nothing is left that would make the receiver look");
        assert!(!receiver.has_caught_up());
    }

    #[test]
    fn an_end_that_goes_is_noticed_by_the_other() {
        let (sender, mut receiver) = queue(4);
        assert_eq!(taken(&mut receiver, 3), None);
        assert!(sender.push(Bytes::from_static(b"1"), 0));
        drop(sender);
        assert_eq!(taken(&mut receiver, 3), Some(vec![Bytes::from_static(b"1")]));
        assert_eq!(taken(&mut receiver, 3), Some(Vec::new()));
        let (sender, receiver) = queue(4);
        drop(receiver);
        assert!(!sender.push(Bytes::new(), 0));
    }

    #[test]
    fn nothing_is_kept_after_a_burst() {
        let (sender, mut receiver) = queue(256);
        assert!((0..256).all(|_| sender.push(Bytes::new(), 0)));
        assert_eq!(taken(&mut receiver, 256).map(|batch| batch.len()), Some(256));
        assert_eq!(lock(&sender.shared).messages.capacity(), 0);
    }
}
