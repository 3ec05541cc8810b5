//! The server on loopback, asked by our own client and by hand.

use super::*;
use crate::eventually::eventually;
use crate::probe::http::{HttpError, HttpProbe, HttpReply};
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

fn serve(answers: impl Answers) -> HttpServer {
    serve_on(Ipv4Addr::LOCALHOST, answers)
}

fn serve_on(address: Ipv4Addr, answers: impl Answers) -> HttpServer {
    let listener = listen(SocketAddrV4::new(address, 0)).unwrap();
    HttpServer::bind(listener, answers).unwrap()
}

async fn get(server: SocketAddr, path: &str) -> Result<HttpReply, HttpError> {
    let SocketAddr::V4(target) = server else {
        panic!("{server}");
    };
    let probe = HttpProbe::open().unwrap();
    probe.get(target, path, HttpProbe::TIMEOUT).await
}

#[tokio::test]
async fn hello_answers_as_the_walk_throughs_server() {
    let server = serve(hello("c2c-network-demo-w2"));
    let reply = get(server.address(), "/").await.unwrap();
    assert_eq!(reply.version, Version::HTTP_10);
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.text(), "<p>Hi from c2c-network-demo-w2</p>");
    assert_eq!(reply.headers["content-type"], "text/html");
    assert_eq!(SocketAddr::V4(reply.peer), server.address());
    let missing = get(server.address(), "/no").await.unwrap();
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

/// Sends `request` as it is and returns the answer up to `body`, with the connection.
async fn ask_by_hand(server: &HttpServer, request: &str, body: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(body.as_bytes()) {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    (String::from_utf8(answer).unwrap(), stream)
}

#[tokio::test]
async fn the_bytes_on_the_wire_are_http_1_0() {
    let server = serve(hello("w2"));
    let page = "<p>Hi from w2</p>";
    let request = "GET / HTTP/1.1\r\nHost: w2\r\n\r\n";
    let (answer, _) = ask_by_hand(&server, request, page).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(
        head.contains(&format!("content-length: {}", page.len())),
        "{head}"
    );
    assert_eq!(body, page);
}

#[tokio::test]
async fn other_methods_are_not_implemented() {
    let server = serve(hello("w2"));
    let request = "PUT / HTTP/1.1\r\nHost: w2\r\ncontent-length: 0\r\n\r\n";
    let (answer, _) = ask_by_hand(&server, request, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 501 "), "{answer}");
    assert_eq!(server.requests()[0].method, Method::PUT);
}

/// A FIN before the client's would make the packets of a GET depend on timing. The clock stands
/// still but for the server's own limit.
#[tokio::test(start_paused = true)]
async fn the_server_leaves_it_to_the_client_to_close() {
    let server = serve(hello("w2"));
    let page = "<p>Hi from w2</p>";
    let start = Instant::now();
    // In HTTP/1.0 it is the server that ends the connection.
    let (_, mut stream) = ask_by_hand(&server, "GET / HTTP/1.0\r\n\r\n", page).await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!(start.elapsed() >= patience::scaled(LINGER).unwrap());
}

/// `nc -N` closes its side right after the request; the answer takes many writes.
#[tokio::test]
async fn a_client_that_closes_its_side_at_once_is_answered() {
    let body = vec![b'x'; 20_000_000];
    let server = serve(Answer::html(StatusCode::OK, body.clone()));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(&body), "{} bytes", answer.len());
}

#[tokio::test]
async fn every_request_is_recorded_with_its_source() {
    let server = serve(Answer::html(StatusCode::OK, "hello"));
    let start = SystemTime::now();
    let source = Ipv4Addr::new(127, 0, 0, 12);
    let SocketAddr::V4(target) = server.address() else {
        panic!("{server:?}");
    };
    let probe = HttpProbe::open().unwrap().bind(source).unwrap();
    let reply = probe
        .get(target, "/a?b=c", HttpProbe::TIMEOUT)
        .await
        .unwrap();
    get(server.address(), "/second").await.unwrap();
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(|request| &request.path).collect();
    assert_eq!(paths, ["/a?b=c", "/second"]);
    let first = &requests[0];
    assert_eq!(first.peer, SocketAddr::V4(reply.local));
    assert_eq!(first.peer.ip(), source);
    assert_eq!(first.local, server.address());
    assert_eq!(first.method, Method::GET);
    assert!(first.at >= start);
}

#[tokio::test]
async fn a_function_may_decide_by_the_request() {
    let server = serve(|request: &ReceivedRequest| Answer {
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]),
        ..Answer::html(StatusCode::IM_A_TEAPOT, request.path.clone())
    });
    let reply = get(server.address(), "/tea").await.unwrap();
    assert_eq!(reply.version, Version::HTTP_11);
    assert_eq!(reply.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(reply.headers["content-type"], "text/plain");
    assert_eq!(reply.text(), "/tea");
}

/// Larger than any socket buffer: the answer goes out in many writes and arrives whole.
#[tokio::test]
async fn a_large_body_arrives_whole() {
    let body: Bytes = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    let server = serve(Answer::html(StatusCode::OK, body.clone()));
    let reply = get(server.address(), "/").await.unwrap();
    assert!(reply.body == body);
}

#[tokio::test]
async fn many_clients_at_once_are_all_served() {
    let server = serve(hello("w2"));
    let asked = (0..100).map(|_| get(server.address(), "/"));
    for reply in futures_util::future::join_all(asked).await {
        assert_eq!(reply.unwrap().text(), "<p>Hi from w2</p>");
    }
    assert_eq!(server.requests().len(), 100);
}

/// An address of its own: no other test can have taken the port meanwhile.
#[tokio::test]
async fn a_server_that_was_stopped_refuses() {
    let server = serve_on(Ipv4Addr::new(127, 0, 0, 77), hello("w2"));
    let address = server.address();
    get(address, "/").await.unwrap();
    server.stop().await;
    let error = get(address, "/").await.unwrap_err();
    assert!(matches!(error, HttpError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_was_dropped_refuses_soon() {
    let server = serve_on(Ipv4Addr::new(127, 0, 0, 78), hello("w2"));
    let address = server.address();
    drop(server);
    eventually(
        "connections are refused",
        Duration::from_secs(5),
        || async {
            match get(address, "/").await {
                Err(HttpError::Refused { .. }) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    )
    .await
    .unwrap();
}

#[test]
fn an_address_of_nobody_cannot_be_listened_on() {
    let error = listen("192.0.2.1:8080".parse().unwrap()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("listen on 192.0.2.1:8080: "),
        "{message}"
    );
    assert!(message.contains("\nhint: "), "{message}");
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = HttpServer::bind(listener, hello("w2")).unwrap_err();
    assert!(matches!(error, ServeError::Register { .. }), "{error}");
}
