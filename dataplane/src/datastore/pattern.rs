//! A pattern for names of interfaces.

use std::fmt;
use std::sync::Arc;

use regex_lite::Regex;
use serde::de::{Deserialize, Deserializer, Error};

/// What Calico's `mtuIfacePattern` is when nobody sets it, and cards in a PCI domain of their own
/// (`enP…`): the names that systemd and the kernel give to network cards. Not tunl0, cali…, lo, docker0, veth… and what else carries no packets
/// between nodes.
const DEFAULT: &str = "^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan).*)";

/// A regular expression that matches anywhere in a name, unless it is anchored by `^` and `$`.
#[derive(Clone)]
pub struct InterfacePattern(Arc<Regex>);

impl InterfacePattern {
    /// # Errors
    /// What is wrong with `text`.
    pub fn new(text: &str) -> Result<Self, String> {
        match Regex::new(text) {
            Ok(regex) => Ok(Self(Arc::new(regex))),
            Err(error) => Err(format!("{text:?} is no regular expression: {error}")),
        }
    }

    /// Whether an interface of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl Default for InterfacePattern {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a test compiles this very text")]
        Self::new(DEFAULT).expect("the text is a constant")
    }
}

/// Two are the same that are written the same.
impl PartialEq for InterfacePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for InterfacePattern {}

impl fmt::Debug for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().fmt(f)
    }
}

impl<'de> Deserialize<'de> for InterfacePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::by_slot("ens192", true)]
    #[case::by_path("enp0s31f6", true)]
    #[case::by_domain("enP2p1s0f0", true)]
    #[case::on_board("eno1", true)]
    #[case::by_mac("enx0a1b2c3d4e5f", true)]
    #[case::by_the_kernel("eth0", true)]
    #[case::wireless("wlp2s0", true)]
    #[case::tunnel("tunl0", false)]
    #[case::tunnels_peer("tunl0-x", false)]
    #[case::pod("calied9d42cb137", false)]
    #[case::loopback("lo", false)]
    #[case::docker("docker0", false)]
    #[case::veth("veth1a2b3c4", false)]
    #[case::vxlan("vxlan.calico", false)]
    fn by_default_it_is_cards_that_are_meant(#[case] name: &str, #[case] expected: bool) {
        assert_eq!(InterfacePattern::default().matches(name), expected);
    }

    #[test]
    fn anchors_are_the_writers_business() {
        let anywhere = InterfacePattern::new("bond").unwrap();
        assert!(anywhere.matches("mybond0"));
        let anchored = InterfacePattern::new("^bond[0-9]$").unwrap();
        assert!(anchored.matches("bond0") && !anchored.matches("bond10"));
        assert_ne!(anywhere, anchored);
        let error = InterfacePattern::new("eth(").unwrap_err();
        assert!(
            error.starts_with("\"eth(\" is no regular expression: "),
            "{error}"
        );
    }
}
