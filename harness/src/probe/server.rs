//! An HTTP/1 server whose answers a test chooses, in any namespace.
//!
//! It behaves on the wire so that packets can be counted: head and body of an answer go out in
//! one write, and the server's FIN does not come before the client has closed, for at most two
//! seconds.

mod lingering;
pub(crate) mod listener;
mod reflection;

use crate::patience::{self, PatienceError};
use crate::probe::saved_syn;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use lingering::Lingering;
pub use reflection::reflection;
pub(crate) use reflection::{is_reflection, path, read};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

/// How long the server leaves it to the client to close first, before the patience factor.
const LINGER: Duration = Duration::from_secs(2);

/// Pause after an accept that failed for want of descriptors or memory; without it the loop
/// would spin until some are free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address could not be listened on.
    #[error(
        "listen on {address}: {source}\n\
         hint: the address must be one of the namespace's own, and the port free"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddrV4,
        /// The kernel's error.
        source: io::Error,
    },
    /// The runtime did not take the socket.
    #[error("serve http: register the listening socket: {source}")]
    Register {
        /// The runtime's error.
        source: io::Error,
    },
    /// The patience factor is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
}

/// Listens on `address` in the calling thread's network namespace; port 0 takes a free one.
/// Connections queue in the kernel until [`HttpServer::bind`] takes them.
///
/// # Errors
/// [`ServeError::Listen`].
pub fn listen(address: SocketAddrV4) -> Result<StdListener, ServeError> {
    listener::open(address).map_err(|source| ServeError::Listen { address, source })
}

/// A request as the server received it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// The client's address and port as they arrived: proof of what NAT did, or did not.
    pub peer: SocketAddr,
    /// The TTL with which the connection's SYN arrived, where the kernel kept it.
    pub ttl: Option<u8>,
    /// The address and port that the client connected to.
    pub local: SocketAddr,
    /// `GET`, usually.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Wall clock, to be found again in a capture.
    pub at: SystemTime,
}

/// What the server answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Version in the status line. A client that asks in HTTP/1.0 gets HTTP/1.0 in any case.
    pub version: Version,
    /// Status code.
    pub status: StatusCode,
    /// Headers besides `content-length` and `date`, which are added.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// HTTP/1.1, `status` and a body of HTML.
    pub fn html(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let html = (CONTENT_TYPE, HeaderValue::from_static("text/html"));
        Self {
            version: Version::HTTP_11,
            status,
            headers: HeaderMap::from_iter([html]),
            body: body.into(),
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.version_mut() = self.version;
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Decides what to answer: an [`Answer`] for every request, or a function of the request.
pub trait Answers: Send + Sync + 'static {
    /// The answer to `request`. Runs on the runtime: it must not block.
    fn answer(&self, request: &ReceivedRequest) -> Answer;
}

impl Answers for Answer {
    fn answer(&self, _: &ReceivedRequest) -> Answer {
        self.clone()
    }
}

impl<F: Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static> Answers for F {
    fn answer(&self, request: &ReceivedRequest) -> Answer {
        self(request)
    }
}

/// The demonstration server of the Calico walk-through, a Python `SimpleHTTPServer` with one
/// page: `GET /` is answered with `HTTP/1.0 200 OK` and `<p>Hi from HOSTNAME</p>`, any other
/// path with 404, any other method but HEAD with 501.
pub fn hello(hostname: &str) -> impl Answers + use<> {
    let page = Bytes::from(format!("<p>Hi from {hostname}</p>"));
    move |request: &ReceivedRequest| {
        let (status, body) = match (&request.method, request.path.as_str()) {
            (&Method::GET | &Method::HEAD, "/") => (StatusCode::OK, page.clone()),
            (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, Bytes::new()),
            _ => (StatusCode::NOT_IMPLEMENTED, Bytes::new()),
        };
        Answer {
            version: Version::HTTP_10,
            ..Answer::html(status, body)
        }
    }
}

/// A server at work. It stops when dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    /// How many want it to be silent.
    frozen: Arc<watch::Sender<usize>>,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Serves the connections of `listener`, which is made in its namespace by [`listen`], on
    /// the current tokio runtime. The server is reachable when this returns.
    ///
    /// # Errors
    /// [`ServeError::Register`], also when there is no current runtime.
    pub fn bind(listener: StdListener, answers: impl Answers) -> Result<Self, ServeError> {
        let linger = patience::scaled(LINGER)?;
        let register = |source| ServeError::Register { source };
        let runtime = Handle::try_current().map_err(|error| register(io::Error::other(error)))?;
        // A listener that was not made by `listen` may still block.
        listener.set_nonblocking(true).map_err(register)?;
        let address = listener.local_addr().map_err(register)?;
        let listener = TcpListener::from_std(listener).map_err(register)?;
        let received = Arc::default();
        let frozen = Arc::new(watch::Sender::new(0));
        let site = Site {
            answers,
            received: Arc::clone(&received),
            frozen: frozen.subscribe(),
        };
        let task = runtime.spawn(accept(listener, Arc::new(site), linger));
        Ok(Self {
            address,
            received,
            frozen,
            task,
        })
    }

    /// The address and port it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, oldest first. A request is in here before it is answered.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        lock(&self.received).clone()
    }

    /// Silences it as a process that is stopped: connections queue in the kernel, and what was
    /// asked is answered when it goes on, which it does when everybody who has silenced it has let
    /// go.
    pub(crate) fn freeze(&self) -> FrozenServer {
        let ran = self.frozen.borrow().eq(&0);
        self.frozen.send_modify(|others| *others += 1);
        FrozenServer {
            frozen: Arc::clone(&self.frozen),
            ran,
        }
    }

    /// Stops, though others still hold it.
    pub(crate) fn close(&self) {
        self.task.abort();
    }

    /// Stops, and returns when the port is free. Dropping stops as well, but says nothing about
    /// when.
    pub async fn stop(mut self) {
        self.task.abort();
        // The task ends by being cancelled: that is what was asked for.
        (&mut self.task).await.unwrap_or_default();
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that is silent as long as this is there.
#[derive(Debug)]
pub(crate) struct FrozenServer {
    frozen: Arc<watch::Sender<usize>>,
    ran: bool,
}

impl FrozenServer {
    /// Whether it answered before.
    pub(crate) fn ran(&self) -> bool {
        self.ran
    }
}

impl Drop for FrozenServer {
    fn drop(&mut self) {
        self.frozen.send_modify(|others| *others -= 1);
    }
}

/// What all connections of a server share.
struct Site<A> {
    answers: A,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    frozen: watch::Receiver<usize>,
}

impl<A> Site<A> {
    /// Waits as long as the server is frozen; one that is dropped is not.
    async fn thawed(&self) {
        self.frozen
            .clone()
            .wait_for(|frozen| *frozen == 0)
            .await
            .ok();
    }
}

/// Poisoned or not, the list is whole: a push is the only thing done under the lock.
fn lock(received: &Mutex<Vec<ReceivedRequest>>) -> MutexGuard<'_, Vec<ReceivedRequest>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept<A: Answers>(listener: TcpListener, site: Arc<Site<A>>, linger: Duration) {
    // Dropped with this future: no connection outlives the server.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                site.thawed().await;
                listener.accept().await
            } => accepted,
            // Keeps the set from growing with connections that are done.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(serve(stream, peer, Arc::clone(&site), linger));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<A: Answers>(
    stream: TcpStream,
    peer: SocketAddr,
    site: Arc<Site<A>>,
    linger: Duration,
) {
    let served = async {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let ttl = saved_syn::ttl(&stream);
        let service = service_fn(|request: Request<Incoming>| {
            let request = ReceivedRequest {
                peer,
                ttl,
                local,
                method: request.method().clone(),
                path: request.uri().to_string(),
                at: SystemTime::now(),
            };
            let site = Arc::clone(&site);
            async move {
                site.thawed().await;
                lock(&site.received).push(request.clone());
                Ok::<_, Infallible>(site.answers.answer(&request).into_response())
            }
        });
        http1::Builder::new()
            // A client may close its side right after the request (`nc -N`).
            .half_close(true)
            .serve_connection(TokioIo::new(Lingering::new(stream, linger)), service)
            .await
            .map_err(io::Error::other)
    };
    // A client that breaks off is the client's business: it sees the error.
    if let Err(error) = served.await {
        debug!(%peer, %error, "connection");
    }
}

#[cfg(test)]
mod tests;
