//! Connections: HTTP/2 with keep-alive, or HTTP/1.1 when the server knows nothing newer.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use connectrpc::ConnectError;
use connectrpc::client::{
    ClientBody, ClientTransport, Http2Connection, HttpClient, SharedHttp2Connection,
};
use http::{Request, Response, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Body of an answer.
pub(crate) type ResponseBody = <HttpClient as ClientTransport>::ResponseBody;

/// A silent server is noticed after the sum of both.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Requests that may wait for the connection.
const QUEUE: usize = 1024;

/// The connections to one server, made when first used.
pub(crate) struct Wire {
    uri: Uri,
    tls: Option<Arc<rustls::ClientConfig>>,
    http2: OnceLock<SharedHttp2Connection>,
    http1: OnceLock<HttpClient>,
    /// HTTP/2 answered at least once.
    speaks_http2: AtomicBool,
    /// The server turned out to speak HTTP/1.1 only.
    speaks_http1: AtomicBool,
}

/// A request that got no answer.
pub(crate) struct Lost {
    pub(crate) error: ConnectError,
    /// Whether the server may have seen the request.
    pub(crate) maybe_seen: bool,
}

impl Wire {
    pub(crate) fn new(uri: Uri, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self {
            uri,
            tls,
            http2: OnceLock::new(),
            http1: OnceLock::new(),
            speaks_http2: AtomicBool::new(false),
            speaks_http1: AtomicBool::new(false),
        }
    }

    pub(crate) async fn send(
        &self,
        request: Request<ClientBody>,
    ) -> Result<Response<ResponseBody>, Lost> {
        if self.speaks_http1.load(Ordering::Relaxed) {
            return self.http1().send(request).await.map_err(lost);
        }
        match self.http2().send(request).await {
            Ok(response) => {
                self.speaks_http2.store(true, Ordering::Relaxed);
                Ok(response)
            }
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// A first HTTP/2 request that failed may have met a server without HTTP/2. Such a server understood
    /// nothing, so the request may be sent again the old way.
    async fn explain(&self, error: ConnectError) -> Lost {
        let lost = lost(error);
        if self.speaks_http2.load(Ordering::Relaxed) {
            return lost;
        }
        let old = match &self.tls {
            Some(_) => !lost.maybe_seen && alpn_failed(&lost.error),
            None => lost.maybe_seen && speaks_only_http1(&self.uri).await,
        };
        if old {
            self.speaks_http1.store(true, Ordering::Relaxed);
        }
        Lost { maybe_seen: lost.maybe_seen && !old, ..lost }
    }

    fn http2(&self) -> &SharedHttp2Connection {
        self.http2.get_or_init(|| {
            let builder = Http2Connection::builder()
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_ANSWER_WITHIN)
                .keep_alive_while_idle(true);
            match &self.tls {
                Some(tls) => builder.lazy_tls(self.uri.clone(), tls.clone()),
                None => builder.lazy_plaintext(self.uri.clone()),
            }
            .shared(QUEUE)
        })
    }

    fn http1(&self) -> &HttpClient {
        self.http1.get_or_init(|| match &self.tls {
            Some(tls) => HttpClient::with_tls(tls.clone()),
            None => HttpClient::plaintext(),
        })
    }
}

/// Anything before the first byte of the request leaves an error without hyper's in its chain;
/// hyper itself says "canceled" about a request that it never wrote.
fn lost(error: ConnectError) -> Lost {
    let maybe_seen =
        chain(&error).filter_map(|e| e.downcast_ref::<hyper::Error>()).any(|e| !e.is_canceled());
    Lost { error, maybe_seen }
}

/// The server wants no HTTP/2: it said so in the handshake, or silently agreed on something else.
fn alpn_failed(error: &ConnectError) -> bool {
    chain(error).any(|e| {
        let text = e.to_string();
        text.contains("HTTP/2 via ALPN") || text.contains("NoApplicationProtocol")
    })
}

/// The causes of an error, without itself.
fn chain(error: &ConnectError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&e| e.source())
}

/// Says hello in HTTP/2 and looks whether the answer is in HTTP/1. Nothing is asked of the server.
async fn speaks_only_http1(uri: &Uri) -> bool {
    const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let probe = async {
        let mut stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
        stream.write_all(HELLO).await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == *b"HTTP/1.")
    };
    matches!(tokio::time::timeout(PING_ANSWER_WITHIN, probe).await, Ok(Ok(true)))
}
