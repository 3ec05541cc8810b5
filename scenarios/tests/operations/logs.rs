//! The agent's log, as a program reads it.

use anyhow::{Context, Result, ensure};
use podlab::agent::PodlabAgent;
use podlab::eventually::eventually;
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, WORKER_1};
use rstest::rstest;
use serde_json::Value;

use crate::program::SOON;

/// If this fails, a collector of logs drops lines of the agent, those with bad news first: every
/// line of a whole life is one JSON object, whatever it is about.
#[rstest]
#[podlab::test]
async fn every_line_of_a_structured_log_is_json(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    // An agent that lacks its backend says so in JSON, too, which nobody here would know for a skip.
    drop(seed::boot_encapsulated(backend).await?);
    let agent = PodlabAgent::with_encapsulation(backend);
    let agent = agent.args(["--log-format", "json", "--log", "debug"]);
    let cluster = backend::boot(seed::spec(), agent, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let logged = async |words: &str| {
        eventually(format!("the agent says {words:?}"), SOON, || async {
            let log = node.agent_log().map_err(|error| error.to_string())?;
            match log.contains(words) {
                true => Ok(()),
                false => Err(log),
            }
        })
        .await
    };
    // Names and contents of others, quotes and line ends among them.
    cluster
        .datastore()
        .write("nodes/a\"b.json", b"{\"address\":\n\"\\")?;
    logged("a\\\"b.json").await?;
    let change = format!("{}/16 dev {}", node.address(), node.underlay());
    for (verb, words) in [("del", "not ready: "), ("add", "over: not ready: ")] {
        let change = format!("ip address {verb} {change}");
        node.exec(change.as_str()).await?.success()?;
        logged(words).await?;
    }
    node.stop_agent().await?;
    // Its end is no exception.
    let record = cluster.datastore().read("nodes/k8s-worker-1.json")?;
    cluster.datastore().remove("nodes/k8s-worker-1.json")?;
    ensure!(
        node.start_agent().await.is_err(),
        "it started without its record"
    );
    cluster
        .datastore()
        .write("nodes/k8s-worker-1.json", &record)?;

    let log = node.agent_log()?;
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for field in ["timestamp", "level", "message"] {
            ensure!(value[field].is_string(), "no {field} in {line}");
        }
    }
    for level in ["INFO", "WARN", "ERROR"] {
        let field = format!("\"level\":\"{level}\"");
        ensure!(log.contains(&field), "nothing of level {level} in\n{log}");
    }
    Ok(())
}
