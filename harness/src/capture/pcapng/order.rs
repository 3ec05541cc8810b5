//! The packets of a finished file in the order of their time.
//!
//! A packet may be stamped long before a tap sees it: the kernel stamps what a veth device hands
//! over, puts it aside for a processor, and on a busy machine comes to it many milliseconds later.
//! No pause while a file is written is long enough for that, so a file that got such a packet is
//! put in order when it ends.

use std::io::{self, BufRead, Read};
use std::ops::Range;

/// Block types; pcap-file keeps its names for them to itself.
const ENHANCED_PACKET: u32 = 6;
const INTERFACE_STATISTICS: u32 = 5;
/// Bytes of a block up to the time of a packet: type, length, interface, high and low half. All
/// kinds that are written here are at least as long.
const HEAD: u64 = 20;

/// Which parts of a file of one section, one after the other, make it one in the order of time:
/// what describes it, then all packets; those of the same time stay as they are. Statistics are
/// left out, as they tell of the packets before them. Parts that follow each other in the file,
/// nearly all, are one.
///
/// # Errors
///
/// The file cannot be read, or ends within a block.
pub(super) fn by_time(mut file: impl BufRead) -> io::Result<Vec<Range<u64>>> {
    let (mut description, mut packets) = (Vec::new(), Vec::new());
    let mut at = 0;
    while !file.fill_buf()?.is_empty() {
        let (kind, length, _) = (word(&mut file)?, word(&mut file)?, word(&mut file)?);
        let time = (word(&mut file)?, word(&mut file)?);
        let rest = u64::from(length).saturating_sub(HEAD);
        if io::copy(&mut file.by_ref().take(rest), &mut io::sink())? < rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let block = at..at + u64::from(length);
        at = block.end;
        match kind {
            ENHANCED_PACKET => packets.push((time, block)),
            INTERFACE_STATISTICS => {}
            _ => description.push(block),
        }
    }
    packets.sort_by_key(|(time, _)| *time);
    let blocks = description
        .into_iter()
        .chain(packets.into_iter().map(|(_, block)| block));
    let mut parts: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        match parts.last_mut() {
            Some(last) if last.end == block.start => last.end = block.end,
            _ => parts.push(block),
        }
    }
    Ok(parts)
}

/// In the byte order of the network, which is what `Blocks` writes.
fn word(file: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}
