//! UDP probes and their answers as bytes: pure functions.
//!
//! Both begin with a header of [`HEADER`] bytes, big-endian, and are filled up with a known
//! pattern. A request is magic `PLUQ`, number (8). Its answer is as long: magic `PLUA`, number
//! (8), source address (4) and port (2) as the server saw them, TTL on arrival (1, 0 unknown),
//! 1 when the request's payload was intact (1).

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::probe::pattern;
use crate::probe::seen::Seen;

/// Bytes of the header; the least that a probe has.
pub(crate) const HEADER: usize = 20;

const REQUEST: &[u8; 4] = b"PLUQ";
const ANSWER: &[u8; 4] = b"PLUA";

/// A probe of `length` bytes, but no less than [`HEADER`].
pub(crate) fn request(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length.max(HEADER));
    bytes.extend(REQUEST);
    bytes.extend(number.to_be_bytes());
    bytes.resize(HEADER, 0);
    fill(bytes, number, length)
}

/// What the server answers to `bytes` from `source`; `None` when that is no probe.
pub(crate) fn answer(bytes: &[u8], source: SocketAddrV4, ttl: Option<u8>) -> Option<Vec<u8>> {
    let (number, rest) = parse(bytes, REQUEST)?;
    let intact = pattern::matches(number as u32, rest);
    let mut answer = Vec::with_capacity(bytes.len());
    answer.extend(ANSWER);
    answer.extend(number.to_be_bytes());
    answer.extend(source.ip().octets());
    answer.extend(source.port().to_be_bytes());
    answer.extend([ttl.unwrap_or(0), u8::from(intact)]);
    Some(fill(answer, number, bytes.len()))
}

/// An answer that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) seen: Seen,
    /// Both payloads arrived as they were sent.
    pub(crate) intact: bool,
}

/// Reads an answer; `None` when it is none.
pub(crate) fn read(bytes: &[u8]) -> Option<Answer> {
    let (number, rest) = parse(bytes, ANSWER)?;
    let [a, b, c, d, p, q, ttl, intact] = *bytes.get(12..HEADER)?.first_chunk()?;
    let source = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q]));
    Some(Answer {
        number,
        seen: Seen::new(source, (ttl != 0).then_some(ttl)),
        intact: intact == 1 && pattern::matches(number as u32, rest),
    })
}

fn parse<'a>(bytes: &'a [u8], magic: &[u8; 4]) -> Option<(u64, &'a [u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let number = header.strip_prefix(magic)?.first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn fill(mut bytes: Vec<u8>, number: u64, length: usize) -> Vec<u8> {
    let rest = length.saturating_sub(bytes.len());
    // The low half changes from probe to probe.
    bytes.extend(pattern::payload(number as u32, rest));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 12), 40_000);

    proptest! {
        #[test]
        fn an_answer_says_what_the_server_saw(
            number: u64,
            length in 0_usize..3000,
            ttl in proptest::option::of(1_u8..),
        ) {
            let request = request(number, length);
            prop_assert_eq!(request.len(), length.max(HEADER));
            let bytes = answer(&request, SOURCE, ttl).unwrap();
            prop_assert_eq!(bytes.len(), request.len());
            let expected = Answer { number, seen: Seen::new(SOURCE, ttl), intact: true };
            prop_assert_eq!(read(&bytes), Some(expected));
        }

        #[test]
        fn a_changed_byte_of_either_payload_is_noticed(
            length in HEADER + 1..300,
            at: prop::sample::Index,
            there: bool,
        ) {
            let at = HEADER + at.index(length - HEADER);
            let mut sent = request(9, length);
            if there { sent[at] ^= 1; }
            let mut back = answer(&sent, SOURCE, None).unwrap();
            if !there { back[at] ^= 1; }
            prop_assert!(!read(&back).unwrap().intact);
        }

        #[test]
        fn hostile_bytes_are_no_probe(bytes: Vec<u8>) {
            prop_assert_eq!(answer(&bytes, SOURCE, None).is_some(),
                bytes.starts_with(REQUEST) && bytes.len() >= HEADER);
            prop_assert_eq!(read(&bytes).is_some(),
                bytes.starts_with(ANSWER) && bytes.len() >= HEADER);
        }
    }
}
