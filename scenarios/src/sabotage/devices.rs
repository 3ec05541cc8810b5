//! MTUs that are wrong.

use podlab::trace::Cause;

use super::{Expected, Held, Place, Probe, Sabotage};
use crate::seed::TUNNEL;

pub(super) fn all() -> Vec<Sabotage> {
    vec![
        Sabotage {
            name: "mtu-too-large",
            breaks: "the tunnel of the sender's node and its pods promise 20 bytes too many",
            apply: |world| {
                Box::pin(async {
                    let held = world.freeze(&world.near)?;
                    let mtu = world.mtu_of(&world.from).await? + 20;
                    let (block, far) = (world.far.blocks()[0], world.far.address());
                    let cali = world.from.host_interface();
                    // The backends other than the kernel's have a peer.
                    let script = format!(
                        "ip link set {TUNNEL} mtu {mtu}; \
                         if ip link show {TUNNEL}-x >/dev/null 2>&1; \
                         then ip link set {TUNNEL}-x mtu {mtu}; fi; \
                         ip link set {cali} mtu {mtu}; \
                         ip route replace {block} via {far} dev {TUNNEL} proto 80 onlink mtu {mtu}"
                    );
                    world.run(&world.near, &script).await?;
                    world
                        .run(&world.from, &format!("ip link set eth0 mtu {mtu}"))
                        .await?;
                    Ok(held)
                })
            },
            probe: Probe::Full,
            expected: Expected {
                hop: (Some(Place::NearTunnel), Place::NearUnderlay),
                is: |cause| {
                    matches!(
                        cause,
                        Cause::MtuTooLarge {
                            mtu: 1500,
                            fits: 1480,
                            ..
                        }
                    )
                },
                cause: "the tunnel's MTU is too large",
                noticed_by: &["full-size"],
            },
        },
        Sabotage {
            name: "full-size-lost",
            breaks: "a port of the fabric carries small packets only",
            apply: |world| {
                Box::pin(async {
                    let script = format!("ip link set {} mtu 1400", world.far.fabric_port());
                    world.run(world.cluster.fabric(), &script).await?;
                    Ok(Held::default())
                })
            },
            probe: Probe::Full,
            expected: Expected {
                hop: (Some(Place::NearPort), Place::FarPort),
                is: |cause| matches!(cause, Cause::TooBig { mtu: 1400, .. }),
                cause: "too long for the port",
                noticed_by: &["full-size"],
            },
        },
    ]
}
