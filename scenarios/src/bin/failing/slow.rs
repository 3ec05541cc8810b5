//! A machine that has no time for its packets.

use std::time::Duration;

use anyhow::Result;
use podlab::eventually::eventually;
use podlab::process::Program;

use super::spec;

/// One packet of `a` comes to its node behind more copies of itself than a processor's backlog
/// holds (1,000 on a usual machine, 4,000 in the guest of `make e2e-vm`), and finds no room.
#[podlab::test]
async fn fails_for_want_of_time() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let timeline = cluster.timeline().pair(&a, &b).start().await?;
    let (node, device) = (a.node(), a.host_interface());
    let times = |count: usize, what: &str| format!("{what}; ").repeat(count);
    let rules = [
        "table netdev flood {".to_owned(),
        format!(
            "chain ten {{ {} }}",
            times(10, &format!("dup to \"{device}\""))
        ),
        format!("chain hundred {{ {} }}", times(10, "jump ten")),
        format!("chain thousand {{ {} }}", times(10, "jump hundred")),
        format!("chain flood {{ {} }}", times(5, "jump thousand")),
        format!("chain in {{ type filter hook ingress device \"{device}\" priority 0;"),
        "ip protocol icmp limit rate 1/hour burst 1 packets counter jump flood; }".to_owned(),
        "}".to_owned(),
    ];
    let flood = Program::new("nft").arg(rules.join("\n"));
    node.exec(flood).await?.success()?;
    let flooded = || async {
        let listed = node.exec("nft list chain netdev flood in").await;
        let listed = listed.map_err(|error| error.to_string())?;
        match listed.stdout.contains("counter packets 1 ") {
            true => Ok(()),
            false => Err(listed.stdout),
        }
    };
    eventually("a packet has been copied", Duration::from_secs(5), flooded).await?;
    timeline.stop().await?.assert_no_loss()?;
    Ok(())
}
