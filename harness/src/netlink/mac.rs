//! Ethernet hardware addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit hardware address, printed as `02:50:c0:a8:01:0c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// A text that is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address: six hexadecimal bytes joined by colons")]
pub struct MacAddressError(String);

impl MacAddress {
    /// What Calico gives the host's side of every pod's veth pair; no pod ever sees another.
    pub(crate) const CALI: Self = Self([0xee; 6]);

    /// A locally administered address that can be read: `kind` and then the IPv4 address. The
    /// same pod has the same address in every run, which makes captures comparable.
    pub(crate) fn of(kind: u8, address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, kind, a, b, c, d])
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MacAddressError(text.to_owned());
        let bytes = text
            .split(':')
            .map(|part| match part.len() {
                2 => u8::from_str_radix(part, 16).map_err(|_| error()),
                _ => Err(error()),
            })
            .collect::<Result<Vec<u8>, _>>()?;
        Self::from_bytes(&bytes).ok_or_else(error)
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses_and_refuses_the_rest() {
        let mac = MacAddress::of(0x50, Ipv4Addr::new(192, 168, 1, 12));
        assert_eq!(mac.to_string(), "02:50:c0:a8:01:0c");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for wrong in [
            "",
            "02:50:c0:a8:01",
            "02:50:c0:a8:01:0c:00",
            "2:50:c0:a8:1:c",
            "zz:50:c0:a8:01:0c",
        ] {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }
}
