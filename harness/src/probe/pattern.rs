//! Payloads that are known again: no byte run of one passes for that of another.

/// An endless payload that depends on `start`: shifted or exchanged bytes are noticed.
pub(crate) fn bytes(start: u32) -> impl Iterator<Item = u8> {
    /// Knuth's multiplicative hash, 2^32 over the golden ratio.
    const SPREAD: u32 = 0x9E37_79B1;
    (0u32..).map(move |i| (start.wrapping_add(i).wrapping_mul(SPREAD) >> 24) as u8)
}

/// Whether `received` is how the payload of `start` begins.
pub(crate) fn matches(start: u32, received: &[u8]) -> bool {
    bytes(start).zip(received).all(|(sent, got)| sent == *got)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_known_again_and_a_shifted_one_is_not() {
        let payload: Vec<u8> = bytes(7).take(100).collect();
        assert!(matches(7, &payload));
        assert!(!matches(7, &payload[1..]));
        assert!(!matches(8, &payload));
        assert!(matches(8, &payload[1..]), "the next number is the next byte");
        assert!(matches(9, &[]));
    }
}
