//! Routes, forwarding and neighbours that are wrong.

use podlab::trace::Cause;

use super::{Expected, Held, Place, Probe, Sabotage};
use crate::seed::{TUNNEL, UNDERLAY};

pub(super) fn all() -> Vec<Sabotage> {
    vec![
        Sabotage {
            name: "missing-route",
            breaks: "the sender's node has no route to the other node's block",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.near)?;
                    world.near.delete_route(world.far.blocks()[0]).await?;
                    Ok(held)
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearCali), Place::NearTunnel),
                is: |cause| matches!(cause, Cause::RouteMissing { .. }),
                cause: "no route to the block",
                noticed_by: &[
                    "icmp",
                    "tcp",
                    "udp",
                    "http",
                    "full-size",
                    "loss",
                    "packets",
                    "routes",
                ],
            },
        },
        Sabotage {
            name: "wrong-node",
            breaks: "the sender's node sends the block's packets to a third node",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.near)?;
                    let (block, third) = (world.far.blocks()[0], world.third.address());
                    let script = format!(
                        "ip route replace {block} via {third} dev {TUNNEL} proto 80 onlink"
                    );
                    world.run(&world.near, &script).await?;
                    Ok(held)
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearTunnel), Place::NearUnderlay),
                is: |cause| matches!(cause, Cause::WrongNextHop { .. }),
                cause: "wrong next hop",
                noticed_by: &["icmp", "tcp", "udp", "http", "packets", "routes"],
            },
        },
        Sabotage {
            name: "leak",
            breaks: "the sender's node routes the block around the tunnel",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.near)?;
                    let (block, far) = (world.far.blocks()[0], world.far.address());
                    let script = format!(
                        "ip route replace {block} via {far} dev {UNDERLAY} proto 80 onlink"
                    );
                    world.run(&world.near, &script).await?;
                    Ok(held)
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearCali), Place::NearTunnel),
                is: |cause| matches!(cause, Cause::AroundTunnel { .. }),
                cause: "sent around the tunnel",
                noticed_by: &["packets", "routes"],
            },
        },
        Sabotage {
            name: "no-blackhole",
            breaks: "the sender's node has no blackhole for its own block",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.near)?;
                    world.near.delete_route(world.near.blocks()[0]).await?;
                    Ok(held)
                })
            },
            probe: Probe::Unassigned,
            expected: Expected {
                hop: (Some(Place::NearCali), Place::NearUnderlay),
                is: |cause| matches!(cause, Cause::BlackholeMissing { .. }),
                cause: "no blackhole for the block",
                noticed_by: &["routes", "unassigned"],
            },
        },
        Sabotage {
            name: "no-way-back",
            breaks: "the other pod's node refuses packets to the sender's block",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.far)?;
                    let block = world.near.blocks()[0];
                    let script = format!("ip route replace unreachable {block} proto 80");
                    world.far.delete_route(block).await?;
                    world.run(&world.far, &script).await?;
                    Ok(held)
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::FarCali), Place::FarTunnel),
                is: |cause| matches!(cause, Cause::RouteRefuses { .. }),
                cause: "the route refuses",
                noticed_by: &[
                    "icmp",
                    "tcp",
                    "udp",
                    "http",
                    "full-size",
                    "loss",
                    "packets",
                    "routes",
                ],
            },
        },
        Sabotage {
            name: "no-forwarding",
            breaks: "the other pod's node does not forward",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.far)?;
                    let script = "echo 0 > /proc/sys/net/ipv4/ip_forward";
                    world.run(&world.far, script).await?;
                    Ok(held)
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::FarTunnel), Place::FarCali),
                is: |cause| matches!(cause, Cause::ForwardingOff { .. }),
                cause: "forwarding is off",
                noticed_by: &[
                    "icmp",
                    "tcp",
                    "udp",
                    "http",
                    "full-size",
                    "loss",
                    "packets",
                    "gateway",
                ],
            },
        },
        Sabotage {
            name: "no-proxy-arp",
            breaks: "the sender's node does not answer for the pods' gateway",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.near)?;
                    let device = world.from.host_interface();
                    let script = format!("echo 0 > /proc/sys/net/ipv4/conf/{device}/proxy_arp");
                    world.run(&world.near, &script).await?;
                    let forget = "ip neighbour flush dev eth0";
                    world.run(&world.from, forget).await?;
                    Ok(held)
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (None, Place::Sender),
                is: |cause| {
                    let Cause::NeighbourUnanswered { proxy_arp_off, .. } = cause else {
                        return false;
                    };
                    proxy_arp_off.is_some()
                },
                cause: "proxy_arp is off",
                noticed_by: &[
                    "icmp",
                    "tcp",
                    "udp",
                    "http",
                    "full-size",
                    "loss",
                    "packets",
                    "gateway",
                ],
            },
        },
        Sabotage {
            name: "wrong-neighbour",
            breaks: "the sender's node has a wrong hardware address for the other node",
            apply: |world| {
                Box::pin(async {
                    let far = world.far.address();
                    let script = format!(
                        "ip neighbour replace {far} lladdr 02:00:00:00:00:99 dev {UNDERLAY} \
                         nud permanent"
                    );
                    world.run(&world.near, &script).await?;
                    Ok(Held::default())
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearTunnel), Place::NearUnderlay),
                is: |cause| matches!(cause, Cause::WrongNeighbour { .. }),
                cause: "wrong neighbour entry",
                noticed_by: &["icmp", "tcp", "udp", "http", "full-size", "loss", "packets"],
            },
        },
    ]
}
