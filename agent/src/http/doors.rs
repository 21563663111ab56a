//! The way in over TCP when there is a web configuration: connections, encrypted when it says so.
//!
//! Guarantee: a handshake that takes long holds up no other. Each has a deadline, and when there are too many at once the
//! oldest gives way, so that whoever opens connections and says nothing keeps nobody out.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// How long a handshake may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How many are under way at most.
const MOST: usize = 512;
/// How long a client that does not speak TLS may take to read why it is turned away.
const FAREWELL: Duration = Duration::from_secs(1);
/// The first byte of every TLS connection.
const HANDSHAKE: u8 = 0x16;
/// What a client is told that speaks HTTP without TLS.
const PLAIN: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    TLS is spoken here; ask again with https://\n";

/// A connection over which requests come.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Ready = (Box<dyn Connection>, SocketAddr);

/// Connections that are ready for requests.
pub(crate) struct Doors {
    ready: mpsc::UnboundedReceiver<Ready>,
    address: io::Result<SocketAddr>,
}

impl Doors {
    /// Takes connections from `listener` until this is dropped, each by the TLS of its moment, if there is any.
    pub(crate) fn open(
        listener: TcpListener,
        tls: impl Fn() -> Option<Arc<ServerConfig>> + Send + 'static,
    ) -> Doors {
        let (sender, ready) = mpsc::unbounded_channel();
        let address = listener.local_addr();
        tokio::spawn(take(listener, tls, sender));
        Doors { ready, address }
    }
}

impl Listener for Doors {
    type Io = Box<dyn Connection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Ready {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The runtime ends, and whoever waits here with it.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| error.kind().into())
    }
}

async fn take(
    mut listener: TcpListener,
    tls: impl Fn() -> Option<Arc<ServerConfig>>,
    sender: mpsc::UnboundedSender<Ready>,
) {
    let mut under_way = UnderWay::default();
    loop {
        let (stream, address) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = sender.closed() => return,
        };
        let Some(tls) = tls() else {
            let _ = sender.send((Box::new(stream), address));
            continue;
        };
        under_way.make_room();
        let sender = sender.clone();
        let task = tokio::spawn(async move {
            match timeout(DEADLINE, enter(stream, tls)).await {
                // It waits for nobody: what is ready must not give way to what is not.
                Ok(Ok(connection)) => drop(sender.send((connection, address))),
                Ok(Err(error)) => tracing::debug!(%address, "no connection: {error}"),
                Err(_) => tracing::debug!(%address, "no connection: the handshake took too long"),
            }
        });
        under_way.0.push_back(task.abort_handle());
    }
}

/// Handshakes, the oldest first.
#[derive(Default)]
struct UnderWay(VecDeque<AbortHandle>);

impl UnderWay {
    fn make_room(&mut self) {
        if self.0.len() < MOST {
            return;
        }
        self.0.retain(|handshake| !handshake.is_finished());
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
    }
}

async fn enter(stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<Box<dyn Connection>> {
    let mut first = [0];
    if stream.peek(&mut first).await? > 0 && first[0] != HANDSHAKE {
        turn_away(stream).await?;
        return Err(io::Error::other("the client does not speak TLS"));
    }
    Ok(Box::new(TlsAcceptor::from(tls).accept(stream).await?))
}

/// Says why, and closes once the client has read it: what is unread when a connection closes takes the answer with it.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(64 << 10);
    let _ = timeout(FAREWELL, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(())
}
