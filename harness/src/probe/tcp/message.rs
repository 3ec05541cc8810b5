//! What a TCP probe and its server say to each other, as bytes: pure functions.
//!
//! The client sends the number of payload bytes (4, big-endian) and the payload, and closes its
//! side. The server answers with the client's address (4) and port (2) as it saw them, the TTL of
//! the SYN (1, 0 unknown), 1 when the payload was intact (1), as many bytes of payload, and closes.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::probe::pattern;
use crate::probe::seen::Seen;

/// Bytes before the payload of a request.
pub(super) const REQUEST: usize = 4;
/// Bytes before the payload of an answer.
pub(super) const ANSWER: usize = 8;

/// The two directions have different payloads: what is mirrored on the way does not pass.
const THERE: u32 = 0;
const BACK: u32 = 1 << 31;

pub(super) fn request(payload: u32) -> Vec<u8> {
    let mut bytes = payload.to_be_bytes().to_vec();
    bytes.extend(pattern::payload(THERE, payload as usize));
    bytes
}

/// How many bytes of payload a request announces.
pub(super) fn announced(head: [u8; REQUEST]) -> u32 {
    u32::from_be_bytes(head)
}

pub(super) fn answer(source: SocketAddrV4, ttl: Option<u8>, announced: u32, got: &[u8]) -> Vec<u8> {
    let intact = got.len() == announced as usize && pattern::matches(THERE, got);
    let mut bytes = source.ip().octets().to_vec();
    bytes.extend(source.port().to_be_bytes());
    bytes.extend([ttl.unwrap_or(0), u8::from(intact)]);
    bytes.extend(pattern::payload(BACK, announced as usize));
    bytes
}

/// What the server saw; `None` when a payload was changed in either direction.
pub(super) fn read_answer(head: &[u8; ANSWER], body: &[u8], payload: u32) -> Option<Seen> {
    let [a, b, c, d, p, q, ttl, intact] = *head;
    let whole = body.len() == payload as usize && pattern::matches(BACK, body);
    let source = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q]));
    (intact == 1 && whole).then(|| Seen::new(source, (ttl != 0).then_some(ttl)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 12), 40_000);

    fn exchange(size: u32, spoil: impl Fn(&mut Vec<u8>, &mut Vec<u8>)) -> Option<Seen> {
        let request = request(size);
        let (head, body) = request.split_first_chunk().unwrap();
        let mut there = body.to_vec();
        let mut none = Vec::new();
        spoil(&mut there, &mut none);
        let mut answer = answer(SOURCE, Some(62), announced(*head), &there);
        spoil(&mut none, &mut answer);
        let (head, body) = answer.split_first_chunk().unwrap();
        read_answer(head, body, size)
    }

    #[rstest]
    #[case(0)]
    #[case(1)]
    #[case(5000)]
    fn an_answer_says_what_the_server_saw(#[case] size: u32) {
        assert_eq!(exchange(size, |_, _| {}), Some(Seen::new(SOURCE, Some(62))));
    }

    #[test]
    fn changed_missing_and_mirrored_bytes_are_noticed() {
        assert_eq!(
            exchange(100, |there, _| there
                .iter_mut()
                .take(9)
                .skip(8)
                .for_each(|b| *b ^= 1)),
            None
        );
        assert_eq!(exchange(100, |there, _| there.truncate(99)), None);
        assert_eq!(
            exchange(100, |_, back| back.truncate(back.len().saturating_sub(1))),
            None
        );
        let mirrored = |_: &mut Vec<u8>, back: &mut Vec<u8>| {
            back.truncate(ANSWER);
            back.extend(request(100).split_off(REQUEST));
        };
        assert_eq!(exchange(100, mirrored), None);
    }
}
