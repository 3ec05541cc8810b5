//! BPF programs and the content of their maps, by the numbers that tc filters name.
//!
//! Read through `bpf(2)` itself: a library that reads maps wants their types, and what is read
//! here belongs to agents of which the harness knows nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use serde::Serialize;

/// `enum bpf_cmd` of `linux/bpf.h`.
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_GET_NEXT_KEY: i32 = 4;
const PROG_GET_FD_BY_ID: i32 = 13;
const MAP_GET_FD_BY_ID: i32 = 14;
const OBJ_GET_INFO_BY_FD: i32 = 15;

/// Entries of one map that are kept.
const MAX_ENTRIES: usize = 4096;

/// A BPF program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramState {
    /// The kernel's number.
    pub id: u32,
    /// Its name, at most 15 letters.
    pub name: String,
    /// The hash of its instructions, in hexadecimal digits.
    pub tag: String,
    /// The maps that it uses.
    pub maps: Vec<MapState>,
}

/// A map of a BPF program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MapState {
    /// The kernel's number.
    pub id: u32,
    /// Its name, at most 15 letters.
    pub name: String,
    /// The kernel's number of its kind: 1 hash, 2 array, 5 and 6 the same per processor, 11 trie of
    /// prefixes.
    pub kind: u32,
    /// How many entries it can have.
    pub max_entries: u32,
    /// Keys and values in hexadecimal digits, in the byte order of memory; at most 4,096. Where
    /// every processor has a value of its own they stand one after the other with spaces between.
    /// Of kinds other than hash, array and trie there are none here.
    pub entries: Vec<(String, String)>,
}

/// The program with this number, and what its maps contain now.
pub(super) fn program(id: u32) -> io::Result<ProgramState> {
    let program = by_id(PROG_GET_FD_BY_ID, id)?;
    let mut info = [0_u8; 128];
    object_info(&program, &mut info)?;
    // The number of maps is known now: asked again with room for their numbers.
    let mut ids = vec![0_u32; u32_at(&info, 52) as usize];
    let mut request = [0_u8; 128];
    request[52..56].copy_from_slice(&(ids.len() as u32).to_ne_bytes());
    request[56..64].copy_from_slice(&(ids.as_mut_ptr() as u64).to_ne_bytes());
    // The kernel writes as many numbers as the request has room for, into `ids`.
    object_info(&program, &mut request)?;
    let maps: io::Result<Vec<MapState>> = ids.into_iter().map(map).collect();
    Ok(ProgramState {
        id,
        name: name_at(&info, 64),
        tag: hex(&info[8..16]),
        maps: maps?,
    })
}

fn map(id: u32) -> io::Result<MapState> {
    let map = by_id(MAP_GET_FD_BY_ID, id)?;
    let mut info = [0_u8; 128];
    object_info(&map, &mut info)?;
    let kind = u32_at(&info, 0);
    let (key_size, value_size) = (u32_at(&info, 8) as usize, u32_at(&info, 12) as usize);
    let mut entries = Vec::new();
    if let Some((values, size)) = values(kind, value_size)? {
        let mut key: Option<Vec<u8>> = None;
        while entries.len() < MAX_ENTRIES {
            let Some(next) = next_key(&map, key.as_deref(), key_size)? else {
                break;
            };
            // One that was removed this instant is no entry any more.
            if let Some(value) = look_up(&map, &next, values * size)? {
                let each = value.chunks_exact(size).map(|own| hex(&own[..value_size]));
                entries.push((hex(&next), each.collect::<Vec<_>>().join(" ")));
            }
            key = Some(next);
        }
    }
    Ok(MapState {
        id,
        name: name_at(&info, 24),
        kind,
        max_entries: u32_at(&info, 16),
        entries,
    })
}

/// How many values an entry of a map of this kind has, and what room the kernel takes for each;
/// `None` for kinds whose values are none, or are written in another way.
fn values(kind: u32, value_size: usize) -> io::Result<Option<(usize, usize)>> {
    const HASH: u32 = 1;
    const ARRAY: u32 = 2;
    const PERCPU_HASH: u32 = 5;
    const PERCPU_ARRAY: u32 = 6;
    const LRU_HASH: u32 = 9;
    const LRU_PERCPU_HASH: u32 = 10;
    const LPM_TRIE: u32 = 11;
    Ok(match kind {
        _ if value_size == 0 => None,
        HASH | ARRAY | LRU_HASH | LPM_TRIE => Some((1, value_size)),
        PERCPU_HASH | PERCPU_ARRAY | LRU_PERCPU_HASH => {
            let list = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
            let count = processors(&list).ok_or_else(|| io::Error::other(list))?;
            Some((count, value_size.next_multiple_of(8)))
        }
        _ => None,
    })
}

/// The length of a list like `0-3,6`.
fn processors(list: &str) -> Option<usize> {
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    });
    ranges.sum()
}

fn by_id(command: i32, id: u32) -> io::Result<OwnedFd> {
    let mut attributes = [0_u8; 128];
    attributes[..4].copy_from_slice(&id.to_ne_bytes());
    // SAFETY: the request has a number and no address.
    let fd = unsafe { call(command, &mut attributes[..12]) }?;
    // SAFETY: the kernel has just made the descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Fills `info`, which may have an address of its own for what it asks (see `program`).
fn object_info(object: &OwnedFd, info: &mut [u8; 128]) -> io::Result<()> {
    let mut attributes = [0_u8; 16];
    attributes[..4].copy_from_slice(&object.as_raw_fd().to_ne_bytes());
    attributes[4..8].copy_from_slice(&(info.len() as u32).to_ne_bytes());
    attributes[8..].copy_from_slice(&(info.as_mut_ptr() as u64).to_ne_bytes());
    // SAFETY: the kernel writes at most `info.len()` bytes to `info`, and to the address in it no
    // more than the count beside it says, which is the length of the vector there.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut attributes) }.map(drop)
}

fn next_key(map: &OwnedFd, key: Option<&[u8]>, size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut next = vec![0_u8; size];
    let key = key.map_or(0, |key| key.as_ptr() as u64);
    // SAFETY: the key that is read and the one that is written have the size of the map's keys.
    let result = unsafe { element(MAP_GET_NEXT_KEY, map, key, next.as_mut_ptr() as u64) };
    found(result, next)
}

fn look_up(map: &OwnedFd, key: &[u8], size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; size];
    let (key, address) = (key.as_ptr() as u64, value.as_mut_ptr() as u64);
    // SAFETY: key and value have the sizes that the kernel reads and writes for this kind of map.
    let result = unsafe { element(MAP_LOOKUP_ELEM, map, key, address) };
    found(result, value)
}

fn found(result: io::Result<i32>, value: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    match result {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// # Safety
/// Both are addresses of memory that has the sizes that the command reads and writes there.
unsafe fn element(command: i32, map: &OwnedFd, key: u64, value: u64) -> io::Result<i32> {
    let mut attributes = [0_u8; 32];
    attributes[..4].copy_from_slice(&map.as_raw_fd().to_ne_bytes());
    attributes[8..16].copy_from_slice(&key.to_ne_bytes());
    attributes[16..24].copy_from_slice(&value.to_ne_bytes());
    // SAFETY: the caller vouches for the addresses.
    unsafe { call(command, &mut attributes) }
}

/// # Safety
/// Every address in the request is that of memory that the command may use as it does.
unsafe fn call(command: i32, attributes: &mut [u8]) -> io::Result<i32> {
    // SAFETY: the request itself is as long as is said; the caller vouches for the rest.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            attributes.len(),
        )
    };
    let result = Errno::result(result)?;
    // Descriptors and zero: both are small.
    Ok(result as i32)
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[place..place + 4]);
    u32::from_ne_bytes(number)
}

fn name_at(bytes: &[u8], place: usize) -> String {
    let name = &bytes[place..place + 16];
    let end = name.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::processors;

    #[test]
    fn processors_are_counted_from_the_kernels_list() {
        assert_eq!(processors("0\n"), Some(1));
        assert_eq!(processors("0-1\n"), Some(2));
        assert_eq!(processors("0-3,6,8-9\n"), Some(7));
        assert_eq!(processors("\n"), None);
        assert_eq!(processors("3-1"), None);
    }
}
