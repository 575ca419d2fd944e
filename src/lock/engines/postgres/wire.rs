//! What the protocol runs over: a socket, plain or encrypted.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A wire that is as secret as it is going to be.
pub(super) struct Settled {
    wire: Box<dyn Wire>,
    binding: Option<Vec<u8>>,
}

impl Settled {
    pub(super) fn new(wire: Box<dyn Wire>, binding: Option<Vec<u8>>) -> Self {
        Self { wire, binding }
    }
}

impl AsyncRead for Settled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, into)
    }
}

impl AsyncWrite for Settled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

impl TlsStream for Settled {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.binding {
            Some(binding) => ChannelBinding::tls_server_end_point(binding.clone()),
            None => ChannelBinding::none(),
        }
    }
}

/// For the client library, which would set up the encryption: that has been done.
pub(super) struct Done;

impl TlsConnect<Settled> for Done {
    type Stream = Settled;
    type Error = io::Error;
    type Future = Ready<io::Result<Settled>>;

    fn connect(self, wire: Settled) -> Self::Future {
        ready(Ok(wire))
    }
}
