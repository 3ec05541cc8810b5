//! The devices of these tests and ways to send through them.

use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use podlab::capture::{Capture, CaptureSocket, Captured, Direction, Filter};
use tokio::sync::{Mutex, MutexGuard};

/// Long enough for the slowest machine: a wait ends with the event, not with the time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// All tests share `lo`, so they take turns.
pub(crate) async fn lo() -> MutexGuard<'static, ()> {
    static LO: Mutex<()> = Mutex::const_new(());
    let turn = LO.lock().await;
    set_up("lo", true);
    turn
}

pub(crate) fn set_up(device: &str, up: bool) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut request = interface_request(device);
    // SAFETY: both requests take an ifreq, and this one has a name that ends in zero.
    unsafe {
        Errno::result(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS,
            &raw mut request,
        ))
        .unwrap();
        let flags = i32::from(request.ifr_ifru.ifru_flags);
        request.ifr_ifru.ifru_flags = match up {
            true => flags | libc::IFF_UP,
            false => flags & !libc::IFF_UP,
        } as i16;
        Errno::result(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &raw mut request,
        ))
        .unwrap();
    }
}

pub(crate) fn interface_request(device: &str) -> libc::ifreq {
    // SAFETY: an ifreq is plain data for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// Sends whole Ethernet frames through a device.
pub(crate) struct Sender(socket2::Socket);

impl Sender {
    pub(crate) fn on(device: &str) -> Sender {
        use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
        let index = nix::net::if_::if_nametoindex(device).unwrap();
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: the storage is made for every kind of address.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index.cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: the storage holds an address of that length.
        socket
            .bind(&unsafe { SockAddr::new(storage, length) })
            .unwrap();
        Sender(socket)
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(self.0.send(frame).unwrap(), frame.len());
    }
}

pub(crate) fn start(filter: &Filter) -> Capture {
    Capture::start(CaptureSocket::open("lo", filter).unwrap(), "n1/lo").unwrap()
}

pub(crate) fn of(packets: &[Captured], direction: Direction) -> Vec<Vec<u8>> {
    let selected = packets
        .iter()
        .filter(|captured| captured.direction == direction);
    selected
        .map(|captured| captured.packet.bytes().to_vec())
        .collect()
}

/// A TUN device that is up; it goes with the file. `None` where there is no TUN.
pub(crate) fn tun(name: &str) -> Option<File> {
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        Ok(file) => file,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "/dev/net/tun: {error}");
            eprintln!("skipped: /dev/net/tun: {error}");
            return None;
        }
    };
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: the request takes an ifreq, and this one has a name that ends in zero.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Errno::result(result).unwrap();
    set_up(name, true);
    Some(file)
}
