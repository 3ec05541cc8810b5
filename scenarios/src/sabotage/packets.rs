//! Packets that are dropped or changed on their way.

use podlab::trace::Cause;

use super::{Expected, Held, Place, Probe, Sabotage};

pub(super) fn all() -> Vec<Sabotage> {
    vec![
        Sabotage {
            name: "filter-in-fabric",
            breaks: "a packet filter between the nodes drops tunnel packets",
            apply: |world| {
                Box::pin(async {
                    let (near, far) = (world.near.address(), world.far.address());
                    let rule = format!("ip saddr {near} ip daddr {far} ip protocol 4 drop");
                    let script = bridge_rule(&rule);
                    world.run(world.cluster.fabric(), &script).await?;
                    Ok(Held::default())
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearPort), Place::FarPort),
                is: |cause| matches!(cause, Cause::Filtered(_)),
                cause: "dropped by a packet filter",
                noticed_by: &["icmp", "tcp", "udp", "http", "full-size", "loss", "packets"],
            },
        },
        Sabotage {
            name: "every-tenth-lost",
            breaks: "every tenth packet to the other node is lost between the nodes",
            apply: |world| {
                Box::pin(async {
                    let far = world.far.address();
                    let rule = format!("ip daddr {far} ip protocol 4 numgen inc mod 10 9 drop");
                    let script = bridge_rule(&rule);
                    world.run(world.cluster.fabric(), &script).await?;
                    Ok(Held::default())
                })
            },
            probe: Probe::Many(20),
            expected: Expected {
                hop: (Some(Place::NearPort), Place::FarPort),
                is: |cause| {
                    let Cause::Filtered(verdict) = cause else {
                        return false;
                    };
                    verdict.rule.contains("numgen")
                },
                cause: "dropped by a packet filter, every tenth",
                noticed_by: &["loss"],
            },
        },
        Sabotage {
            name: "ttl-twice",
            breaks: "the sender's node takes two off the ttl",
            apply: |world| {
                Box::pin(async {
                    let device = world.from.host_interface();
                    let rule = format!("iifname {device} ip ttl 64 ip ttl set 63");
                    world.run(&world.near, &forward_rule(&rule)).await?;
                    Ok(Held::default())
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearCali), Place::NearTunnel),
                is: |cause| matches!(cause, Cause::WrongTtl { expected, found } if found + 1 == *expected),
                cause: "the ttl is one too low",
                noticed_by: &["icmp", "tcp", "udp", "http", "packets"],
            },
        },
        Sabotage {
            name: "wrong-checksum",
            breaks: "the sender's node spoils the ICMP checksum",
            apply: |world| {
                Box::pin(async {
                    let device = world.from.host_interface();
                    let rule =
                        format!("iifname {device} icmp type echo-request icmp checksum set 0xdead");
                    world.run(&world.near, &forward_rule(&rule)).await?;
                    Ok(Held::default())
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearCali), Place::NearTunnel),
                is: |cause| matches!(cause, Cause::WrongChecksum { header: "ICMP" }),
                cause: "the checksum is wrong",
                noticed_by: &["icmp", "full-size", "loss", "packets"],
            },
        },
    ]
}

/// A script that adds a rule for what a bridge forwards.
fn bridge_rule(rule: &str) -> String {
    format!(
        "nft 'table bridge sabotage {{ chain forward {{ \
         type filter hook forward priority 0; {rule}; }}; }}'"
    )
}

/// A script that adds a rule for what a node forwards, before the route is chosen.
fn forward_rule(rule: &str) -> String {
    format!(
        "nft 'table ip sabotage {{ chain prerouting {{ \
         type filter hook prerouting priority -150; {rule}; }}; }}'"
    )
}
