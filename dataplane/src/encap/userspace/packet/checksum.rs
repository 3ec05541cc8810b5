//! The Internet checksum (RFC 1071), over pieces.
//!
//! Sums are kept in the machine's own byte order, which one's complement addition does not
//! mind: what is read in an order is written in the same.

/// A sum that is not folded yet. Pieces but the last must have an even length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(4);
        // Up to 2³² words cannot overflow the 64 bits.
        for word in &mut words {
            self.0 += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let rest = words.remainder();
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        self.0 += u64::from(u32::from_ne_bytes(word));
        self
    }

    /// Adds one 16-bit field, given in host order.
    pub(crate) fn word(mut self, word: u16) -> Self {
        self.0 += u64::from(word.to_be());
        self
    }

    /// The sum as it stands in a checksum field that hardware, or whoever comes next, is to
    /// complete.
    pub(crate) fn partial(self) -> [u8; 2] {
        self.folded().to_ne_bytes()
    }

    /// The finished checksum. Over data that contains a right one it is zero.
    pub(crate) fn checksum(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

/// SCTP's checksum (RFC 9260, appendix A: CRC-32C), as it stands in the header, over a packet
/// whose checksum field is zero.
pub(crate) fn crc32c(bytes: &[u8]) -> [u8; 4] {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (REVERSED_POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    });
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::tests::slow_checksum;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_that_of_the_slow_and_obvious_way(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            cut in 0usize..1500,
            word: u16,
        ) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let sum = Sum::default().word(word).bytes(&bytes[..cut]).bytes(&bytes[cut..]);
            let whole = [&word.to_be_bytes()[..], &bytes].concat();
            prop_assert_eq!(u16::from_be_bytes(sum.checksum()), slow_checksum(&whole));
            prop_assert_eq!(u16::from_be_bytes(sum.partial()), !slow_checksum(&whole));
        }
    }

    /// The check value of the catalogue of CRCs, and RFC 3720, B.4.
    #[test]
    fn crc32c_of_known_bytes() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283_u32.to_le_bytes());
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
    }

    /// RFC 1071, section 3.
    #[test]
    fn the_rfcs_own_example() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), [0xdd, 0xf2]);
        assert_eq!(sum.checksum(), [0x22, 0x0d]);
    }
}
