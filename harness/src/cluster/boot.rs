//! Boots a plan: an empty cluster, and then the way from nothing to the plan.

use std::sync::{Arc, RwLock};

use super::difference::Difference;
use super::files::Files;
use super::timing::Stopwatch;
use super::{Cluster, Current, Inner, World};
use crate::agent::Agent;
use crate::backlog;
use crate::bundle::scope::Scope;
use crate::datastore::Datastore;
use crate::error::Error;
use crate::event::{EventLog, Kind, Role};
use crate::fault::Faults;
use crate::machine::Machine;
use crate::namespace::{MountPlan, sandbox};
use crate::spec::{ClusterSpec, Plan};

/// Boots `spec`; on failure everything that was made is dropped, and the kernel takes it down.
pub(super) async fn boot(mut spec: ClusterSpec, agent: Arc<dyn Agent>) -> Result<Cluster, Error> {
    let plan = spec.plan()?;
    plan.settle(&mut spec);
    let mut watch = Stopwatch::start();
    let (events, faults) = (EventLog::new(), Faults::default());
    let state_dir = sandbox::state_dir()?;
    let state = tempfile::Builder::new()
        .prefix("cluster-")
        .tempdir_in(state_dir)
        .map_err(|source| Error::State {
            operation: "make a folder in",
            path: state_dir.to_owned(),
            source,
        })?;
    let files = Files::create(state.path())?;
    let datastore = Datastore::create(files.datastore(), events.clone())?;
    let mut cluster = Inner {
        fabric: make_fabric(&events, &faults).await?,
        world: RwLock::new(World::default()),
        current: Current::default().into(),
        files,
        agent,
        datastore,
        events,
        faults,
        report: Default::default(),
        backlog: backlog::Watch::start(),
        scope: Scope::current(),
        _state: state,
    };
    let fabric = watch.lap();
    let difference = Difference {
        cluster: &cluster,
        before: &Plan::default(),
        after: &plan,
    };
    let mut report = match difference.apply().await {
        Ok(report) => report,
        Err(error) => {
            // What came to be of it tells why; without a scope it is dropped here.
            enrol(cluster);
            return Err(error);
        }
    };
    report.namespaces += fabric;
    cluster.report = report;
    cluster.events.record(Kind::Booted {
        after: report.total(),
    });
    cluster.current = Current { spec, plan }.into();
    let cluster = enrol(cluster);
    for node in cluster.nodes() {
        node.miss_agent().await?;
    }
    Ok(cluster)
}

/// The first handle on a cluster, which belongs to its scope from now on.
fn enrol(cluster: Inner) -> Cluster {
    let cluster = Arc::new(cluster);
    if let Some(scope) = &cluster.scope {
        scope.booted(&cluster);
    }
    Cluster::of(cluster)
}

/// The machine between the nodes. It forwards from the start: it is the gateway.
async fn make_fabric(events: &EventLog, faults: &Faults) -> Result<Machine, Error> {
    const NAME: &str = "fabric";
    let wanted = vec![(NAME.to_owned(), MountPlan::default())];
    let mut made = Machine::create_namespaces(wanted).await?;
    let fabric = Machine::new(NAME, made.remove(0), true, events.clone(), faults.clone())?;
    fabric.record(Kind::MachineCreated {
        role: Role::Fabric,
        addresses: Vec::new(),
        on: None,
    });
    fabric.netlink().set_link_up("lo", true).await?;
    Ok(fabric)
}
