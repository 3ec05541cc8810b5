//! Answers that tell the client how the server saw it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, StatusCode};

use super::{Answer, Answers, ReceivedRequest};
use crate::probe::pattern;
use crate::probe::seen::Seen;

const SOURCE: &str = "x-podlab-source";
const TTL: &str = "x-podlab-ttl";

/// Answers `GET /bytes/N` with a body of `N` bytes, and says in the headers `x-podlab-source` and
/// `x-podlab-ttl` from where the request came and which TTL the connection's SYN had.
pub fn reflection() -> impl Answers {
    |request: &ReceivedRequest| {
        let size = request.path.strip_prefix("/bytes/");
        let Some(size) = size.and_then(|size| size.parse().ok()) else {
            return Answer::html(StatusCode::NOT_FOUND, Bytes::new());
        };
        let mut answer = Answer::html(StatusCode::OK, pattern::payload(0, size));
        let ttl = request.ttl.map(|ttl| ttl.to_string());
        for (name, value) in [(SOURCE, Some(request.peer.to_string())), (TTL, ttl)] {
            let value = value.and_then(|value| HeaderValue::from_str(&value).ok());
            answer
                .headers
                .extend(value.map(|value| (header(name), value)));
        }
        answer
    }
}

fn header(name: &'static str) -> hyper::header::HeaderName {
    hyper::header::HeaderName::from_static(name)
}

/// The path of a body of that many bytes.
pub(crate) fn path(size: u32) -> String {
    format!("/bytes/{size}")
}

/// What the server saw, by its answer; `None` when the answer is none of [`reflection`].
pub(crate) fn read(headers: &HeaderMap) -> Option<Seen> {
    let text = |name| headers.get(name)?.to_str().ok();
    let source: SocketAddr = text(SOURCE)?.parse().ok()?;
    let ip = match source.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    let ttl = text(TTL).and_then(|ttl| ttl.parse().ok());
    Some(Seen::new(SocketAddrV4::new(ip, source.port()), ttl))
}

/// Whether `body` is what [`reflection`] answers to a request for so many bytes.
pub(crate) fn is_reflection(body: &[u8], size: u32) -> bool {
    body.len() == size as usize && pattern::matches(0, body)
}
