//! The agent's program beside the agent that runs, and the agent with its endpoint.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use podlab::agent::PodlabAgent;
use podlab::eventually::eventually;
use podlab::probe::http::HttpReply;
use podlab::process::{Output, Program};
use podlab::spec::Encapsulation;
use podlab::{Cluster, Node};
use podlab_scenarios::{backend, seed};

/// How long what an event causes may take.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// Where nodes find the datastore, as the agent contract says.
pub(crate) const DATASTORE: &str = "/run/podlab/datastore";
const PORT: u16 = 9091;

/// Our agent with one backend, and with `--serve`.
pub(crate) fn serving(backend: &str) -> PodlabAgent {
    PodlabAgent::with_encapsulation(backend).args(["--serve", &format!("127.0.0.1:{PORT}")])
}

/// The seed's cluster with such agents; a skip where the kernel lacks the backend.
pub(crate) async fn boot(backend: &str) -> Result<Cluster> {
    Ok(backend::boot(seed::spec(), serving(backend), backend).await?)
}

/// The same in this mode.
pub(crate) async fn boot_in(mode: Encapsulation, backend: &str) -> Result<Cluster> {
    let mut spec = seed::spec();
    for pool in &mut spec.pools {
        pool.encapsulation = mode;
    }
    Ok(backend::boot(spec, serving(backend), backend).await?)
}

/// What the endpoint of the agent on `node` answers.
pub(crate) async fn get(node: &Node, path: &str) -> Result<HttpReply> {
    Ok(node.http_get(Ipv4Addr::LOCALHOST, PORT, path).await?)
}

/// Waits until `path` is answered with this status. Returns the text.
pub(crate) async fn answers(node: &Node, path: &str, status: u16, by: Duration) -> Result<String> {
    let what = format!("{path} of the agent on {} says {status}", node.name());
    let text = eventually(what, by, || async {
        let reply = get(node, path).await.map_err(|error| error.to_string())?;
        match reply.status.as_u16() == status {
            true => Ok(reply.text().into_owned()),
            false => Err(format!("{reply}: {}", reply.text())),
        }
    })
    .await?;
    Ok(text)
}

/// The value of a series, as in `changes_total{kind="route"}`.
pub(crate) async fn metric(node: &Node, series: &str) -> Result<String> {
    let reply = get(node, "/metrics").await?;
    let prefix = format!("podlab_agent_{series} ");
    let text = reply.text().into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(value
        .with_context(|| format!("no {series} in\n{text}"))?
        .to_owned())
}

/// The program that the agent on `node` runs.
pub(crate) fn path(node: &Node) -> Result<PathBuf> {
    let id = node.agent_id().context("an agent runs")?;
    Ok(std::fs::read_link(format!("/proc/{id}/exe"))?)
}

/// Runs one of the program's other commands on `node`.
pub(crate) async fn command(node: &Node, path: &Path, arguments: &[&str]) -> Result<Output> {
    Ok(node.exec(Program::new(path).args(arguments)).await?)
}

/// Waits until the node's routes are these.
pub(crate) async fn routes_are(node: &Node, wanted: &[podlab::netlink::Route]) -> Result<()> {
    eventually("the routes are as they were", SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        match routes == wanted {
            true => Ok(()),
            false => Err(format!("{routes:#?}")),
        }
    })
    .await?;
    Ok(())
}

/// Puts somebody else's tc filter, which matches nothing, at a device's ingress: where the
/// agent would put its own.
pub(crate) async fn add_foreign_filter(node: &Node, device: &str) -> Result<()> {
    let place = format!("qdisc replace dev {device} clsact");
    let place = Program::new("tc").args(place.split(' '));
    node.exec(place).await?.success()?;
    let filter = format!("filter add dev {device} ingress pref 80 handle 1 protocol all bpf");
    let filter = Program::new("tc")
        .args(filter.split(' '))
        .args(["bytecode", "1,6 0 0 0"]);
    node.exec(filter).await?.success()?;
    Ok(())
}

/// The tc filters at a device's ingress, as tc shows them.
pub(crate) async fn filters(node: &Node, device: &str) -> Result<String> {
    let show = format!("tc filter show dev {device} ingress");
    Ok(node.exec(show.as_str()).await?.success()?.stdout)
}

/// The ttl on arrival of a ping from one worker's pod to the other's.
pub(crate) async fn ttl(cluster: &Cluster) -> Result<u8> {
    use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS};
    let target = cluster.pod(DEMO_W2)?;
    Ok(cluster.pod(TEST_TOOLS)?.ping(&target).await?.ttl)
}
