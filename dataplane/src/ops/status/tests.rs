use super::*;
use crate::apply::fake::FakeKernel;
use crate::fixtures;
use crate::platform::{Addresses, Routes};

const WORKER: &str = "k8s-worker-1";

/// The seed's worker 1 as its agent has left it, and a `/proc/sys` that agrees.
fn synced() -> (FakeKernel, Desired, tempfile::TempDir) {
    let desired = Desired::compute(&fixtures::seed(), WORKER).unwrap();
    let mut kernel = FakeKernel::with_underlay();
    for interface in &desired.interfaces {
        kernel.add_link(interface, "veth");
    }
    apply::sync(
        &mut kernel,
        &mut AnyTunnel {
            backend: backend(),
            compared: Ok(Vec::new()),
        },
        &mut Filter::default(),
        &desired,
        Pass {
            thorough: true,
            now: Instant::now(),
            newcomers: &mut Newcomers::new(Duration::ZERO),
        },
    )
    .unwrap();
    let proc_sys = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(proc_sys.path().join("net/ipv4")).unwrap();
    std::fs::write(proc_sys.path().join("net/ipv4/ip_forward"), "1\n").unwrap();
    kernel.log.clear();
    (kernel, desired, proc_sys)
}

/// The one that does all it does through the platform.
fn backend() -> Box<dyn Encapsulation> {
    encap::candidates(Choice::Kernel).swap_remove(0)
}

fn compare(kernel: &mut FakeKernel, desired: &Desired, proc_sys: &tempfile::TempDir) -> Comparison {
    Comparison::new(desired, kernel, backend(), proc_sys.path().into()).unwrap()
}

#[test]
fn after_a_pass_everything_is_as_desired() {
    let (mut kernel, desired, proc_sys) = synced();
    let comparison = compare(&mut kernel, &desired, &proc_sys);
    assert!(comparison.is_equal(), "{comparison:#?}");
    let text = comparison.text(WORKER);
    // The tunnel and its kind, its address, six routes, the one sysctl there is, and what the
    // packet filter consists of.
    assert!(
        text.starts_with("node k8s-worker-1: all 44 objects are as desired\n"),
        "{text}"
    );
    let row = "route 192.168.2.0/24 via 10.12.22.3 dev tunl0 proto 80 mtu 1440 onlink";
    let line = text
        .lines()
        .find(|line| line.contains("192.168.2.0/24"))
        .unwrap();
    assert_eq!(
        line.trim()
            .split("  ")
            .filter(|side| side.trim() == row)
            .count(),
        2,
        "{line}"
    );
    assert_eq!(kernel.log, ["list ruleset"], "nothing was changed");
}

#[test]
fn what_differs_is_marked_and_shown_on_both_sides() {
    let (mut kernel, desired, proc_sys) = synced();
    let tunnel = kernel.link(TUNNEL).index;
    let removed = kernel
        .routes
        .iter()
        .position(|r| r.destination.to_string() == "192.168.2.0/24");
    kernel.routes.remove(removed.unwrap());
    kernel.link_mut(TUNNEL).mtu = 1400;
    let stray = crate::platform::Address {
        interface: tunnel,
        address: "10.9.9.9/32".parse().unwrap(),
    };
    kernel.add_address(&stray).unwrap();
    std::fs::write(proc_sys.path().join("net/ipv4/ip_forward"), "0\n").unwrap();
    kernel.log.clear();

    let comparison = compare(&mut kernel, &desired, &proc_sys);
    let different: Vec<_> = comparison.rows.iter().filter(|row| row.differs()).collect();
    let texts = |side: fn(&Row) -> &Option<String>| -> Vec<_> {
        different.iter().map(|row| side(row).as_deref()).collect()
    };
    assert_eq!(
        texts(|row| &row.desired),
        [
            Some("link tunl0 mtu 1440 up"),
            None,
            Some("route 192.168.2.0/24 via 10.12.22.3 dev tunl0 proto 80 mtu 1440 onlink"),
            Some("sysctl net.ipv4.ip_forward=1"),
        ]
    );
    assert_eq!(
        texts(|row| &row.actual),
        [
            Some("link tunl0 mtu 1400 up"),
            Some("address 10.9.9.9/32 dev tunl0"),
            None,
            Some("sysctl net.ipv4.ip_forward=0"),
        ]
    );
    assert!(!comparison.is_equal());
    let text = comparison.text(WORKER);
    assert_eq!(
        text.lines().filter(|line| line.starts_with('!')).count(),
        4,
        "{text}"
    );
    let json = comparison.json(WORKER);
    assert_eq!(json["equal"], false);
    assert_eq!(json["objects"][0]["actual"], "link tunl0 mtu 1400 up");
    assert_eq!(kernel.log, ["list ruleset"], "nothing was changed");
}

#[test]
fn what_is_not_ours_is_not_shown() {
    let (mut kernel, desired, proc_sys) = synced();
    let mut foreign = kernel.routes[0].clone();
    foreign.destination = "172.16.0.0/12".parse().unwrap();
    foreign.protocol = 4;
    kernel.replace_routes(&[foreign]);
    let comparison = compare(&mut kernel, &desired, &proc_sys);
    assert!(comparison.is_equal());
    assert!(!comparison.text(WORKER).contains("172.16."));
}

#[test]
fn what_cannot_be_done_yet_is_a_difference() {
    let (mut kernel, desired, proc_sys) = synced();
    kernel.addresses.clear();
    let comparison = compare(&mut kernel, &desired, &proc_sys);
    assert!(!comparison.is_equal());
    let notes = comparison.notes.join("\n");
    assert!(
        notes.contains("no interface has the node's address 10.12.22.2"),
        "{notes}"
    );
}
