//! Under which source packets leave.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use podlab::probe::server::{HttpServer, hello};
use podlab::spec::ClusterSpec;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet};
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, WORKER_1};
use rstest::rstest;

use crate::setup::{boot, in_mode, run};

const PORT: u16 = 9090;

/// Who asked a server, one entry for each request.
fn askers(server: &HttpServer) -> Vec<IpAddr> {
    let requests = server.requests();
    requests.iter().map(|request| request.peer.ip()).collect()
}

/// Proves that a remote pod can answer what a node sends from an address of its own that is not
/// the tunnel's: it sees the tunnel's address. What a pod sends keeps its source. (In `never`
/// there is no tunnel, and the node has the address that the others have a route to.)
#[rstest]
#[podlab::test]
async fn item_14_a_node_with_a_foreign_source_is_masqueraded(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
    #[values(Always, CrossSubnet)] mode: Encapsulation,
) -> Result<()> {
    // Of an administrator's, as for a service; nobody else has a route to it.
    const EXTRA: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
    let cluster = boot(in_mode(seed::spec(), mode), encapsulation).await?;
    let (node, remote) = (cluster.node(WORKER_1)?, cluster.pod(DEMO_W2)?);
    let server = remote.serve_http(PORT, hello("remote"))?;
    let (foreign, tunnel) = (node.address(), node.tunnel_address().expect("a tunnel"));
    let url = format!("http://{}:{PORT}/", remote.address());
    run(&node, &format!("ip address add {EXTRA}/32 dev lo")).await?;
    for source in [foreign, EXTRA] {
        let ask = format!("curl -sSf -m 5 --interface {source} {url}");
        run(&node, &ask).await?;
    }
    node.http_get(&remote, PORT, "/").await?;
    let pod = cluster.pod(TEST_TOOLS)?;
    pod.http_get(&remote, PORT, "/").await?;
    let expected = [tunnel, tunnel, tunnel, pod.address()].map(IpAddr::from);
    assert_eq!(askers(&server), expected);
    Ok(())
}

/// Proves what `nat_outgoing` does: a server outside all pools sees the node, without it the pod;
/// from pod to pod nothing is translated.
#[rstest]
#[podlab::test]
async fn outside_all_pools_a_pod_has_the_nodes_address_if_the_pool_says_so(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
    #[values(true, false)] nat_outgoing: bool,
) -> Result<()> {
    let mut spec: ClusterSpec = seed::spec();
    spec.pools[0].nat_outgoing = nat_outgoing;
    let cluster = boot(spec, encapsulation).await?;
    let (pod, node) = (cluster.pod(TEST_TOOLS)?, cluster.node(WORKER_1)?);
    let fabric = cluster.fabric();
    let outside = fabric.serve_http(PORT, hello("outside"))?;
    // The way back to a pod that shows itself; the world outside has none.
    run(
        fabric,
        &format!("ip route add {}/32 via {}", pod.address(), node.address()),
    )
    .await?;
    let gateway = fabric.addresses().await?;
    let gateway = gateway.iter().find(|a| !a.address.addr().is_loopback());
    let gateway = gateway.expect("the gateway's address").address.addr();
    pod.http_get(gateway, PORT, "/").await?;
    let seen = if nat_outgoing {
        node.address()
    } else {
        pod.address()
    };
    assert_eq!(askers(&outside), [IpAddr::from(seen)]);

    let remote = cluster.pod(DEMO_W2)?;
    let inside = remote.serve_http(PORT, hello("inside"))?;
    pod.http_get(&remote, PORT, "/").await?;
    assert_eq!(askers(&inside), [IpAddr::from(pod.address())]);
    Ok(())
}
