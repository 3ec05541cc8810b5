//! HTTP between the containers of different pods.

use anyhow::Result;
use podlab_scenarios::seed::{self, CLIENT, DEMO, DEMO_W2, HTTP_PORT, SERVER, TEST_TOOLS};
use rstest::rstest;

/// Proves that the curl container of one pod gets the page of the server container of another,
/// across nodes and on one node, and that the server sees the pod's own address.
#[rstest]
#[case::across_nodes(DEMO, DEMO_W2)]
#[case::and_back(DEMO_W2, DEMO)]
#[case::the_documents_pair(TEST_TOOLS, DEMO_W2)]
#[case::on_one_node(TEST_TOOLS, DEMO)]
#[podlab::test]
async fn a_get_is_answered_with_the_hostname(#[case] from: &str, #[case] to: &str) -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(from)?, cluster.pod(to)?);
    let client = from
        .containers()
        .pop()
        .expect("the last container is the client");
    let reply = client.http_get(&to, HTTP_PORT, "/").await?;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.text(), format!("<p>Hi from {}</p>", to.name()));
    let server = to.container(SERVER)?;
    let requests = server
        .http_server()
        .expect("the container serves HTTP")
        .requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].peer.ip(),
        from.address(),
        "the source address is preserved"
    );
    Ok(())
}

/// Proves that the containers of a pod share its network: the client reaches the server of its
/// own pod on 127.0.0.1.
#[podlab::test]
async fn containers_of_a_pod_share_the_loopback() -> Result<()> {
    let cluster = seed::boot().await?;
    let client = cluster.pod(DEMO)?.container(CLIENT)?;
    let reply = client.http_get([127, 0, 0, 1], HTTP_PORT, "/").await?;
    assert_eq!(reply.text(), format!("<p>Hi from {DEMO}</p>"));
    Ok(())
}

/// Proves that a pod is not a node: its hostname is its own name.
#[podlab::test]
async fn a_program_in_a_container_sees_the_pods_hostname() -> Result<()> {
    let cluster = seed::boot().await?;
    let client = cluster.pod(DEMO_W2)?.container(CLIENT)?;
    assert_eq!(
        client.exec("uname -n").await?.success()?.stdout.trim(),
        DEMO_W2
    );
    Ok(())
}
