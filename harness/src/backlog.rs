//! Packets that the kernel threw away because no processor had time for them.
//!
//! What comes out of a veth waits in the backlog of the processor on which it was sent: one queue
//! of `net.core.netdev_max_backlog` packets (1,000 by default) for all networks of the machine.
//! When the processor does not get to it the queue runs over, and what comes then is lost. It is a
//! loss that neither the network nor its agent is to blame for, so whoever reports losses says
//! whether there were any of these.

use std::fs;

/// Counts what is thrown away from the moment on when it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    before: u64,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { before: dropped() }
    }

    /// Packets of all networks of this machine, not only of those that somebody asked about. Zero
    /// where the kernel does not tell.
    pub(crate) fn dropped(&self) -> u64 {
        dropped().saturating_sub(self.before)
    }
}

/// What a reader has to know of so many packets; nothing of none.
pub(crate) fn told(dropped: u64) -> Option<String> {
    let packets = match dropped {
        0 => return None,
        1 => "1 packet".to_owned(),
        many => format!("{many} packets"),
    };
    Some(format!(
        "this machine's kernel threw away {packets}, of whichever networks, that no processor had \
         time for (net.core.netdev_max_backlog): it was too slow, and may be to blame"
    ))
}

/// All since the machine was started.
fn dropped() -> u64 {
    // Whichever network this thread is in: they all say the same.
    fs::read_to_string("/proc/thread-self/net/softnet_stat").map_or(0, |text| dropped_in(&text))
}

/// Of `/proc/net/softnet_stat`: the second column, hexadecimal, of each processor.
pub(crate) fn dropped_in(text: &str) -> u64 {
    let drops = text.lines().filter_map(|line| {
        let column = line.split_whitespace().nth(1)?;
        u64::from_str_radix(column, 16).ok()
    });
    drops.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_column_of_every_processor_counts() {
        assert_eq!(dropped_in("00000010 0000000a 0\n00000010 00000001 0\n"), 11);
        assert_eq!(dropped_in(""), 0);
    }

    #[test]
    fn one_is_a_packet_and_none_is_nothing_to_tell() {
        assert_eq!(told(0), None);
        assert!(told(1).unwrap().contains("threw away 1 packet, of"));
        assert!(told(3371).unwrap().contains("threw away 3371 packets, of"));
    }
}
