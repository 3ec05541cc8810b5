//! What a test may need of the kernel and not every kernel has.

mod probe;

use std::sync::OnceLock;

/// Something that not every kernel offers and that a test can ask for:
/// `#[podlab::test(needs = "netem")]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// `netem`: the queueing discipline that delays, drops, reorders and duplicates.
    Netem,
    /// `ipip`: the kernel's own IPIP device.
    Ipip,
    /// `bpf`: this process may load programs for tc.
    Bpf,
    /// `userns`: an ordinary user may make a user namespace and a network namespace in it.
    Userns,
    /// `uso`: packet sockets can describe UDP super-packets (Linux 6.2), so that a program can
    /// take those that nobody has cut.
    Uso,
    /// `napi`: how long a device collects what it receives can be set (`gro_flush_timeout`), which
    /// is for the machine's root alone.
    Napi,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Netem,
        Self::Ipip,
        Self::Bpf,
        Self::Userns,
        Self::Uso,
        Self::Napi,
    ];

    /// As tests and [`ALLOW`](super::ALLOW) write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::Ipip => "ipip",
            Self::Bpf => "bpf",
            Self::Userns => "userns",
            Self::Uso => "uso",
            Self::Napi => "napi",
        }
    }

    /// The feature of that name.
    ///
    /// # Panics
    /// When there is none; in the attribute of a test that is an error of the compiler.
    pub const fn named(name: &str) -> Self {
        let mut index = 0;
        while index < Self::ALL.len() {
            if equal(Self::ALL[index].name().as_bytes(), name.as_bytes()) {
                return Self::ALL[index];
            }
            index += 1;
        }
        panic!("there is no such feature; see podlab::suite::Feature for those that there are")
    }

    /// Tries it out, in namespaces that are gone afterwards; once per process.
    ///
    /// # Errors
    /// When the kernel does not offer it, in the kernel's words.
    pub fn probe(self) -> Result<(), String> {
        static ANSWERS: [OnceLock<Result<(), String>>; Feature::ALL.len()] =
            [const { OnceLock::new() }; Feature::ALL.len()];
        ANSWERS[self as usize]
            .get_or_init(|| probe::probe(self))
            .clone()
    }
}

/// `==` of slices is not there yet at compile time.
const fn equal(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_its_feature() {
        for feature in Feature::ALL {
            assert_eq!(Feature::named(feature.name()), feature);
            assert_eq!(Feature::ALL[feature as usize], feature);
        }
    }

    #[test]
    fn a_name_that_only_begins_like_one_is_none() {
        for name in ["", "net", "netems", "NETEM"] {
            assert!(std::panic::catch_unwind(|| Feature::named(name)).is_err());
        }
    }
}
