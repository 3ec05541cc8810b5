//! Pod interfaces that change under the agent, and addresses that two pods claim.

use anyhow::Result;
use podlab::probe::server::{HttpServer, hello};
use podlab::process::Program;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab::{Cluster, Machine, Pod};
use rstest::rstest;

use crate::world::{boot, connected, hop, ping, route_is, soon};

/// Where the claimants answer.
const PORT: u16 = 8080;

const ADDRESS: &str = "192.168.1.5/32";
const P1: &str = "endpoints/n1/default.p1.json";

/// Proves that the route of a pod comes back with its interface, after it was down.
#[rstest]
#[podlab::test]
async fn item_11_a_pods_interface_goes_down_and_up(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let (n1, p1, p3) = (cluster.node("n1")?, cluster.pod("p1")?, cluster.pod("p3")?);
    let device = p1.host_interface();
    n1.set_link_up(&device, false).await?;
    route_is(&n1, ADDRESS, "none").await?;
    n1.set_link_up(&device, true).await?;
    route_is(&n1, ADDRESS, &format!("dev {device}")).await?;
    soon("p1 answers again", || ping(&p3, &p1)).await?;
    soon("p1 reaches others again", || ping(&p1, &p3)).await?;
    Ok(())
}

/// Proves that the agent goes by the interface's name: under another one it is no pod's, and it
/// is again when it has its name back.
#[rstest]
#[podlab::test]
async fn item_11_a_pods_interface_is_renamed_and_gets_its_name_back(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let (n1, p1, p3) = (cluster.node("n1")?, cluster.pod("p1")?, cluster.pod("p3")?);
    let device = p1.host_interface();
    let rename = async |from: &str, to: &str| {
        // One after the other: kernels before 6.2 rename only what is down already.
        let steps = ["set {from} down", "set {from} name {to}", "set {to} up"];
        let steps = steps.map(|step| step.replace("{from}", from).replace("{to}", to));
        let script = steps.map(|step| format!("ip link {step}")).join(" && ");
        let shell = Program::new("sh").args(["-c", &script]);
        n1.exec(shell).await?.success()?;
        anyhow::Ok(())
    };
    rename(&device, "other0").await?;
    route_is(&n1, ADDRESS, "none").await?;
    rename("other0", &device).await?;
    route_is(&n1, ADDRESS, &format!("dev {device}")).await?;
    soon("p1 answers again", || ping(&p3, &p1)).await?;
    soon("p1 reaches others again", || ping(&p1, &p3)).await?;
    Ok(())
}

/// Proves that of two local pods with one address always the same one has it, whoever came
/// first, and that the other takes over when it leaves.
#[rstest]
#[podlab::test]
async fn item_11_of_two_local_claims_one_wins_and_the_other_takes_over(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let spec = connected(mode).pod("q1", |p| p.on("n1").address("192.168.1.6"));
    let cluster = boot(spec, backend).await?;
    let (n1, p1, q1) = (cluster.node("n1")?, cluster.pod("p1")?, cluster.pod("q1")?);
    let first = format!("dev {}", p1.host_interface());
    let second = format!("dev {}", q1.host_interface());
    let record = cluster.datastore().read(P1)?;
    let _servers = [serve(&p1).await?, serve(&q1).await?];
    let p3 = cluster.pod("p3")?;
    claim(&cluster, "endpoints/n1/default.q1.json", &q1)?;
    // That the other address is nobody's shows that the claim was read.
    route_is(&n1, "192.168.1.6/32", "none").await?;
    route_is(&n1, ADDRESS, &first).await?;
    answers(&p3, "p1").await?;
    cluster.datastore().remove(P1)?;
    route_is(&n1, ADDRESS, &second).await?;
    answers(&p3, "q1").await?;
    cluster.datastore().write(P1, &record)?;
    route_is(&n1, ADDRESS, &first).await?;
    answers(&p3, "p1").await
}

/// Proves that a node's own pod wins over one that another node claims to have, whoever came
/// first, and that the other has the address where there is no own pod.
#[rstest]
#[podlab::test]
async fn item_11_of_a_local_and_a_remote_claim_the_local_one_wins(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| cluster.node(name));
    let (n1, n2, n3) = (n1?, n2?, n3?);
    let (p1, p2) = (cluster.pod("p1")?, cluster.pod("p2")?);
    let own = format!("dev {}", p1.host_interface());
    let record = cluster.datastore().read(P1)?;
    let _servers = [serve(&p1).await?, serve(&p2).await?];
    let p3 = cluster.pod("p3")?;
    claim(&cluster, "endpoints/n2/default.p2.json", &p2)?;
    // The claimant's own node knows the claim when it takes packets for it.
    route_is(&n2, ADDRESS, &format!("dev {}", p2.host_interface())).await?;
    route_is(&n3, ADDRESS, &hop(&n3, &n2, mode)).await?;
    route_is(&n1, ADDRESS, &own).await?;
    answers(&n1, "p1").await?;
    answers(&p3, "p2").await?;
    cluster.datastore().remove(P1)?;
    route_is(&n1, ADDRESS, &hop(&n1, &n2, mode)).await?;
    answers(&n1, "p2").await?;
    cluster.datastore().write(P1, &record)?;
    route_is(&n1, ADDRESS, &own).await?;
    answers(&n1, "p1").await
}

/// Proves that an agent which is killed while files contradict each other, or while one is broken
/// that is not its own, comes back and takes the same winner as before: otherwise one bad record
/// of anybody would stop every agent of the cluster at its next start.
#[rstest]
#[case::block(
    "nodes/n3.json",
    r#"{"address":"10.13.0.13/24","blocks":["192.168.2.0/24","192.168.3.0/24"]}"#
)]
#[case::node_address(
    "nodes/n4.json",
    r#"{"address":"10.12.0.12/24","blocks":["192.168.4.0/24"]}"#
)]
#[case::tunnel_address(
    "nodes/n4.json",
    r#"{"address":"10.12.0.14/24","tunnel_address":"192.168.2.0","blocks":["192.168.4.0/24"]}"#
)]
#[case::pod_on_an_unknown_node(
    "endpoints/n4/default.p4.json",
    r#"{"pod":"p4","namespace":"default","interface":"cali4","addresses":["192.168.2.77"]}"#
)]
#[case::broken_node("nodes/n4.json", r#"{"address":"10.12."#)]
#[case::broken_endpoint("endpoints/n1/default.p4.json", "")]
#[podlab::test]
async fn an_agent_that_starts_during_a_conflict_takes_the_same_winner(
    #[case] file: &str,
    #[case] content: &str,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(Always), backend).await?;
    let (n1, p1, p2) = (cluster.node("n1")?, cluster.pod("p1")?, cluster.pod("p2")?);
    let folder = cluster.datastore().path().join(file);
    std::fs::create_dir_all(folder.parent().unwrap())?;
    cluster.datastore().write(file, content.as_bytes())?;
    let complaints = async |least: usize| {
        soon(format!("{file} is complained of"), || async {
            let log = n1.agent_log()?;
            let lines = log
                .lines()
                .filter(|l| l.contains("ERROR") && l.contains(file));
            anyhow::ensure!(lines.count() >= least, "{log}");
            Ok(())
        })
        .await
    };
    complaints(1).await?;
    // What comes after it is there, so the conflict is decided.
    n1.add_block("192.168.9.0/24").await?;
    route_is(&n1, "192.168.9.0/24", "blackhole").await?;
    route_is(&n1, "192.168.2.0/24", "via 10.12.0.12 dev tunl0").await?;
    let before = n1.routes().await?;
    n1.kill_agent().await?;
    n1.start_agent().await?;
    assert_eq!(n1.routes().await?, before);
    complaints(2).await?;
    soon("p2 answers", || ping(&p1, &p2)).await?;
    Ok(())
}

/// Lets a pod have the claimed address, too, and tell its name there.
async fn serve(pod: &Pod) -> Result<HttpServer> {
    if pod.name() != "p1" {
        let add = format!("ip address add {ADDRESS} dev eth0");
        pod.exec(add.as_str()).await?.success()?;
    }
    Ok(pod.serve_http(PORT, hello(pod.name()))?)
}

/// Waits until the one who has the claimed address is this one.
async fn answers(from: &Machine, wanted: &str) -> Result<()> {
    let address: std::net::Ipv4Addr = ADDRESS.trim_end_matches("/32").parse()?;
    let what = format!("{wanted} answers {}", from.name());
    soon(what, || async {
        let reply = from.http_get(address, PORT, "/").await?;
        let text = reply.text();
        anyhow::ensure!(text.contains(wanted), "{text}");
        Ok(())
    })
    .await
}

/// Makes `pod` claim the address of p1.
fn claim(cluster: &Cluster, file: &str, pod: &Pod) -> Result<()> {
    let record = String::from_utf8(cluster.datastore().read(file)?)?;
    let claimed = record.replace(&pod.address().to_string(), "192.168.1.5");
    anyhow::ensure!(claimed != record, "{record}");
    Ok(cluster.datastore().write(file, claimed.as_bytes())?)
}
