//! Explicit congestion notification through a tunnel (RFC 6040), in the variants that the
//! kernel's ipip device has.

use super::ipv4;

const MASK: u8 = 3;
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// The outer type of service for an inner one: DSCP 0, and the ECN field carried over, where
/// "congestion experienced" starts anew as "capable" (RFC 3168, 9.1.1, full functionality).
pub(crate) fn outer(inner_tos: u8) -> u8 {
    match inner_tos & MASK {
        CE => ECT_0,
        other => other,
    }
}

/// Congestion was marked on a packet whose transport would not understand: drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Carries the outer ECN field into the inner packet's header, at the start of `inner`, which
/// is `header_len` long.
pub(crate) fn carry_inward(
    outer_tos: u8,
    inner: &mut [u8],
    header_len: usize,
) -> Result<(), Invalid> {
    let ecn = match (outer_tos & MASK, inner[1] & MASK) {
        (CE, NOT_ECT) => return Err(Invalid),
        (_, NOT_ECT) => return Ok(()),
        (CE, _) => CE,
        (ECT_1, ECT_0) => ECT_1,
        _ => return Ok(()),
    };
    if inner[1] & MASK != ecn {
        inner[1] = inner[1] & !MASK | ecn;
        ipv4::set_checksum(&mut inner[..header_len]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(NOT_ECT, NOT_ECT)]
    #[case(ECT_0, ECT_0)]
    #[case(ECT_1, ECT_1)]
    #[case::starts_anew(CE, ECT_0)]
    fn outward_only_the_ecn_field_is_taken(#[case] inner: u8, #[case] expected: u8) {
        assert_eq!(outer(0b1011_1000 | inner), expected);
    }

    /// RFC 6040, figure 4, all sixteen; `None` is "drop".
    #[rstest]
    #[case(NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None])]
    #[case(ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)])]
    #[case(ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)])]
    #[case(CE, [Some(CE), Some(CE), Some(CE), Some(CE)])]
    fn inward_as_in_the_rfcs_table(#[case] inner: u8, #[case] row: [Option<u8>; 4]) {
        for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
            let mut header = [0x45, 0b1011_1000 | inner, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0];
            let mut header: Vec<u8> = header.iter_mut().map(|b| *b).chain([10; 8]).collect();
            ipv4::set_checksum(&mut header);
            let before = header.clone();
            let answer = carry_inward(0b0100_0000 | outer, &mut header, 20);
            match expected {
                None => assert_eq!((answer, &header), (Err(Invalid), &before)),
                Some(ecn) => {
                    assert_eq!(answer, Ok(()));
                    assert_eq!(header[1], 0b1011_1000 | ecn, "{inner} in {outer}");
                    assert_eq!(super::super::tests::slow_checksum(&header), 0);
                }
            }
        }
    }
}
