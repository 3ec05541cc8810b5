//! What a user is told who asks for something that cannot be.

use anyhow::Result;
use podlab::agent::{AgentError, PodlabAgent};
use podlab::process::Program;
use podlab::{Cluster, Error};
use podlab_scenarios::seed::{self, WORKER_1};

/// If this fails, a typo in a test ends in a panic somewhere else.
#[podlab::test]
async fn an_unknown_name_is_answered_with_the_known_ones() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node("k8s-worker-9").unwrap_err().to_string();
    assert_eq!(
        node,
        "there is no node \"k8s-worker-9\"\nhint: known: k8s-master, k8s-worker-1, k8s-worker-2"
    );
    let pod = cluster.pod("web").unwrap_err().to_string();
    assert!(
        pod.starts_with("there is no pod \"web\"\nhint: known: echo-server, "),
        "{pod}"
    );
    let container = cluster
        .pod(seed::DEMO)?
        .container("sidecar")
        .unwrap_err()
        .to_string();
    assert_eq!(
        container,
        "there is no container \"sidecar\"\nhint: known: hello-world-server, curl-client"
    );
    Ok(())
}

/// If this fails, a fault in a specification is found only after half of it was built.
#[podlab::test]
async fn a_faulty_specification_is_refused_before_anything_is_made() {
    let spec = Cluster::builder()
        .node("n1", |n| n.address("10.0.0.2/24").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.0.0.2/24"))
        .pod("web", |p| p.on("n3").address("172.16.0.1"));
    let error = spec.boot().await.unwrap_err();
    let Error::Spec(error) = error else {
        panic!("{error}")
    };
    let subjects: Vec<&str> = error
        .faults
        .iter()
        .map(|fault| fault.subject.as_str())
        .collect();
    assert_eq!(subjects, ["node \"n2\"", "pod \"web\"", "pod \"web\""]);
}

/// If this fails, a missing program looks like a broken network.
#[podlab::test]
async fn a_missing_tool_is_named_with_the_way_to_get_it() -> Result<()> {
    let cluster = seed::boot().await?;
    let error = cluster
        .node(WORKER_1)?
        .exec("no-such-tool --version")
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "program `no-such-tool` was not found\nhint: install it, or give its path"
    );
    Ok(())
}

/// If this fails, a program's own explanation is lost.
#[podlab::test]
async fn a_failing_tool_keeps_its_standard_error() -> Result<()> {
    let cluster = seed::boot().await?;
    let script = Program::new("sh").args(["-c", "echo the reason >&2; exit 3"]);
    let output = cluster.node(WORKER_1)?.exec(script).await?;
    let error = output.success().unwrap_err().to_string();
    assert!(
        error.contains(" on k8s-worker-1 failed: exit status: 3\nthe reason\n"),
        "{error}"
    );
    Ok(())
}

/// If this fails, an agent that refuses its flags leaves the user with a time-out.
#[podlab::test]
async fn an_agent_that_refuses_its_flags_says_why_in_the_boots_error() {
    let agent = PodlabAgent::with_encapsulation("pigeon");
    let error = seed::spec().boot_with(agent).await.unwrap_err();
    assert!(
        matches!(error, Error::Agent(AgentError::Ended { .. })),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("the agent on node k8s-"), "{text}");
    assert!(text.contains("pigeon") && text.contains("ebpf"), "{text}");
}

/// If this fails, a route that cannot be is refused with a bare error number.
#[podlab::test]
async fn the_kernels_own_sentence_reaches_the_user() -> Result<()> {
    let cluster = seed::boot().await?;
    let error = cluster
        .node(WORKER_1)?
        .set_link_up("eth7", true)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("bring up k8s-worker-1: eth7: No such device"),
        "{error}"
    );
    Ok(())
}
