//! The routing tables of the three nodes.

use std::net::Ipv4Addr;

use anyhow::Result;
use podlab::netlink::{Route, RouteKind, RouteProtocol, RouteScope};
use podlab_scenarios::seed::{self, MASTER, MTU, TUNNEL, UNDERLAY, WORKER_1, WORKER_2};
use rstest::rstest;

/// The document's table on k8s-worker-1, `docker0` left out: no container engine runs here.
const WORKER_1_TABLE: &str = "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.12.0.1       0.0.0.0         UG    0      0        0 ens192
10.12.0.0       0.0.0.0         255.255.0.0     U     0      0        0 ens192
192.168.0.0     10.12.22.1      255.255.255.0   UG    0      0        0 tunl0
192.168.1.0     0.0.0.0         255.255.255.0   U     0      0        0 *
192.168.1.2     0.0.0.0         255.255.255.255 UH    0      0        0 cali0005aea454a
192.168.1.10    0.0.0.0         255.255.255.255 UH    0      0        0 calid9d486e54a8
192.168.1.12    0.0.0.0         255.255.255.255 UH    0      0        0 calied9d42cb137
192.168.2.0     10.12.22.3      255.255.255.0   UG    0      0        0 tunl0
";

const WORKER_2_TABLE: &str = "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.12.0.1       0.0.0.0         UG    0      0        0 ens192
10.12.0.0       0.0.0.0         255.255.0.0     U     0      0        0 ens192
192.168.0.0     10.12.22.1      255.255.255.0   UG    0      0        0 tunl0
192.168.1.0     10.12.22.2      255.255.255.0   UG    0      0        0 tunl0
192.168.2.0     0.0.0.0         255.255.255.0   U     0      0        0 *
192.168.2.6     0.0.0.0         255.255.255.255 UH    0      0        0 calia4d5046802b
";

const MASTER_TABLE: &str = "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.12.0.1       0.0.0.0         UG    0      0        0 ens192
10.12.0.0       0.0.0.0         255.255.0.0     U     0      0        0 ens192
192.168.0.0     0.0.0.0         255.255.255.0   U     0      0        0 *
192.168.1.0     10.12.22.2      255.255.255.0   UG    0      0        0 tunl0
192.168.2.0     10.12.22.3      255.255.255.0   UG    0      0        0 tunl0
";

/// Proves that a user who types `route -n` on a node reads what the document shows; the real
/// `route` prints the same as we do.
#[rstest]
#[case::k8s_worker_1(WORKER_1, WORKER_1_TABLE)]
#[case::k8s_worker_2(WORKER_2, WORKER_2_TABLE)]
#[case::k8s_master(MASTER, MASTER_TABLE)]
#[podlab::test]
async fn route_n_prints_the_documents_table(#[case] node: &str, #[case] table: &str) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(node)?;
    assert_eq!(node.route_table().await?, table);
    assert_eq!(node.exec("route -n").await?.success()?.stdout, table);
    Ok(())
}

/// Proves that the kernel holds the routes in the exact form in which Calico programs them:
/// kind, next hop, protocol, scope, MTU and on-link flag included.
#[rstest]
#[case::k8s_worker_1(WORKER_1, vec![
    block("192.168.0.0/24", [10, 12, 22, 1]),
    blackhole("192.168.1.0/24"),
    pod("192.168.1.2/32", "cali0005aea454a"),
    pod("192.168.1.10/32", "calid9d486e54a8"),
    pod("192.168.1.12/32", "calied9d42cb137"),
    block("192.168.2.0/24", [10, 12, 22, 3]),
])]
#[case::k8s_worker_2(WORKER_2, vec![
    block("192.168.0.0/24", [10, 12, 22, 1]),
    block("192.168.1.0/24", [10, 12, 22, 2]),
    blackhole("192.168.2.0/24"),
    pod("192.168.2.6/32", "calia4d5046802b"),
])]
#[case::k8s_master(MASTER, vec![
    blackhole("192.168.0.0/24"),
    block("192.168.1.0/24", [10, 12, 22, 2]),
    block("192.168.2.0/24", [10, 12, 22, 3]),
])]
#[podlab::test]
async fn the_kernel_holds_calicos_routes(
    #[case] node: &str,
    #[case] agents: Vec<Route>,
) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(node)?;
    let mut expected = underlay(node.address());
    expected.extend(agents);
    assert_eq!(node.routes().await?, expected);
    Ok(())
}

/// Proves that what a test reads back as the tunnel is the tunnel: MTU, one /32 address, up.
#[rstest]
#[case(MASTER, "192.168.0.0/32")]
#[case(WORKER_1, "192.168.1.0/32")]
#[case(WORKER_2, "192.168.2.0/32")]
#[podlab::test]
async fn the_tunnel_has_the_pools_mtu_and_one_address(
    #[case] node: &str,
    #[case] address: &str,
) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(node)?;
    let links = node.links().await?;
    let tunnel = links
        .iter()
        .find(|link| link.name == TUNNEL)
        .expect("there is a tunl0");
    assert_eq!(tunnel.mtu, MTU);
    assert!(tunnel.up && !tunnel.arp, "{tunnel:?}");
    let addresses = node.addresses().await?;
    let addresses: Vec<String> = addresses
        .iter()
        .filter(|address| address.interface == TUNNEL)
        .map(|address| address.address.to_string())
        .collect();
    assert_eq!(addresses, [address]);
    Ok(())
}

/// Proves that nodes answer their pods as Calico does: by a permanent entry, without asking.
#[podlab::test]
async fn pods_are_permanent_neighbours_of_their_node() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    for neighbour in node.neighbours().await? {
        if neighbour.interface.starts_with("cali") {
            assert_eq!(neighbour.state, podlab::netlink::NeighbourState::Permanent);
        }
    }
    let mut pods: Vec<Ipv4Addr> = node
        .neighbours()
        .await?
        .into_iter()
        .filter(|neighbour| neighbour.interface.starts_with("cali") && neighbour.mac.is_some())
        .map(|neighbour| neighbour.address)
        .collect();
    pods.sort();
    assert_eq!(
        pods,
        [[192, 168, 1, 2], [192, 168, 1, 10], [192, 168, 1, 12]].map(Ipv4Addr::from)
    );
    Ok(())
}

/// What a node has before its agent starts.
fn underlay(node: Ipv4Addr) -> Vec<Route> {
    let default = Route {
        gateway: Some(Ipv4Addr::new(10, 12, 0, 1)),
        interface: Some(UNDERLAY.to_owned()),
        protocol: RouteProtocol::BOOT,
        ..route("0.0.0.0/0")
    };
    let network = Route {
        interface: Some(UNDERLAY.to_owned()),
        source: Some(node),
        protocol: RouteProtocol::KERNEL,
        scope: RouteScope::Link,
        ..route("10.12.0.0/16")
    };
    vec![default, network]
}

fn block(destination: &str, next_hop: [u8; 4]) -> Route {
    Route {
        gateway: Some(next_hop.into()),
        interface: Some(TUNNEL.to_owned()),
        mtu: Some(MTU),
        onlink: true,
        ..route(destination)
    }
}

fn blackhole(destination: &str) -> Route {
    Route {
        kind: RouteKind::Blackhole,
        ..route(destination)
    }
}

fn pod(destination: &str, interface: &str) -> Route {
    Route {
        interface: Some(interface.to_owned()),
        scope: RouteScope::Link,
        ..route(destination)
    }
}

fn route(destination: &str) -> Route {
    Route {
        destination: destination.parse().expect("a network"),
        kind: RouteKind::Unicast,
        gateway: None,
        interface: None,
        source: None,
        protocol: RouteProtocol::CALICO,
        scope: RouteScope::Universe,
        tos: 0,
        metric: 0,
        mtu: None,
        onlink: false,
    }
}
