//! Beginning and end of a capture, and the errors of its beginning.

use std::collections::BTreeSet;

use nix::libc;
use podlab::capture::{Capture, CaptureError, CaptureSocket, Filter};

use crate::support::{PATIENCE, lo, start};

#[tokio::test]
async fn a_dropped_capture_closes_its_socket() {
    let _turn = lo().await;
    // By inode: those of earlier captures may still be closing.
    let sockets = || -> BTreeSet<String> {
        let table = std::fs::read_to_string("/proc/net/packet").unwrap();
        let inodes = table.lines().skip(1);
        let inodes = inodes.filter_map(|line| line.split_whitespace().last());
        inodes.map(str::to_owned).collect()
    };
    let before = sockets();
    let capture = start(&Filter::everything());
    let new: Vec<String> = sockets().difference(&before).cloned().collect();
    assert_eq!(new.len(), 1);
    drop(capture);
    let closed = async {
        while sockets().contains(&new[0]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
}

#[tokio::test]
async fn errors_name_the_device_and_say_what_to_do() {
    let _turn = lo().await;
    let missing = CaptureSocket::open("ens192", &Filter::everything()).unwrap_err();
    let text = missing.to_string();
    assert!(
        text.starts_with("cannot capture on ens192: no such device\nhint: "),
        "{text}"
    );
    let CaptureError::NoSuchDevice { present, .. } = missing else {
        panic!("{text}")
    };
    assert!(present.contains(&"lo".to_owned()), "{present:?}");
    let any = (1..=400).map(Filter::port).reduce(Filter::or).unwrap();
    let long = CaptureSocket::open("lo", &any).unwrap_err();
    assert!(
        matches!(
            long,
            CaptureError::FilterTooLong {
                instructions: 4097..,
                ..
            }
        ),
        "{long}"
    );
    let unprivileged = std::thread::spawn(|| {
        give_up_capabilities();
        CaptureSocket::open("lo", &Filter::everything()).unwrap_err()
    });
    let error = unprivileged.join().unwrap();
    assert!(
        matches!(error, CaptureError::NotPermitted { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("\nhint: needs CAP_NET_RAW"),
        "{error}"
    );
}

/// Takes every capability from the calling thread, and from no other.
fn give_up_capabilities() {
    // struct __user_cap_header_struct: version 3, this thread. Two empty sets of effective,
    // permitted and inheritable.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0u32; 6];
    // SAFETY: the kernel reads both, in these lengths.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(result, 0);
}

#[test]
fn a_capture_needs_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _turn = runtime.block_on(lo());
    let socket = CaptureSocket::open("lo", &Filter::everything()).unwrap();
    let error = Capture::start(socket, "n1/lo").unwrap_err();
    assert_eq!(error.to_string(), "cannot start a capture on n1/lo");
}
