//! UDP super-packets, for which old kernels have no word towards programs.
//!
//! A packet socket tells how a super-packet is to be cut in a virtio header. For UDP such headers
//! have a number since Linux 6.2 (`VIRTIO_NET_HDR_GSO_UDP_L4`); before, the kernel drops a packet
//! that it cannot describe. There it has to cut them before they reach the device.

use std::fs;

use super::ethtool;
use crate::platform::{KernelError, Link};

// The kernel's linux/ethtool.h.
const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`: the names of offloads, in the order of their bits.
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`, in numbers.
const NAME: usize = 32 / size_of::<u32>();

/// The bit of devices that cut UDP super-packets themselves, by its name in
/// net/ethtool/common.c.
const CUTS_UDP: &str = "tx-udp-segmentation";
/// The first release whose virtio headers have a number for them.
const DESCRIBED_SINCE: (u32, u32) = (6, 2);

/// Makes the kernel cut UDP super-packets before it gives them to `link`, where it could not
/// describe them to a program. Returns whether anything was changed.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn cut_udp(link: &Link) -> Result<bool, KernelError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if is_described(&release) {
        return Ok(false);
    }
    let names = names(link)?;
    let Some(bit) = position(&names, CUTS_UDP) else {
        // A kernel without such super-packets.
        return Ok(false);
    };
    let (word, mask) = (bit / 32, 1 << (bit % 32));
    let words = (names.len() / NAME).div_ceil(32);
    // `struct ethtool_gfeatures`: of each word what is available, requested, active and fixed.
    let mut state = vec![0; 2 + 4 * words];
    (state[0], state[1]) = (GET_FEATURES, words as u32);
    ethtool(link, CUTS_UDP, &mut state)?;
    if state[2 + 4 * word + 2] & mask == 0 {
        return Ok(false);
    }
    // `struct ethtool_sfeatures`: of each word what is meant, and its value.
    let mut wanted = vec![0; 2 + 2 * words];
    (wanted[0], wanted[1]) = (SET_FEATURES, words as u32);
    wanted[2 + 2 * word] = mask;
    ethtool(link, CUTS_UDP, &mut wanted)?;
    Ok(true)
}

/// Whether a kernel of this release can describe them. Of one that cannot be read we believe it:
/// it is newer than anything known here.
fn is_described(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    match (number(), number()) {
        (Some(major), Some(minor)) => (major, minor) >= DESCRIBED_SINCE,
        _ => true,
    }
}

/// The names of all offloads, one after the other, filled up with zeroes.
fn names(link: &Link) -> Result<Vec<u32>, KernelError> {
    // `struct ethtool_sset_info`: a mask of two words, and one number for each bit that is set.
    let mut info = [GET_SET_INFO, 0, 1 << FEATURES, 0, 0];
    ethtool(link, "names of offloads", &mut info)?;
    let count = info[4];
    // `struct ethtool_gstrings`.
    let mut strings = vec![0; 3 + count as usize * NAME];
    (strings[0], strings[1], strings[2]) = (GET_STRINGS, FEATURES, count);
    ethtool(link, "names of offloads", &mut strings)?;
    Ok(strings.split_off(3))
}

fn position(names: &[u32], name: &str) -> Option<usize> {
    names.chunks_exact(NAME).position(|words| {
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
        bytes.take_while(|byte| *byte != 0).eq(name.bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        for described in ["6.2.0", "6.12.117+deb12-cloud-amd64", "10.0", "", "strange"] {
            assert!(is_described(described), "{described}");
        }
        for undescribed in ["6.1.0-56-cloud-amd64", "5.15.0", "4.19.0-27-amd64"] {
            assert!(!is_described(undescribed), "{undescribed}");
        }
    }

    #[test]
    fn a_name_is_found_as_a_whole() {
        let mut names = vec![0; 3 * NAME];
        for (at, name) in ["tx-udp", CUTS_UDP, "tx-udp-segmentation-more"]
            .iter()
            .enumerate()
        {
            for (i, byte) in name.bytes().enumerate() {
                let word: &mut u32 = &mut names[at * NAME + i / 4];
                *word |= u32::from(byte) << (8 * (i % 4));
            }
        }
        assert_eq!(position(&names, CUTS_UDP), Some(1));
        assert_eq!(position(&names, "tx-udp"), Some(0));
        assert_eq!(position(&names, "rx"), None);
    }
}
