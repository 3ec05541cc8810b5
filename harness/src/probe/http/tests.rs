//! The client against servers that misbehave, on loopback; `server/tests.rs` has the others.

use super::*;
use crate::eventually::eventually;
use crate::probe::refusal::Refusal;
use rstest::rstest;
use std::future::ready;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(5);

/// What a server does once it has read the request.
#[derive(Clone, Copy)]
enum End {
    Close,
    Reset,
    /// Says nothing more; the clock is stopped, so that waiting costs no time.
    Hang,
}

/// Asks a server that writes `answer` and then does as `end` says.
async fn get_from(answer: &str, end: End) -> (SocketAddrV4, Result<HttpReply, HttpError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = v4(listener.local_addr().unwrap());
    let answer = answer.to_owned();
    // Spawned, not joined: where loopback is down the client's error is to end the test. What
    // the task returns, an open connection, lives as long as its handle.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        match end {
            End::Close => None,
            End::Reset => {
                stream.set_zero_linger().unwrap();
                None
            }
            End::Hang => {
                eventually("the client's kernel has it all", LIMIT, || {
                    ready(sent(&stream))
                })
                .await
                .unwrap();
                tokio::time::pause();
                Some(stream)
            }
        }
    });
    let probe = HttpProbe::open().unwrap();
    let result = probe.get(target, "/", LIMIT).await;
    drop(server);
    (target, result)
}

nix::ioctl_read_bad!(unacknowledged, nix::libc::TIOCOUTQ, nix::libc::c_int);

/// Whether all that was written has arrived at the other end.
fn sent(stream: &TcpStream) -> Result<(), String> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open, and the kernel writes one `c_int` to a live one.
    unsafe { unacknowledged(stream.as_raw_fd(), &raw mut bytes) }.unwrap();
    match bytes {
        0 => Ok(()),
        _ => Err(format!("{bytes} bytes on their way")),
    }
}

const HALF_A_BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n<p>Hi from";

#[rstest]
#[case::closed("", End::Close, "connection closed while waiting for the answer")]
#[case::closed_in_body(HALF_A_BODY, End::Close, "connection closed while reading the body")]
#[case::reset("", End::Reset, "connection reset while waiting for the answer")]
#[case::reset_in_body(HALF_A_BODY, End::Reset, "connection reset while reading the body")]
#[case::hung("", End::Hang, "timed out after LIMIT while waiting for the answer")]
#[case::hung_in_body(HALF_A_BODY, End::Hang, "timed out after LIMIT while reading the body")]
#[tokio::test]
async fn a_failure_names_target_and_phase(
    #[case] answer: &str,
    #[case] end: End,
    #[case] message: &str,
) {
    let (target, result) = get_from(answer, end).await;
    let limit = format!("{:?}", patience::scaled(LIMIT).unwrap());
    let message = message.replace("LIMIT", &limit);
    assert_eq!(
        result.unwrap_err().to_string(),
        format!("http {target}: {message}")
    );
}

#[rstest]
#[case::head("SSH-2.0-OpenSSH_9.9\r\n", Phase::Waiting)]
#[case::body(
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    Phase::Reading
)]
#[tokio::test]
async fn what_is_no_http_is_a_bad_answer(#[case] answer: &str, #[case] phase: Phase) {
    let (target, result) = get_from(answer, End::Close).await;
    let error = result.unwrap_err();
    assert!(matches!(error, HttpError::BadAnswer { .. }), "{error}");
    let start = format!("http {target}: bad answer while {phase}: ");
    assert!(error.to_string().starts_with(&start), "{error}");
}

/// A stream that the kernel gives up as soon as it is read.
struct Lost;

impl AsyncRead for Lost {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(nix::errno::Errno::EHOSTUNREACH.into()))
    }
}

#[tokio::test]
async fn a_connection_that_the_kernel_gives_up_is_lost() {
    let target: SocketAddrV4 = "192.168.2.6:8080".parse().unwrap();
    let stream = TokioIo::new(tokio::io::join(Lost, tokio::io::sink()));
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    let sent = sender.send_request(request(target, "/").unwrap());
    let (_, answer) = join(connection, sent).await;
    let error = HttpError::exchanging(target, Phase::Waiting, answer.unwrap_err());
    assert!(matches!(error, HttpError::Lost { .. }), "{error}");
}

/// Servers of the HTTP/1.0 age mark the end of the body by closing.
#[tokio::test]
async fn a_body_without_length_ends_with_the_connection() {
    let (_, result) = get_from("HTTP/1.0 200 OK\r\n\r\n<p>Hi</p>\n", End::Close).await;
    let reply = result.unwrap();
    assert_eq!(reply.version, Version::HTTP_10);
    assert_eq!(reply.text(), "<p>Hi</p>\n");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses() {
    // Bound and not listening: the port is ours, and nobody else's test can listen there.
    let holder = TcpSocket::new_v4().unwrap();
    holder.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let target = v4(holder.local_addr().unwrap());
    let error = HttpProbe::open()
        .unwrap()
        .get(target, "/", LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Refused { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with(&format!("http {target}: connection refused"))
    );
}

/// The queue of the listener is full: the kernel drops further SYNs, as a blackhole does.
#[tokio::test]
async fn a_syn_without_answer_times_out_while_connecting() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _first = TcpStream::connect(address).await.unwrap();
    tokio::time::pause();
    let error = HttpProbe::open()
        .unwrap()
        .get(v4(address), "/", LIMIT)
        .await
        .unwrap_err();
    let phase = Phase::Connecting;
    assert!(
        matches!(error, HttpError::TimedOut { phase: at, .. } if at == phase),
        "{error}"
    );
}

#[test]
fn errors_of_connect_are_sorted() {
    use nix::errno::Errno;
    let target: SocketAddrV4 = "192.168.2.6:8080".parse().unwrap();
    let error = HttpError::connecting(target, Errno::EINVAL.into());
    let HttpError::Unreachable { refusal, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*refusal, Refusal::Blackhole);
    assert!(
        error
            .to_string()
            .ends_with("\nhint: `ip route get 192.168.2.6` in the same namespace shows the route")
    );
}

#[rstest]
#[case("")]
#[case("index.html")]
#[case("*")]
#[case("/a b")]
#[case("http://192.168.2.6/")]
#[tokio::test]
async fn a_bad_path_is_refused_before_anything_is_sent(#[case] path: &str) {
    let probe = HttpProbe::open().unwrap();
    let error = probe
        .get("127.0.0.1:9".parse().unwrap(), path, LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::BadPath { .. }), "{error}");
}

/// TEST-NET-1 is nobody's address.
#[test]
fn a_foreign_source_address_is_named() {
    let probe = HttpProbe::open().unwrap();
    let error = probe.bind(Ipv4Addr::new(192, 0, 2, 1)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("http: cannot connect from 192.0.2.1: ")
    );
}
