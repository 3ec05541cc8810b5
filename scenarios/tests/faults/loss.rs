//! Packets that are lost by count.

use anyhow::{Result, ensure};
use podlab::capture::{Captured, Filter};
use podlab::fault::{Direction, Flow, Loss};
use podlab::process::Program;
use podlab_scenarios::seed::{DEMO_W2, HTTP_PORT, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::world::{all, all_but, boot, pings, same, state};

const COUNT: u32 = 30;

/// Proves that every third packet between two nodes is lost, that one and no other, also inside of
/// the tunnel: a test that counts retransmissions can rely on it.
#[rstest]
#[podlab::test]
async fn every_third_packet_is_lost(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = state(&cluster).await?;
    let fault = cluster.lose([WORKER_1], [WORKER_2], Loss::every(3)).await?;
    let lost = (1..=COUNT).filter(|number| number % 3 == 0);
    assert_eq!(
        pings(&tools, far.address(), COUNT).await?,
        all_but(COUNT, lost)
    );
    assert_eq!(fault.dropped().await?, Some(10));
    fault.heal().await?;
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that single packets of one flow can be lost, and that what is not of the flow is neither
/// lost nor counted.
#[podlab::test]
async fn the_packets_of_one_flow_are_counted_apart() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let near = cluster.pod("c2c-network-demo")?;
    for pod in [&tools, &near] {
        pod.ping(&far).await?;
    }
    let flow = Flow::icmp().from(&tools).to(&far).tunnelled();
    let loss = Loss::these([1, 2, 17]).only(flow);
    let fault = cluster.lose([WORKER_1], [WORKER_2], loss).await?;
    assert_eq!(pings(&near, far.address(), COUNT).await?, all(COUNT));
    let got = pings(&tools, far.address(), COUNT).await?;
    assert_eq!(got, all_but(COUNT, [1, 2, 17]));
    let page = tools.http_get(&far, 8080, "/").await?;
    assert_eq!(page.text(), "<p>Hi from c2c-network-demo-w2</p>");
    assert_eq!(fault.dropped().await?, Some(3));
    Ok(())
}

/// Proves that the wire of a pod loses in the direction that is asked for, and no other pod's does.
#[rstest]
#[podlab::test]
async fn a_pods_wire_loses_in_one_direction(
    #[values(Direction::In, Direction::Out)] direction: Direction,
) -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, near) = (cluster.pod(TEST_TOOLS)?, cluster.pod("c2c-network-demo")?);
    tools.ping(&near).await?;
    let before = state(&cluster).await?;
    let wire = tools.wire()?;
    // Of what the pod sends or gets, only answers: so those of its own pings say nothing of Out.
    let loss = Loss::seeded(11, 0.2).only(Flow::icmp());
    let fault = wire.lose(direction, loss).await?;
    let answered = pings(&tools, near.address(), 100).await?.len() as u64;
    let dropped = fault.dropped().await?.unwrap();
    ensure!(
        dropped > 0 && answered + dropped == 100,
        "{answered} + {dropped}"
    );
    // The same packets in the same order lose the same: the pattern starts anew with each fault.
    fault.heal().await?;
    same(&before, &state(&cluster).await?)?;
    let loss = Loss::seeded(11, 0.2).only(Flow::icmp());
    let fault = wire.lose(direction, loss).await?;
    assert_eq!(
        pings(&tools, near.address(), 100).await?.len() as u64,
        answered
    );
    assert_eq!(fault.dropped().await?, Some(dropped));
    Ok(())
}

/// Proves that a node's wire loses tunnel packets whatever the backend does with them in the node.
#[rstest]
#[podlab::test]
async fn a_nodes_wire_loses_what_is_in_the_tunnel(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[values(Direction::In, Direction::Out)] direction: Direction,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let wire = cluster.node(WORKER_2)?.wire()?;
    let loss = Loss::every(2).only(Flow::any().protocol(4));
    let fault = wire.lose(direction, loss).await?;
    let lost = (1..=COUNT).filter(|number| number % 2 == 0);
    assert_eq!(
        pings(&tools, far.address(), COUNT).await?,
        all_but(COUNT, lost)
    );
    assert_eq!(fault.dropped().await?, Some(u64::from(COUNT / 2)));
    Ok(())
}

/// Proves that a test can take one segment of one connection: of two that talk at the same time,
/// between the same addresses, the third segment of the one is lost and sent again, and the other
/// does not notice.
#[rstest]
#[podlab::test]
async fn the_third_segment_of_one_connection_is_lost(
    #[values(false, true)] tunnelled: bool,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const LOSSY: u16 = 40_001;
    const OTHER: u16 = 40_002;
    let cluster = boot(backend).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let flow = Flow::tcp().from(&tools).to(&far).from_port(LOSSY);
    let flow = flow.to_port(HTTP_PORT);
    let fault = match tunnelled {
        true => {
            let loss = Loss::nth(3).only(flow.tunnelled());
            cluster.lose([WORKER_1], [WORKER_2], loss).await?
        }
        false => {
            let loss = Loss::nth(3).only(flow);
            tools.wire()?.lose(Direction::Out, loss).await?
        }
    };
    let sent = tools.capture("eth0", &Filter::protocol(6))?;
    let arrived = far.capture("eth0", &Filter::protocol(6))?;
    let url = format!("http://{}:{HTTP_PORT}/", far.address());
    let curl = |port: u16| {
        let port = port.to_string();
        Program::new("curl").args(["-sS", "-m", "30", "--local-port", &port, &url])
    };
    let (one, other) = tokio::join!(tools.exec(curl(LOSSY)), tools.exec(curl(OTHER)));
    for page in [one?, other?] {
        let page = page.success()?.stdout;
        assert_eq!(page, "<p>Hi from c2c-network-demo-w2</p>");
    }
    assert_eq!(fault.dropped().await?, Some(1));
    // What closes the connection may be under way: whatever has arrived has been sent before.
    let arrived = arrived.stop().await?.packets;
    let sent = sent.stop().await?.packets;
    // Each by the identification that its sender gave it, in the order of their coming.
    let of = |packets: &[Captured], port: u16| -> Vec<u16> {
        let of = packets.iter().filter(|captured| {
            let tcp = captured.packet.tcp();
            tcp.is_some_and(|tcp| tcp.source_port == port)
        });
        of.filter_map(|captured| Some(captured.packet.inner_ipv4()?.identification))
            .collect()
    };
    // SYN, ACK, the request, and the request again.
    let (mut wanted, got) = (of(&sent, LOSSY), of(&arrived, LOSSY));
    let third = wanted.remove(2);
    ensure!(
        got.len() >= 3 && wanted.starts_with(&got),
        "{got:?}, not {third}, of {wanted:?}"
    );
    let (wanted, got) = (of(&sent, OTHER), of(&arrived, OTHER));
    ensure!(
        got.len() >= 3 && wanted.starts_with(&got),
        "{got:?} of {wanted:?}"
    );
    Ok(())
}
