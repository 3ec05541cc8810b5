//! Pods that come, go, move and get other addresses.

use anyhow::Result;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use rstest::rstest;

use crate::stream::Stream;
use crate::world::{all_pairs, boot, connected, hop, ping, route_is};

/// Proves that a pod is reached by all once it is there, that nothing is left of it when it is
/// gone, and that the others do not notice.
#[rstest]
#[podlab::test]
async fn a_pod_is_added_and_removed(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let (n1, p1, p3) = (cluster.node("n1")?, cluster.pod("p1")?, cluster.pod("p3")?);
    let stream = Stream::start(&p1, &p3).await?;
    let pod = cluster
        .add_pod("web", |p| {
            p.on("n1").address("192.168.1.9").serve_http(8080)
        })
        .await?;
    all_pairs(&cluster).await?;
    assert_eq!(
        p3.http_get(&pod, 8080, "/").await?.text(),
        "<p>Hi from web</p>"
    );
    let device = pod.host_interface();
    route_is(&n1, "192.168.1.9/32", &format!("dev {device}")).await?;

    let endpoint = "endpoints/n1/default.web.json";
    assert!(cluster.datastore().read(endpoint).is_ok());
    cluster.remove_pod("web").await?;
    assert!(cluster.datastore().read(endpoint).is_err());
    route_is(&n1, "192.168.1.9/32", "none").await?;
    assert!(ping(&p3, &pod).await.is_err());
    assert!(!n1.links().await?.iter().any(|link| link.name == device));
    all_pairs(&cluster).await?;
    stream.count().await?.none()
}

/// Proves that a pod keeps its address on another node: everybody's packets follow it there, and
/// back to where the address is at home.
#[rstest]
#[podlab::test]
async fn a_pod_moves_with_its_address(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| cluster.node(name));
    let (n1, n2, n3) = (n1?, n2?, n3?);
    let pod = cluster.pod("p1")?;
    let server = pod.serve_http(8080, podlab::probe::server::hello("p1"))?;
    cluster.move_pod("p1", "n2").await?;
    assert_eq!(pod.node().name(), "n2");
    let endpoints = ["n1", "n2"].map(|node| format!("endpoints/{node}/default.p1.json"));
    let there = endpoints.map(|file| cluster.datastore().read(&file).is_ok());
    assert_eq!(there, [false, true]);
    const ADDRESS: &str = "192.168.1.5/32";
    route_is(&n2, ADDRESS, &format!("dev {}", pod.host_interface())).await?;
    route_is(&n1, ADDRESS, &hop(&n1, &n2, mode)).await?;
    route_is(&n3, ADDRESS, &hop(&n3, &n2, mode)).await?;
    all_pairs(&cluster).await?;
    // What ran in it runs on.
    cluster.pod("p3")?.http_get(&pod, 8080, "/").await?;
    assert_eq!(server.requests().len(), 1);

    cluster.move_pod("p1", "n1").await?;
    route_is(&n1, ADDRESS, &format!("dev {}", pod.host_interface())).await?;
    route_is(&n2, ADDRESS, "none").await?;
    route_is(&n3, ADDRESS, "none").await?;
    all_pairs(&cluster).await
}

/// Proves that a pod's new address is reached and its old one is nobody's.
#[rstest]
#[podlab::test]
async fn a_pod_is_renumbered(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let (n1, p1, p3) = (cluster.node("n1")?, cluster.pod("p1")?, cluster.pod("p3")?);
    let old = p1.address();
    cluster.renumber_pod("p1", "192.168.1.77").await?;
    assert_eq!(p1.address().to_string(), "192.168.1.77");
    let hosts = p1.exec("cat /etc/hosts").await?.success()?.stdout;
    assert!(hosts.ends_with("\n192.168.1.77 p1\n"), "{hosts}");
    route_is(
        &n1,
        "192.168.1.77/32",
        &format!("dev {}", p1.host_interface()),
    )
    .await?;
    route_is(&n1, "192.168.1.5/32", "none").await?;
    all_pairs(&cluster).await?;
    assert!(ping(&p3, old).await.is_err(), "the old address answers");
    Ok(())
}
