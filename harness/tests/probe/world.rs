//! Three network namespaces in a row: ours, a router's, a far host's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// We, a router, and a far host behind a link of MTU 1440, with routes of every kind.
const SET_UP: &str = "
set -e
in_router() { nsenter --net=/proc/$ROUTER/ns/net \"$@\"; }
in_far() { nsenter --net=/proc/$FAR/ns/net \"$@\"; }
ip link set lo up
ip link add eth0 type veth peer name r0 netns $ROUTER
in_router ip link add r1 mtu 1440 type veth peer name eth0 mtu 1440 netns $FAR
ip address add 10.0.1.2/24 dev eth0
in_router ip address add 10.0.1.1/24 dev r0
in_router ip address add 10.0.2.1/24 dev r1
in_far ip address add 10.0.2.2/24 dev eth0
ip link set eth0 up
in_router ip link set r0 up
in_router ip link set r1 up
in_far ip link set eth0 up
in_router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
in_router sh -c 'echo 0 > /proc/sys/net/ipv4/icmp_ratelimit'
ip route add 10.0.0.0/16 via 10.0.1.1
in_far ip route add default via 10.0.2.1
in_router ip route add unreachable 10.0.3.0/24
in_router ip route add prohibit 10.0.4.0/24
in_router ip route add blackhole 10.0.5.0/24
ip route add unreachable 10.9.3.0/24
ip route add prohibit 10.9.4.0/24
ip route add blackhole 10.9.5.0/24
";

/// The two other namespaces live as long as their processes, and these as long as their
/// standard input: until this process ends, however it does.
pub(crate) static WORLD: LazyLock<[Child; 2]> = LazyLock::new(|| {
    let world = [namespace(), namespace()];
    let output = Command::new("sh")
        .args(["-c", SET_UP])
        .env("ROUTER", world[0].id().to_string())
        .env("FAR", world[1].id().to_string())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    world
});

/// A process in a new network namespace, which it is in when this returns.
fn namespace() -> Child {
    let mut child = Command::new("unshare")
        .args([
            "--net",
            "sh",
            "-c",
            "ip link set lo up && echo up && exec cat",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    child
}
