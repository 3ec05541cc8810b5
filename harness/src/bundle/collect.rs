//! Collects everything there is to know of a cluster whose test has failed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream;

use super::model::{ClusterState, MachineState};
use super::{Item, culprit, diagnosis, faults, machine, pair, reach};
use crate::capture::Recording;
use crate::cluster::Cluster;

/// Machines that are read at the same time.
const AT_ONCE: usize = 16;

/// What was collected of one cluster.
pub(super) struct Collected {
    pub(super) state: ClusterState,
    pub(super) recordings: Vec<Recording>,
    pub(super) diagnosis: Option<String>,
}

/// Collects; `error` is what the test failed with. With `heal` faults are taken out between the
/// question that failed, which is asked as things are, and everything else.
pub(super) async fn collect(cluster: &Cluster, error: &str, heal: bool) -> Collected {
    let log = cluster.events();
    // First of all: what follows is not the test's.
    let events = log.all();
    let backlog_dropped = cluster.backlog().dropped();
    let events_lost = log.count() - events.len() as u64;
    let culprit = culprit::find(&events, error);
    let traced = match culprit {
        Some(culprit) => pair::trace(cluster, culprit).await,
        None => None,
    };
    let (pair, recordings) = traced.map_or((None, Vec::new()), |(pair, seen)| (Some(pair), seen));
    let faults = faults::in_force(&events);
    let healing = match heal && !faults.is_empty() {
        true => Some(Item::collect(async { cluster.heal_all().await }).await),
        false => None,
    };
    let machines = machines(cluster).await;
    let folder = cluster.datastore().path().to_owned();
    let state = ClusterState {
        number: log.cluster(),
        spec: Item::collect(async { Ok::<_, String>(cluster.spec().await) }).await,
        machines,
        datastore: Item::on_thread(move || files(&folder)).await,
        events,
        results: log.attachments(),
        events_lost,
        faults,
        healing,
        backlog_dropped,
        pair,
        reachability: Item::collect(async { Ok::<_, String>(reach::ask(cluster).await) }).await,
    };
    let diagnosis = state.pair.as_ref().map(|pair| {
        let found = match &pair.trace {
            Item::Value(trace) => trace.diagnosis.clone(),
            Item::Error(error) => format!("no trace: {error}"),
        };
        format!("{}: {found}", diagnosis::title(pair))
    });
    Collected {
        state,
        recordings,
        diagnosis,
    }
}

async fn machines(cluster: &Cluster) -> Vec<MachineState> {
    let mut states = vec![machine::fabric(cluster.fabric()).await];
    let nodes = cluster.nodes();
    let mut nodes = stream::iter(nodes.iter().map(machine::node)).buffered(AT_ONCE);
    while let Some(state) = nodes.next().await {
        states.push(state);
    }
    let pods = cluster.pods();
    let mut pods = stream::iter(pods.iter().map(machine::pod)).buffered(AT_ONCE);
    while let Some(state) = pods.next().await {
        states.push(state);
    }
    states
}

/// All files below `root`, by their paths in it. Names that begin with a dot are in the making.
fn files(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap_or(&path);
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = name.to_string_lossy().into_owned();
                let content = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into());
                found.insert(name, content.unwrap_or_else(|error| format!("({error})")));
            }
        }
    }
    Ok(found)
}
