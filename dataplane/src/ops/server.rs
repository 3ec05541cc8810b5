//! The endpoint: `/livez`, `/readyz` and `/metrics` over HTTP, and nothing else.
//!
//! It has a thread and a runtime of its own: a pass blocks the agent's thread, and that the loop
//! is stuck is the very thing to be told. For the same reason it writes no logs: a log that
//! nobody reads may be what the loop is stuck in.

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Vitals;
use super::health::Answer;
use super::listen::{Listen, ListenError, Listener};

/// A scraper and the probes of a service manager need three.
const CONNECTIONS: usize = 16;
/// A client that has not sent its request by then makes room for another.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Until a file descriptor may be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The endpoint at work, as long as the process lives. Dropping it removes its unix socket's
/// file; the next life would do so as well.
pub(crate) struct Server {
    place: Listen,
}

impl Server {
    /// Listens at `place` and answers from `vitals`.
    pub(crate) fn start(place: Listen, vitals: Vitals) -> Result<Self, ListenError> {
        let (listener, place) = place.bind()?;
        let server = Self { place };
        let refused = |source| ListenError::Refused {
            place: server.place.clone(),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(refused)?;
        thread::Builder::new()
            .name("ops".to_owned())
            .spawn(move || runtime.block_on(serve(listener, vitals)))
            .map_err(refused)?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn place(&self) -> &Listen {
        &self.place
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.place {
            let path: &PathBuf = path;
            fs::remove_file(path).ok();
        }
    }
}

async fn serve(listener: Listener, vitals: Vitals) {
    // The listener was bound before the thread began; to register it does not fail but for lack
    // of memory, and an agent without its endpoint is better than none.
    match listener {
        Listener::Tcp(listener) => {
            if let Ok(listener) = TcpListener::from_std(listener) {
                accept(async || Ok(listener.accept().await?.0), vitals).await;
            }
        }
        Listener::Unix(listener) => {
            if let Ok(listener) = UnixListener::from_std(listener) {
                accept(async || Ok(listener.accept().await?.0), vitals).await;
            }
        }
    }
}

async fn accept<S, F>(next: impl Fn() -> F, vitals: Vitals)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok(stream) = next().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let vitals = vitals.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &vitals);
                async { Ok::<_, Infallible>(response) }
            });
            // A client that breaks off is no concern of ours.
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
            drop(permit);
        });
    }
}

fn answer(method: &Method, path: &str, vitals: &Vitals) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let now = Instant::now();
    let (live, ready) = (vitals.health.live(now), vitals.health.ready(now));
    let (status, kind, text) = match path {
        "/livez" => probe(live),
        "/readyz" => probe(ready),
        "/metrics" => {
            let text = vitals.metrics.text(live.is_ok(), ready.is_ok());
            (StatusCode::OK, OPEN_METRICS, text)
        }
        _ => (StatusCode::NOT_FOUND, PLAIN, "not found\n".to_owned()),
    };
    if status != StatusCode::NOT_FOUND && method != Method::GET && method != Method::HEAD {
        let mut refusal = Response::new(Full::new(Bytes::from_static(b"GET or HEAD only\n")));
        *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let headers = refusal.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn probe(answer: Answer) -> (StatusCode, &'static str, String) {
    const PLAIN: &str = "text/plain; charset=utf-8";
    match answer {
        Ok(()) => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    fn ask(mut stream: impl Read + Write, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    /// The thread that stands for the agent's does nothing at all: it is stuck.
    #[test]
    fn an_endpoint_answers_while_the_loop_is_stuck() {
        let vitals = Vitals::default();
        vitals.health.passed(Ok(()));
        let place = "127.0.0.1:0".parse().unwrap();
        let server = Server::start(place, vitals.clone()).unwrap();
        let Listen::Tcp(address) = *server.place() else {
            panic!("{}", server.place())
        };
        let get = |path| ask(TcpStream::connect(address).unwrap(), path);
        vitals.health.turn(Instant::now());
        assert!(get("/livez").starts_with("HTTP/1.1 200 OK"));
        assert!(get("/readyz").ends_with("\r\n\r\nok\n"));
        assert!(get("/metrics").contains("\npodlab_agent_ready 1\n"));

        let long_ago = Instant::now() - Duration::from_secs(60);
        vitals.health.turn(long_ago);
        for path in ["/livez", "/readyz"] {
            let reply = get(path);
            assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
            assert!(reply.contains("the agent's loop is overdue by"), "{reply}");
        }
        let metrics = get("/metrics");
        assert!(metrics.contains("\npodlab_agent_live 0\n"), "{metrics}");
        assert!(metrics.contains("\npodlab_agent_ready 0\n"), "{metrics}");
    }

    #[test]
    fn a_unix_socket_goes_with_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let server = Server::start(Listen::Unix(path.clone()), Vitals::default()).unwrap();
        let reply = ask(UnixStream::connect(&path).unwrap(), "/readyz");
        assert!(reply.contains("the first full sync is not applied yet"));
        drop(server);
        assert!(!path.exists());
    }

    #[rstest]
    #[case::root(Method::GET, "/", StatusCode::NOT_FOUND)]
    #[case::debugging(Method::GET, "/debug/pprof/", StatusCode::NOT_FOUND)]
    #[case::longer(Method::GET, "/metrics/all", StatusCode::NOT_FOUND)]
    #[case::writing(Method::POST, "/livez", StatusCode::METHOD_NOT_ALLOWED)]
    #[case::head(Method::HEAD, "/livez", StatusCode::OK)]
    fn there_is_nothing_else(
        #[case] method: Method,
        #[case] path: &str,
        #[case] expected: StatusCode,
    ) {
        let vitals = Vitals::default();
        vitals.health.turn(Instant::now());
        assert_eq!(answer(&method, path, &vitals).status(), expected);
    }
}
