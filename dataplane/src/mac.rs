//! Ethernet addresses as the datastore writes them and netlink carries them.

use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Why a text is no [`Mac`] that a pod could have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MacError {
    /// Not six pairs of hex digits with colons between them.
    #[error("not a MAC address (expected six hex pairs, as in 02:00:5e:10:00:01)")]
    Syntax,
    /// The group bit is set, or all bits are zero: no single station has this address.
    #[error("not the MAC address of one interface (all zero, or the group bit is set)")]
    NotUnicast,
}

impl Mac {
    /// The address in a netlink attribute; `None` unless it is six bytes long.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(MacError::Syntax)?;
            // from_str_radix would take a sign as well.
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacError::Syntax);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| MacError::Syntax)?;
        }
        if pairs.next().is_some() {
            return Err(MacError::Syntax);
        }
        if bytes == [0; 6] || bytes[0] & 1 == 1 {
            return Err(MacError::NotUnicast);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn text_and_value_agree() {
        let mac: Mac = "02:00:5e:10:00:fF".parse().unwrap();
        assert_eq!(mac, Mac([2, 0, 0x5e, 0x10, 0, 0xff]));
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
    }

    #[rstest]
    #[case("", MacError::Syntax)]
    #[case("02:00:5e:10:00", MacError::Syntax)]
    #[case("02:00:5e:10:00:01:02", MacError::Syntax)]
    #[case("02:00:5e:10:00:+1", MacError::Syntax)]
    #[case("02-00-5e-10-00-01", MacError::Syntax)]
    #[case("00:00:00:00:00:00", MacError::NotUnicast)]
    #[case("ff:ff:ff:ff:ff:ff", MacError::NotUnicast)]
    fn what_is_no_pod_mac_is_refused(#[case] text: &str, #[case] expected: MacError) {
        assert_eq!(text.parse::<Mac>(), Err(expected));
    }
}
