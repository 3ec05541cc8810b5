//! What a node and a pod see of themselves.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use podlab::eventually::eventually;
use podlab::process::Program;
use podlab_scenarios::seed::{self, DEMO_W2, HTTP_PORT, MASTER, TEST_TOOLS, WORKER_1, WORKER_2};

fn shell(script: &str) -> Program {
    Program::new("sh").args(["-c", script])
}

/// Proves that a program in a node finds a machine: hostname, own `/run`, own devices in `/sys`,
/// and an `/etc/hosts` that knows every node.
#[podlab::test]
async fn a_node_feels_like_a_machine() -> Result<()> {
    let cluster = seed::boot().await?;
    let (one, two) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let hostname = one
        .exec("cat /proc/sys/kernel/hostname /etc/hostname")
        .await?
        .success()?;
    assert_eq!(hostname.stdout, format!("{WORKER_1}\n{WORKER_1}\n"));

    one.exec(shell("echo mine > /run/file")).await?.success()?;
    assert_eq!(one.exec("cat /run/file").await?.success()?.stdout, "mine\n");
    assert!(
        !two.exec("cat /run/file").await?.status.success(),
        "another node sees the file"
    );

    let devices = one.exec("ls /sys/class/net").await?.success()?.stdout;
    let mut links: Vec<String> = one
        .links()
        .await?
        .into_iter()
        .map(|link| link.name)
        .collect();
    links.sort();
    assert_eq!(devices.split_whitespace().collect::<Vec<_>>(), links);

    for node in [MASTER, WORKER_1, WORKER_2] {
        let address = cluster.node(node)?.address();
        let found = one
            .exec(shell(&format!("getent hosts {node}")))
            .await?
            .success()?
            .stdout;
        assert_eq!(
            found.split_whitespace().collect::<Vec<_>>(),
            [&address.to_string(), node]
        );
    }
    Ok(())
}

/// Proves that a look-up of an unknown name fails at once instead of waiting for a name server.
#[podlab::test]
async fn a_pod_knows_itself_and_nobody_else() -> Result<()> {
    let cluster = seed::boot().await?;
    let pod = cluster.pod(DEMO_W2)?;
    let own = pod
        .exec(shell(&format!("getent hosts {DEMO_W2}")))
        .await?
        .success()?
        .stdout;
    assert!(own.starts_with("192.168.2.6"), "{own}");
    assert!(
        !pod.exec(shell("getent hosts k8s-worker-1"))
            .await?
            .status
            .success()
    );
    Ok(())
}

/// Proves that a pod is wired as Calico's CNI plugin wires it: a /32, a gateway that nobody has,
/// no forwarding.
#[podlab::test]
async fn a_pod_is_wired_as_calico_wires_it() -> Result<()> {
    let cluster = seed::boot().await?;
    let pod = cluster.pod(TEST_TOOLS)?;
    let routes = pod.exec("ip route").await?.success()?.stdout;
    assert_eq!(
        routes.trim_end(),
        "default via 169.254.1.1 dev eth0 \n169.254.1.1 dev eth0 scope link"
    );
    let addresses: Vec<String> = pod
        .addresses()
        .await?
        .iter()
        .map(|address| format!("{} {}", address.interface, address.address))
        .collect();
    assert_eq!(addresses, ["lo 127.0.0.1/8", "eth0 192.168.1.12/32"]);
    let forward = pod
        .exec("cat /proc/sys/net/ipv4/ip_forward")
        .await?
        .success()?
        .stdout;
    assert_eq!(forward, "0\n");

    let links = cluster.node(WORKER_1)?.links().await?;
    let host_side = links.iter().find(|link| link.name == pod.host_interface());
    let host_side = host_side.expect("the node's side of the pod's veth pair");
    assert_eq!(
        host_side.mac.map(|mac| mac.to_string()).as_deref(),
        Some("ee:ee:ee:ee:ee:ee")
    );
    assert_eq!(host_side.mtu, seed::MTU);
    Ok(())
}

/// Proves that our printer of routes is right about every kind of route, not only the seed's:
/// the real `route -n` on the same node prints the same, byte for byte.
#[podlab::test]
async fn the_route_printer_equals_net_tools() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    for route in [
        "blackhole 192.168.3.2/32",
        "192.168.9.10/32 via 10.12.0.3",
        "192.168.0.0/16 dev ens192 metric 4294967295",
        "192.168.0.0/16 dev ens192 metric 1234567",
        "unreachable 192.168.3.0/24",
        "unreachable 192.168.3.1/32 metric 7",
        "prohibit 192.168.4.0/24 metric 42",
        "unreachable default metric 4278198272",
        "default via 10.12.0.2 metric 100",
        "128.0.0.0/1 via 10.12.0.1",
        "0.0.0.0/1 via 10.12.0.1",
        "0.0.0.0/8 dev ens192",
        "10.0.0.0/8 dev ens192",
        "10.12.0.0/16 dev ens192 metric 5",
        "10.12.0.0/16 dev ens192 metric 3 tos 0x10",
        "10.12.0.0/24 dev ens192",
        "255.255.255.255/32 dev ens192",
    ] {
        node.exec(format!("ip route add {route}").as_str())
            .await?
            .success()?;
    }
    let printed = node.exec("route -n").await?.success()?.stdout;
    assert_eq!(printed.lines().count(), 2 + 8 + 17);
    assert_eq!(node.route_table().await?, printed);
    Ok(())
}

/// If this fails, what a killed run's connections have left to send holds its network namespaces for
/// a hundred seconds, and who runs tests in a loop meets the kernel's limit of namespaces.
#[podlab::test]
async fn a_connection_whose_process_was_killed_is_soon_given_up() -> Result<()> {
    const FIN_WAIT_1: &str = "04";
    let cluster = seed::boot().await?;
    let (client, server) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let connect = format!(
        "exec 3<>/dev/tcp/{}/{HTTP_PORT}; echo connected; exec sleep 600",
        server.address()
    );
    let mut program = client.spawn(Program::new("bash").args(["-c", &connect]))?;
    program
        .wait_for_line(|line| line == "connected", Duration::from_secs(5))
        .await?;
    // Nobody will acknowledge the FIN.
    let _down = client.link_down("eth0").await?;
    program.stop(Signal::SIGKILL).await?;
    let left = async || {
        let table = client.exec("cat /proc/net/tcp").await?.success()?.stdout;
        let states = table
            .lines()
            .filter_map(|line| line.split_whitespace().nth(3));
        anyhow::Ok(states.filter(|state| *state == FIN_WAIT_1).count())
    };
    assert_eq!(left().await?, 1);
    eventually("it is given up", Duration::from_secs(20), || async {
        match left().await {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(())
}

/// Proves that wires are quiet and cheap: IPv6 would send on every device that comes up, and a veth
/// pair with a queue for each processor stops the kernel's routing while it is made.
#[podlab::test]
async fn wires_have_one_queue_and_no_ipv6() -> Result<()> {
    let cluster = seed::boot().await?;
    let (node, pod) = (cluster.node(WORKER_1)?, cluster.pod(TEST_TOOLS)?);
    let machines: [&podlab::Machine; 3] = [cluster.fabric(), &node, &pod];
    for machine in machines {
        let pairs = machine.exec("ip -d -o link show type veth").await?;
        let pairs = pairs.success()?.stdout;
        let one = |line: &str| line.contains("numtxqueues 1 numrxqueues 1 ");
        assert!(!pairs.is_empty() && pairs.lines().all(one), "{pairs}");
        let addresses = machine.exec("ip -6 -o address").await?.success()?.stdout;
        let of_lo = |line: &str| line.split(' ').nth(1) == Some("lo");
        assert!(addresses.lines().all(of_lo), "{addresses}");
    }
    Ok(())
}
