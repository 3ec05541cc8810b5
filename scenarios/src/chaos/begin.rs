//! How troubles are made on a cluster.

use std::time::Duration;

use podlab::fault::{Direction, Fault, Impairment, Loss, Rate};
use podlab::{Cluster, Node, Pod};

use super::trouble::{Kind, Local, Side, Treatment};

/// Has it happen; healing the fault is its end. What is over at once leaves none.
pub(super) async fn trouble_begins(
    cluster: &Cluster,
    kind: Kind,
) -> Result<Option<Fault>, podlab::Error> {
    let name = |node: usize| format!("n{}", node + 1);
    let names = |side: Side| side.nodes().into_iter().map(name);
    let fault = match kind {
        Kind::AgentRestarted(at) => {
            cluster.node(&name(at))?.restart_agent().await?;
            return Ok(None);
        }
        Kind::Split(one, other) => cluster.partition(names(one), names(other)).await,
        Kind::Partition(one, other) => cluster.partition([name(one)], [name(other)]).await,
        Kind::OneWay(from, to) => cluster.partition_one_way([name(from)], [name(to)]).await,
        Kind::Loss(from, to, n) => cluster.lose([name(from)], [name(to)], Loss::every(n)).await,
        Kind::At(at, local) => {
            let pod = cluster.pod(&format!("p{}", at + 1))?;
            happens_at(&cluster.node(&name(at))?, &pod, local).await
        }
    };
    fault.map(Some)
}

async fn happens_at(node: &Node, pod: &Pod, local: Local) -> Result<Fault, podlab::Error> {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    match local {
        Local::Isolated => node.isolate().await,
        Local::LinkDown => node.wire()?.down().await,
        Local::Flapping => node.wire()?.flap(ms(30), ms(60)).await,
        Local::CarrierLost => node.wire()?.lose_carrier().await,
        Local::Limited(kilobits) => {
            let rate = Rate::kilobits(kilobits.into());
            node.wire()?.limit_rate(Direction::Out, rate).await
        }
        Local::Narrow(mtu) => node.wire()?.set_mtu(mtu).await,
        // On its way to the node: a wrong bit in what it sends could lead all others astray.
        Local::Impaired(treatment) => {
            let impairment = impairment(treatment);
            node.wire()?.impair(Direction::In, impairment).await
        }
        Local::PodLinkDown => pod.wire()?.down().await,
        Local::PodFrozen => pod.freeze().await,
        Local::Renumbered => {
            let number = pod.address().octets()[2];
            node.change_address(&format!("10.12.1.{number}/16")).await
        }
        Local::Crashed => node.crash().await,
        Local::Frozen => node.freeze().await,
        Local::Vandalized(seed) => Ok(node.vandalize(seed, 3).await?.fault),
        Local::DatastoreCorrupt(seed) => node.corrupt_datastore(seed, 3).await,
        Local::DatastoreLost => node.lose_datastore().await,
        Local::DatastoreSlow(late) => node.slow_datastore(ms(late)).await,
        Local::DiskFull => node.fill_agent_disk().await,
        Local::AgentFrozen => node.freeze_agent().await,
        Local::AgentKilled => node.crash_agent().await,
        Local::AgentLate => node.delay_agent().await,
    }
}

fn impairment(treatment: Treatment) -> Impairment {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    match treatment {
        Treatment::Delayed(late) => Impairment::delay(ms(late)),
        Treatment::Jittered(late) => Impairment::delay(ms(late)).jitter(ms(late)),
        Treatment::Reordered(late) => Impairment::delay(ms(late)).reorder_every(3),
        Treatment::Duplicated => Impairment::duplicate(1.0),
        Treatment::Corrupted => Impairment::corrupt(0.2),
    }
}
