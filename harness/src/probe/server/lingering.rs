//! A stream that lets the other side close first.
//!
//! A server that closes right after its answer often has its FIN on the wire before the
//! client's acknowledgement of the answer, and sometimes in the same packet as the answer:
//! the packets of one and the same GET then come in several shapes. Waiting for the client's
//! FIN makes it one shape.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes thrown away per read while waiting for the end; a well-behaved client sends none.
const SCRATCH: usize = 1024;

/// Passes everything through, and delays shutdown until the peer has closed its side or the
/// limit has passed.
pub(super) struct Lingering<S> {
    stream: S,
    limit: Duration,
    /// Runs from the first attempt to shut down.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            timer: None,
        }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Ready when the peer has closed or broken off, or the limit has passed.
    fn poll_peer_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; SCRATCH];
        loop {
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep(self.limit)));
            // First, so that a peer that never stops sending does not hold us up either.
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    // Vectored writes pass too: they spare hyper a copy of the body.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_peer_closed(cx));
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    const LIMIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_the_peer_to_close() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = Lingering::new(ours, LIMIT);
        let half = LIMIT / 2;
        let start = Instant::now();
        let peer = async {
            theirs.write_all(b"left over").await.unwrap();
            sleep(half).await;
            theirs.shutdown().await.unwrap();
            // Our FIN comes after the peer's, and nothing before it.
            let mut rest = Vec::new();
            assert_eq!(theirs.read_to_end(&mut rest).await.unwrap(), 0);
            start.elapsed()
        };
        let (shutdown, seen_by_peer) = tokio::join!(ours.shutdown(), peer);
        shutdown.unwrap();
        assert_eq!(start.elapsed(), half);
        assert_eq!(seen_by_peer, half);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_closes_is_left_at_the_limit() {
        let (ours, _theirs) = duplex(64);
        let start = Instant::now();
        Lingering::new(ours, LIMIT).shutdown().await.unwrap();
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_closed_before_costs_no_time() {
        let (ours, theirs) = duplex(64);
        drop(theirs);
        let start = Instant::now();
        Lingering::new(ours, LIMIT).shutdown().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_in_both_directions() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = Lingering::new(ours, LIMIT);
        ours.write_all(b"ping").await.unwrap();
        theirs.write_all(b"pong").await.unwrap();
        let mut buffer = [0; 4];
        theirs.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
        ours.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"pong");
    }
}
