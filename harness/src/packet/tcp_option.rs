//! TCP options, all of them: what is not known is kept as bytes.

use std::fmt;

/// Option numbers (IANA).
mod kind {
    pub(super) const END_OF_LIST: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
    pub(super) const MD5_SIGNATURE: u8 = 19;
    pub(super) const FAST_OPEN: u8 = 34;
}

/// One TCP option. Prints as `tcpdump` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// End of the list; what follows is padding.
    EndOfList,
    /// Padding between options.
    Nop,
    /// Largest segment that the sender of the option accepts, in bytes.
    Mss(u16),
    /// Left shift of the window, RFC 7323.
    WindowScale(u8),
    /// Selective acknowledgment is understood, RFC 2018.
    SackPermitted,
    /// Blocks received out of order: first sequence number and the one after the last.
    Sack(Vec<(u32, u32)>),
    /// Timestamps, RFC 7323.
    Timestamps {
        /// The sender's clock.
        value: u32,
        /// The last value received.
        echo: u32,
    },
    /// An option that is not read, or one whose length is not what its kind demands.
    Other {
        /// IANA's number.
        kind: u8,
        /// What follows kind and length.
        data: Vec<u8>,
    },
    /// An option whose length is impossible; nothing after it can be read.
    Malformed,
}

impl TcpOption {
    /// Reads the options area of a header up to its end, an end-of-list, or the first option that
    /// is not complete.
    ///
    /// `present` is what was captured of the area, `length` its whole length in bytes.
    pub(super) fn parse_all(present: &[u8], length: usize) -> Vec<TcpOption> {
        let mut options = Vec::new();
        let mut rest = present;
        let mut left = length;
        while let [kind, tail @ ..] = rest {
            let (option, size) = match (*kind, tail) {
                (kind::END_OF_LIST, _) => (TcpOption::EndOfList, 1),
                (kind::NOP, _) => (TcpOption::Nop, 1),
                (_, []) if left > 1 => break,
                (_, []) => (TcpOption::Malformed, 1),
                (_, [size, ..]) if *size < 2 || usize::from(*size) > left => {
                    (TcpOption::Malformed, 1)
                }
                (kind, [size, data @ ..]) => {
                    let size = usize::from(*size);
                    let Some(data) = data.get(..size - 2) else {
                        break;
                    };
                    (TcpOption::read(kind, data), size)
                }
            };
            let last = matches!(option, TcpOption::EndOfList | TcpOption::Malformed);
            options.push(option);
            if last {
                break;
            }
            rest = &rest[size..];
            left -= size;
        }
        options
    }

    fn read(kind: u8, data: &[u8]) -> TcpOption {
        match (kind, data) {
            (kind::MSS, &[a, b]) => TcpOption::Mss(u16::from_be_bytes([a, b])),
            (kind::WINDOW_SCALE, &[shift]) => TcpOption::WindowScale(shift),
            (kind::SACK_PERMITTED, []) => TcpOption::SackPermitted,
            (kind::SACK, blocks) if blocks.len() % 8 == 0 => {
                TcpOption::Sack(blocks.chunks_exact(8).map(word_pair).collect())
            }
            (kind::TIMESTAMPS, words) if words.len() == 8 => {
                let (value, echo) = word_pair(words);
                TcpOption::Timestamps { value, echo }
            }
            (kind, data) => TcpOption::Other {
                kind,
                data: data.to_vec(),
            },
        }
    }
}

/// Two big-endian words from a slice of eight bytes.
fn word_pair(bytes: &[u8]) -> (u32, u32) {
    let pair = bytes
        .iter()
        .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    ((pair >> 32) as u32, pair as u32)
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TcpOption::EndOfList => f.write_str("eol"),
            TcpOption::Nop => f.write_str("nop"),
            TcpOption::Mss(size) => write!(f, "mss {size}"),
            TcpOption::WindowScale(shift) => write!(f, "wscale {shift}"),
            TcpOption::SackPermitted => f.write_str("sackOK"),
            TcpOption::Sack(blocks) => {
                write!(f, "sack {} ", blocks.len())?;
                blocks
                    .iter()
                    .try_for_each(|(start, end)| write!(f, "{{{start}:{end}}}"))
            }
            TcpOption::Timestamps { value, echo } => write!(f, "TS val {value} ecr {echo}"),
            TcpOption::Other {
                kind: kind::FAST_OPEN,
                data,
            } => match data.len() {
                0 => f.write_str("tfo  cookiereq"),
                4 | 6 | 8 | 10 | 12 | 14 | 16 => write!(f, "tfo  cookie {}", Hex(data)),
                _ => f.write_str("tfo  (invalid)"),
            },
            TcpOption::Other {
                kind: kind::MD5_SIGNATURE,
                data,
            } if data.len() == 16 => {
                let reason = "shared secret not supplied with -M, can't check";
                write!(f, "md5 {reason} - {}", Hex(data))
            }
            TcpOption::Other { kind, data } if data.is_empty() => write!(f, "unknown-{kind}"),
            TcpOption::Other { kind, data } => write!(f, "unknown-{kind} 0x{}", Hex(data)),
            TcpOption::Malformed => f.write_str("[bad opt]"),
        }
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
