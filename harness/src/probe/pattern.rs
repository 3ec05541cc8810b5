//! Payloads that are known again: no run of bytes passes for that of another probe, nor for the
//! same one shifted.

use std::sync::LazyLock;

/// Pseudo-random bytes, from which every payload is cut: filling and comparing a packet is then one
/// copy and one comparison of memory, also in a build without optimisation.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // xorshift32 (Marsaglia 2003), any seed but 0.
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..2 * STARTS).map(|_| next()).collect()
});

/// The places at which a payload may begin.
const STARTS: usize = 1 << 16;

/// A payload of `length` bytes; another `start` gives another one.
pub(crate) fn payload(start: u32, length: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(length);
    for run in runs(start, length) {
        payload.extend_from_slice(run);
    }
    payload
}

/// Where `received` differs first from the payload of `start`, if it does.
pub(crate) fn difference(start: u32, received: &[u8]) -> Option<usize> {
    let mut at = 0;
    for run in runs(start, received.len()) {
        let here = &received[at..at + run.len()];
        if here != run {
            let differs = here.iter().zip(run).position(|(got, sent)| got != sent);
            return differs.map(|offset| at + offset);
        }
        at += run.len();
    }
    None
}

/// Whether `received` is the payload of `start`, whatever its length.
pub(crate) fn matches(start: u32, received: &[u8]) -> bool {
    difference(start, received).is_none()
}

/// The noise from the place of `start` on, in runs of at most [`STARTS`] bytes.
fn runs(start: u32, length: usize) -> impl Iterator<Item = &'static [u8]> {
    /// Knuth's multiplicative hash, 2^32 over the golden ratio: neighbours begin far apart.
    const SPREAD: u32 = 0x9E37_79B1;
    let begin = (start.wrapping_mul(SPREAD) >> 16) as usize;
    let noise = &NOISE[begin..begin + STARTS];
    (0..length)
        .step_by(STARTS)
        .map(move |done| &noise[..STARTS.min(length - done)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0)]
    #[case(100)]
    #[case(STARTS)]
    #[case(3 * STARTS + 5)]
    fn a_payload_is_known_again(#[case] length: usize) {
        let payload = payload(7, length);
        assert_eq!(payload.len(), length);
        assert!(matches(7, &payload));
    }

    #[test]
    fn another_a_shifted_and_a_changed_payload_are_not() {
        let mut payload = payload(7, STARTS + 50);
        assert!(!matches(8, &payload));
        assert!(!matches(7, &payload[1..]));
        payload[STARTS + 20] ^= 1;
        assert_eq!(difference(7, &payload), Some(STARTS + 20));
    }
}
