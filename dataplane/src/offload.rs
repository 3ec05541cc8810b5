//! What the kernel joins in software, set on a pair of interfaces (ethtool, and the values below
//! `/sys/class/net`), of the network namespace that the process is in.

mod udp;

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::platform::{KernelError, Link};

// The kernel's linux/ethtool.h: one word to ask with, the other to set with.
const GENERIC_RECEIVE: Offload = Offload {
    name: "gro",
    get: 0x2b,
    set: 0x2c,
};
const TCP_SEGMENTATION: Offload = Offload {
    name: "tso",
    get: 0x1e,
    set: 0x1f,
};

struct Offload {
    name: &'static str,
    get: u32,
    set: u32,
}

pub(crate) use udp::cut_udp;

/// Makes `joined` join what is sent into `segments`, its peer, and hold it for `hold`. Returns
/// whether anything was changed.
///
/// # Errors
/// When the kernel refuses, or has none of it.
pub(crate) fn join(segments: &Link, joined: &Link, hold: Duration) -> Result<bool, KernelError> {
    let mut changed = set_offload(joined, &GENERIC_RECEIVE, true)?;
    // A veth device joins only what it takes for cut: what comes from one that does not cut.
    changed |= set_offload(segments, &TCP_SEGMENTATION, false)?;
    // The device is read by this timer alone, for as long as it finds something. Without it, it
    // would be read after every single packet, and there would be nothing to join it with.
    let hold = hold.as_nanos().to_string();
    for (value, wanted) in [("gro_flush_timeout", &*hold), ("napi_defer_hard_irqs", "1")] {
        changed |= set_value(Path::new("/sys/class/net"), joined, value, wanted)?;
    }
    Ok(changed)
}

fn set_offload(link: &Link, offload: &Offload, on: bool) -> Result<bool, KernelError> {
    // `struct ethtool_value`.
    let mut value = [offload.get, 0];
    ethtool(link, offload.name, &mut value)?;
    if value[1] == u32::from(on) {
        return Ok(false);
    }
    ethtool(link, offload.name, &mut [offload.set, u32::from(on)])?;
    Ok(true)
}

/// One of ethtool's commands, by its structure as a series of numbers: the command itself first,
/// and room for the whole answer behind it.
fn ethtool(link: &Link, object: &str, words: &mut [u32]) -> Result<(), KernelError> {
    let failed = |source: io::Error| KernelError {
        operation: "set offload",
        object: format!("{} {object}", link.name),
        message: String::new(),
        source,
    };
    let any = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| failed(errno.into()))?;
    // SAFETY: plain numbers and arrays of them, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(link.name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the request and the words that it points to outlive the call; how many of them the
    // kernel reads and writes follows from the command and the counts in them, which the callers
    // have made room for.
    let answer = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if answer < 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    Ok(())
}

/// A value that is right is left alone.
fn set_value(root: &Path, link: &Link, value: &str, wanted: &str) -> Result<bool, KernelError> {
    let failed = |operation, source| KernelError {
        operation,
        object: format!("{} {value}={wanted}", link.name),
        message: String::new(),
        source,
    };
    let folder = folder_of(root, link).map_err(|error| failed("find device", error))?;
    let file = folder.join(value);
    let current = fs::read_to_string(&file).map_err(|error| failed("read device", error))?;
    if current.trim_end() == wanted {
        return Ok(false);
    }
    fs::write(&file, wanted).map_err(|error| failed("write device", error))?;
    Ok(true)
}

/// sysfs shows the namespace of whoever mounted it, which may be another one with an interface of
/// the same name.
fn folder_of(root: &Path, link: &Link) -> io::Result<PathBuf> {
    let folder = root.join(&link.name);
    let read = |file: &str| fs::read_to_string(folder.join(file));
    let index = read("ifindex")?;
    let mac = link.mac.map(|mac| mac.to_string());
    let same = index.trim_end() == link.index.to_string()
        && mac.is_none_or(|mac| read("address").is_ok_and(|text| text.trim_end() == mac));
    if !same {
        let why = "/sys shows another network namespace";
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fake::FakeKernel;

    #[test]
    fn a_device_of_another_namespace_is_left_alone() {
        let kernel = FakeKernel::with_underlay();
        let link = kernel.link("ens192");
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ens192");
        fs::create_dir(&folder).unwrap();
        let write = |file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
        write("ifindex", &format!("{}\n", link.index));
        write("address", "02:00:00:00:00:99\n");
        write("gro_flush_timeout", "0\n");
        let set = || set_value(root.path(), link, "gro_flush_timeout", "100000");
        let error = set().unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);

        write("address", &format!("{}\n", link.mac.unwrap()));
        assert!(set().unwrap());
        let now = fs::read_to_string(folder.join("gro_flush_timeout")).unwrap();
        assert_eq!(now, "100000");
        assert!(!set().unwrap(), "it is right");

        write("ifindex", "99\n");
        assert!(set().is_err());
    }
}
