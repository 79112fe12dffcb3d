//! Virtual time: what happens next. What is due at the same moment happens in the order in which it was put down.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

#[derive(Debug)]
struct Timed<E> {
    at: u64,
    order: u64,
    event: E,
}

impl<E> PartialEq for Timed<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<E> Eq for Timed<E> {}
impl<E> PartialOrd for Timed<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Timed<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Milliseconds since the run began, and everything that is still to happen.
#[derive(Debug)]
pub struct Clock<E> {
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Timed<E>>>,
}

impl<E> Default for Clock<E> {
    fn default() -> Self {
        Self { now: 0, order: 0, queue: BinaryHeap::new() }
    }
}

impl<E> Clock<E> {
    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn after(&mut self, delay_ms: u64, event: E) {
        self.order += 1;
        self.queue.push(Reverse(Timed { at: self.now + delay_ms, order: self.order, event }));
    }

    pub fn at(&mut self, at: u64, event: E) {
        self.after(at.saturating_sub(self.now), event);
    }

    /// The next event until `end`. `None`: nothing happens until then, and then it is.
    pub fn next(&mut self, end: u64) -> Option<E> {
        if self.queue.peek().is_none_or(|Reverse(next)| next.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(next) = self.queue.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_ties_keep_their_order() {
        let mut clock = Clock::default();
        clock.after(5, 'b');
        clock.after(5, 'c');
        clock.after(1, 'a');
        assert_eq!([clock.next(9), clock.next(9), clock.next(9)], [Some('a'), Some('b'), Some('c')]);
        clock.after(5, 'd');
        assert_eq!((clock.next(9), clock.now()), (None, 9));
        assert_eq!((clock.next(10), clock.now()), (Some('d'), 10));
    }
}
