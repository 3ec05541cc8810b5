//! What somebody else deletes or changes of ours is back by the kernel's own event.
//!
//! That it was the event and not the resync, which comes every 90 seconds, is told by the agent's
//! metrics: one resync, the one at the start.

use anyhow::{Context, Result};
use podlab::agent::PodlabAgent;
use podlab::eventually::eventually;
use podlab::process::Program;
use podlab::spec::Encapsulation::Never;
use podlab::{Cluster, Node};
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, WORKER_1};
use rstest::rstest;

use crate::program::{SOON, boot, boot_in, metric};

/// The host's end of the pod `test-tools`.
const POD: &str = "calied9d42cb137";
const ELSEWHERE: &str = "192.168.2.0/24 via 10.12.22.3 dev ";

/// What is ours on a node, as the system's own tools show it. Indices, and the numbers of
/// programs and rules, may be others when a thing was made again, and so may the order in which
/// hash tables are listed.
const LOOK: &str = "
    ip route show proto 80
    ip -o link show | grep tunl0 | sed 's/^[0-9]*: //; s/@[^:]*//; s/ qlen.*//; s/ qdisc [a-z]*//' | sort
    ip -o address show dev tunl0 | sed 's/^[0-9]*: //'
    ip neighbour show nud permanent | sort
    for device in ens192 $(ls /sys/class/net | grep -x tunl0-x); do
        tc filter show dev $device ingress | grep -o 'podlab-[a-z]*'
    done
    for device in $(ls /sys/class/net | grep -x tunl0-gro); do
        tc filter show dev $device ingress | grep -o 'mirred.*'
        grep . /sys/class/net/$device/gro_flush_timeout
    done
    sysctl net.ipv4.ip_forward
    cd /proc/sys/net/ipv4/conf
    for device in cali*; do grep -H . $device/proxy_arp $device/forwarding; done
    nft -s list table ip podlab | tr -s ' \t,' '\n' | sort | tr '\n' ' '";

/// `away DEVICE` gives it another name. Down first: kernels before 6.2 rename only what is down
/// already, and an agent is quick to bring it up again.
const AWAY: &str = r"
    away() {
        for _ in $(seq 200); do
            printf 'link set %s down\nlink set %s name stray\n' $1 $1 | ip -batch - 2>&- && return
        done
        ip link set $1 name stray
    }
";

async fn run(node: &Node, script: &str) -> Result<String> {
    let output = node.exec(Program::new("sh").args(["-c", script])).await?;
    Ok(output.success()?.stdout)
}

/// Runs `damage` on a node and waits until all that is ours is as it was, twice: what was made
/// again must be watched, too.
async fn is_undone(cluster: &Cluster, damage: &str) -> Result<()> {
    let node = cluster.node(WORKER_1)?;
    let good = run(&node, LOOK).await?;
    anyhow::ensure!(good.contains(ELSEWHERE), "{good}");
    for _ in 0..2 {
        let repairs = repairs(&node).await?;
        run(&node, &format!("{AWAY}{damage}")).await?;
        eventually(format!("{damage:?} is undone"), SOON, || async {
            // A look at once after the damage sees it, or the repair, or all too late.
            let (now, counted) = (run(&node, LOOK).await, self::repairs(&node).await);
            let (now, counted) = now.and_then(|now| Ok((now, counted?))).map_err(words)?;
            match now == good && counted > repairs {
                true => Ok(()),
                false => Err(format!("{counted} repairs after {repairs}:\n{now}")),
            }
        })
        .await
        .with_context(|| {
            let log = node.agent_log().unwrap_or_else(|error| error.to_string());
            format!("the agent said\n{log}\nand it was\n{good}")
        })?;
        let target = cluster.pod(DEMO_W2)?;
        anyhow::ensure!(cluster.pod(TEST_TOOLS)?.ping(&target).await?.ttl == 62);
    }
    assert_eq!(
        metric(&node, "resyncs_total").await?,
        "1",
        "no event did it"
    );
    Ok(())
}

/// What the agent has put right that it had not been asked for.
async fn repairs(node: &Node) -> Result<u64> {
    let kinds = [
        "tunnel",
        "address",
        "route",
        "neighbour",
        "sysctl",
        "filter",
    ];
    let mut sum = 0;
    for kind in kinds {
        sum += metric(node, &format!("repairs_total{{kind=\"{kind}\"}}"))
            .await?
            .parse::<u64>()?;
    }
    Ok(sum)
}

fn words(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// Proves that a node whose network somebody tidied up or tuned by hand is whole again before
/// anybody looks, whichever of our things it was.
#[rstest]
#[case::route("ip route del 192.168.2.0/24")]
#[case::route_changed(
    "ip route replace 192.168.2.0/24 via 10.12.22.1 dev tunl0 onlink proto 80 mtu 1440"
)]
#[case::route_to_a_pod("ip route del 192.168.1.12")]
#[case::blackhole("ip route del blackhole 192.168.1.0/24")]
#[case::address("ip address del 192.168.1.0/32 dev tunl0")]
#[case::another_address("ip address add 192.168.1.200/32 dev tunl0")]
#[case::tunnel_down("ip link set tunl0 down")]
#[case::tunnel_mtu("ip link set tunl0 mtu 1300")]
#[case::neighbour(&format!("ip neighbour del 192.168.1.12 dev {POD}"))]
#[case::neighbour_changed(&format!("ip neighbour replace 192.168.1.12 lladdr 02:00:00:00:00:99 dev {POD}"))]
#[case::no_forwarding("sysctl -qw net.ipv4.ip_forward=0")]
#[case::no_forwarding_of_one(&format!("sysctl -qw net.ipv4.conf.{POD}.forwarding=0"))]
#[case::no_proxy_arp(&format!("sysctl -qw net.ipv4.conf.{POD}.proxy_arp=0"))]
// The ipip module's own device stays when it is deleted, without a word.
#[case::tunnel_gone("ip link del tunl0; ip link set tunl0 down 2>&- || :")]
#[case::tunnel_renamed("away tunl0")]
#[case::packet_filter("nft delete table ip podlab")]
#[podlab::test]
async fn what_every_backend_has_is_back(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[case] damage: &str,
) -> Result<()> {
    is_undone(&boot(backend).await?, damage).await
}

/// Proves the same of a node that does without the tunnel: its routes are as much its own.
#[rstest]
#[case::route("ip route del 192.168.2.0/24")]
#[case::route_into_the_tunnel(
    "ip route replace 192.168.2.0/24 via 10.12.22.3 dev tunl0 onlink proto 80"
)]
#[case::address("ip address add 192.168.1.0/32 dev tunl0")]
#[podlab::test]
async fn what_a_node_has_without_a_tunnel_is_back(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[case] damage: &str,
) -> Result<()> {
    is_undone(&boot_in(Never, backend).await?, damage).await
}

/// Proves the same of the pair of devices that a backend without one of its own makes.
#[rstest]
#[case::peer_gone("ip link del tunl0-x")]
#[case::peer_down("ip link set tunl0-x down")]
#[case::peer_mtu("ip link set tunl0-x mtu 1300")]
#[case::peer_renamed("away tunl0-x")]
// By the second command it may have its name back.
#[case::peer_renamed_and_up("away tunl0-x && { ip link set stray up 2>&- || :; }")]
#[case::arp("ip link set tunl0 arp on")]
#[podlab::test]
async fn the_pair_of_devices_is_back(
    #[values("ebpf", "userspace")] backend: &str,
    #[case] damage: &str,
) -> Result<()> {
    is_undone(&boot(backend).await?, damage).await
}

/// Proves the same of the devices that a stream's segments go through to be joined: with half of
/// them gone, every stream between nodes would stand still while pings are answered.
#[rstest]
#[case::pair_gone("ip link del tunl0-gro")]
#[case::end_down("ip link set tunl0-seg down")]
#[case::mtu("ip link set tunl0-gro mtu 1300")]
#[case::end_renamed("away tunl0-gro")]
#[case::redirect_gone("tc filter del dev tunl0-gro ingress")]
#[case::place_gone("tc qdisc del dev tunl0-gro clsact")]
#[case::redirect_elsewhere(
    "tc filter del dev tunl0-gro ingress; tc filter add dev tunl0-gro ingress pref 80 \
     protocol ip u32 match u32 0 0 action mirred egress redirect dev lo"
)]
#[podlab::test(needs = "napi")]
async fn the_way_of_streams_is_back(#[case] damage: &str) -> Result<()> {
    is_undone(&boot("userspace").await?, damage).await
}

/// Proves the same of the tc programs: one that is missing lets the tunnel's packets run into
/// nothing, and one of somebody else's in its place could do anything with them.
#[rstest]
#[case::inward("tc filter del dev ens192 ingress")]
#[case::outward("tc filter del dev tunl0-x ingress")]
#[case::place_inward("tc qdisc del dev ens192 clsact")]
#[case::place_outward("tc qdisc del dev tunl0-x clsact")]
#[case::exchanged(
    "tc filter replace dev ens192 ingress pref 80 handle 1 protocol all bpf bytecode '1,6 0 0 0'"
)]
#[podlab::test]
async fn programs_are_back(#[case] damage: &str) -> Result<()> {
    is_undone(&boot("ebpf").await?, damage).await
}

/// Proves that what the kernel reports to nobody is put right by the resync.
#[rstest]
#[case::route_localnet("net/ipv4/conf/calied9d42cb137/route_localnet", "0", "1")]
#[case::proxy_delay("net/ipv4/neigh/calied9d42cb137/proxy_delay", "80", "0")]
#[podlab::test]
async fn unreported_sysctls_are_back_with_the_resync(
    #[case] path: &str,
    #[case] damage: &str,
    #[case] good: &str,
) -> Result<()> {
    let agent = PodlabAgent::new().args(["--resync", "0.5"]);
    let cluster = seed::spec().boot_with(agent).await?;
    let node = cluster.node(WORKER_1)?;
    let read = async || run(&node, &format!("cat /proc/sys/{path}")).await;
    assert_eq!(read().await?.trim(), good);
    run(&node, &format!("echo {damage} > /proc/sys/{path}")).await?;
    eventually(format!("{path} is {good}"), SOON, || async {
        let now = read().await.map_err(words)?;
        match now.trim() == good {
            true => Ok(()),
            false => Err(now),
        }
    })
    .await?;
    Ok(())
}

/// Proves that the same things of somebody else's are left alone while ours are repaired.
#[rstest]
#[podlab::test]
async fn what_is_not_ours_is_left_alone(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const THEIRS: &str = "
        ip route add 203.0.113.0/24 via 10.12.22.1 proto static
        ip neighbour add 10.12.22.99 lladdr 02:00:00:00:00:99 dev ens192 nud permanent
        ip address add 198.51.100.1/32 dev lo
        tc filter add dev ens192 ingress pref 90 protocol all bpf bytecode '1,6 0 0 0'
        tc filter add dev ens192 egress pref 80 protocol all bpf bytecode '1,6 0 0 0'
        sysctl -qw net.ipv4.conf.ens192.proxy_arp=1
        nft add table ip theirs";
    const LOOK_AT_THEIRS: &str = "
        ip route show proto static
        ip neighbour show dev ens192 nud permanent
        ip address show dev lo
        tc filter show dev ens192 ingress pref 90
        tc filter show dev ens192 egress
        sysctl net.ipv4.conf.ens192.proxy_arp
        nft list table ip theirs";
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_1)?;
    run(&node, THEIRS).await?;
    let theirs = run(&node, LOOK_AT_THEIRS).await?;
    let everywhere = [
        "ip route del 192.168.2.0/24",
        "ip link set tunl0 down",
        "nft delete table ip podlab",
        "sysctl -qw net.ipv4.ip_forward=0",
    ];
    let programs = ["tc filter del dev ens192 ingress pref 80"];
    let programs = programs.iter().filter(|_| backend == "ebpf");
    for damage in everywhere.iter().chain(programs) {
        is_undone(&cluster, damage).await?;
    }
    assert_eq!(run(&node, LOOK_AT_THEIRS).await?, theirs);
    Ok(())
}
