//! Encapsulation that is wrong.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podlab::trace::Cause;

use super::{Expected, Held, Place, Probe, Sabotage, World};
use crate::impostor;
use crate::seed::{TUNNEL, UNDERLAY};

/// An address that no node has.
const STRANGER: &str = "10.12.99.99";

pub(super) fn all() -> Vec<Sabotage> {
    vec![
        Sabotage {
            name: "no-decapsulation",
            breaks: "the other pod's node takes nothing out of the tunnel",
            apply: |world| Box::pin(no_decapsulation(world)),
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::FarUnderlay), Place::FarTunnel),
                is: |cause| matches!(cause, Cause::NotDecapsulated),
                cause: "not decapsulated",
                noticed_by: &["icmp", "tcp", "udp", "http", "full-size", "loss", "packets"],
            },
        },
        Sabotage {
            name: "doubled-encapsulation",
            breaks: "the sender's node puts two outer headers on",
            apply: |world| {
                Box::pin(async {
                    let (near, far) = (world.near.address(), world.far.address());
                    match world.backend.as_str() {
                        // A second tunnel in which the packets of the first travel. Their source
                        // would be the address of the node's oldest device, and that is the tunnel
                        // only where the module itself has made it.
                        "kernel" => {
                            let own = world.near.tunnel_address();
                            let own = own.context("no address at the tunnel")?;
                            let script = format!(
                                "ip link add twice type ipip local {near} remote {far} \
                                     dev {UNDERLAY}; \
                                 ip link set twice up; ip route add {far}/32 dev twice src {own}"
                            );
                            world.run(&world.near, &script).await?;
                            Ok(Held::default())
                        }
                        _ => impersonate(world, impostor::Fault::Doubled).await,
                    }
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearTunnel), Place::NearUnderlay),
                is: |cause| {
                    matches!(
                        cause,
                        Cause::Encapsulated {
                            times: 2,
                            expected: 1
                        }
                    )
                },
                cause: "two outer headers",
                noticed_by: &["icmp", "tcp", "udp", "http", "full-size", "loss", "packets"],
            },
        },
        Sabotage {
            name: "wrong-outer-source",
            breaks: "the sender's node puts another address than its own into the outer header",
            apply: |world| {
                Box::pin(async {
                    match world.backend.as_str() {
                        "kernel" => {
                            let script = format!(
                                "nft 'table ip sabotage {{ chain postrouting {{ \
                                 type filter hook postrouting priority 300; \
                                 ip protocol 4 ip saddr set {STRANGER}; }}; }}'"
                            );
                            world.run(&world.near, &script).await?;
                            Ok(Held::default())
                        }
                        _ => impersonate(world, impostor::Fault::WrongSource).await,
                    }
                })
            },
            probe: Probe::Small,
            expected: Expected {
                hop: (Some(Place::NearTunnel), Place::NearUnderlay),
                is: |cause| matches!(cause, Cause::WrongOuterSource { .. }),
                cause: "wrong outer source",
                noticed_by: &["icmp", "tcp", "udp", "http", "full-size", "loss", "packets"],
            },
        },
    ]
}

/// Each backend takes packets out in its own place.
async fn no_decapsulation(world: &World) -> Result<Held> {
    let held = match world.backend.as_str() {
        "ebpf" => {
            let held = world.freeze(&world.far)?;
            let script = format!("tc filter del dev {UNDERLAY} ingress");
            world.run(&world.far, &script).await?;
            held
        }
        // Whole, with the threads that carry. It is killed with the cluster all the same.
        "userspace" => {
            let id = world.far.agent_id().unwrap_or_default();
            kill(Pid::from_raw(id.cast_signed()), Signal::SIGSTOP)?;
            Held::default()
        }
        // Nobody takes out what is of another protocol: 94 has been mistaken for 4 before.
        _ => {
            let script = "nft 'table ip sabotage { chain prerouting { \
                 type filter hook prerouting priority -400; ip protocol 4 ip protocol set 94; }; }'";
            world.run(&world.far, script).await?;
            Held::default()
        }
    };
    Ok(held)
}

/// Puts another program in the place of the agent of the sender's node.
async fn impersonate(world: &World, fault: impostor::Fault) -> Result<Held> {
    world.near.kill_agent().await?;
    if world.backend == "ebpf" {
        // The program that encapsulates; the other one goes on taking out.
        let script = format!("tc filter del dev {TUNNEL}-x ingress");
        world.run(&world.near, &script).await?;
    }
    let program = impostor::program(fault, world.near.address(), world.far.address(), STRANGER)?;
    let mut impostor = world.near.spawn(program)?;
    impostor
        .wait_for_line(|line| line == "ready", std::time::Duration::from_secs(5))
        .await?;
    Ok(Held {
        frozen: Vec::new(),
        programs: vec![impostor],
    })
}
