//! Small writes gathered into large ones, in memory that is there only while there is something to write.
//!
//! A WebSocket writes frame by frame, and its own buffer never shrinks; of ten thousand idle connections that would be most of
//! what they cost.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kith_protocol::limits::GATHER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are kept for the next message; most are no longer.
const KEPT: usize = 512;

pub(super) struct Gather<S> {
    inner: S,
    gathered: Vec<u8>,
    /// Of which so many are written.
    written: usize,
}

impl<S> Gather<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, gathered: Vec::new(), written: 0 }
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.gathered[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.written = 0;
        self.gathered.clear();
        if self.gathered.capacity() > KEPT {
            self.gathered = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + buf.len() > GATHER_BYTES_MAX {
            ready!(self.poll_empty(cx))?;
        }
        let taken = &buf[..buf.len().min(GATHER_BYTES_MAX)];
        self.gathered.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes so many bytes at once, and only when it may.
    #[derive(Default)]
    struct Narrow {
        taken: Vec<u8>,
        writes: usize,
        room: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.room == 0 {
                return Poll::Pending;
            }
            let len = buf.len().min(self.room);
            self.room -= len;
            self.writes += 1;
            self.taken.extend_from_slice(&buf[..len]);
            Poll::Ready(Ok(len))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write(gather: &mut Gather<Narrow>, buf: &[u8]) -> Poll<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(gather).poll_write(&mut cx, buf).map(Result::unwrap)
    }

    fn flush(gather: &mut Gather<Narrow>) -> Poll<()> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(gather).poll_flush(&mut cx).map(Result::unwrap)
    }

    #[test]
    fn small_writes_go_out_as_one_and_leave_no_memory() {
        let mut gather = Gather::new(Narrow { room: usize::MAX, ..Narrow::default() });
        for _ in 0..10 {
            assert_eq!(write(&mut gather, &[7; 300]), Poll::Ready(300));
        }
        assert_eq!((gather.inner.writes, flush(&mut gather)), (0, Poll::Ready(())));
        assert_eq!((gather.inner.writes, gather.inner.taken.len(), gather.gathered.capacity()), (1, 3_000, 0));
    }

    #[test]
    fn a_reader_that_is_behind_is_waited_for_at_the_bound() {
        let mut gather = Gather::new(Narrow::default());
        assert_eq!(write(&mut gather, &[1; GATHER_BYTES_MAX + 9]), Poll::Ready(GATHER_BYTES_MAX), "no more than that is held");
        assert_eq!((write(&mut gather, &[2]), flush(&mut gather)), (Poll::Pending, Poll::Pending));
        gather.inner.room = 100;
        assert_eq!(write(&mut gather, &[2]), Poll::Pending, "until all of it is out");
        gather.inner.room = GATHER_BYTES_MAX;
        assert_eq!((write(&mut gather, &[2]), flush(&mut gather)), (Poll::Ready(1), Poll::Ready(())));
        assert_eq!(gather.inner.taken, [vec![1; GATHER_BYTES_MAX], vec![2]].concat());
    }
}
