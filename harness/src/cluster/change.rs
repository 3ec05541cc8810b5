//! Changes of a running cluster: nodes and pods that come, go and move, addresses, blocks, pools.
//!
//! A verb changes the cluster's specification and goes the way from the old plan to the new one.
//! The new specification is checked as a whole before anything is touched, by the same checks as
//! at boot. A verb returns when the harness has done its part; the agents follow by the
//! datastore, which a test awaits by [`eventually`](crate::eventually::eventually).

use super::difference::Difference;
use super::{Cluster, Current, Node};
use crate::error::Error;
use crate::event::Kind;
use crate::spec::{
    ClusterSpec, NodeBuilder, NodeSpec, PodBuilder, PodSpec, PoolBuilder, SpecError,
};

impl Cluster {
    /// Adds a node: a machine on the underlay, in the datastore, known to all others by name.
    /// Returns when its agent is ready, if it is to have one from the start.
    ///
    /// # Errors
    /// All faults of the cluster as it would be, with nothing touched; otherwise the first thing
    /// that failed, and the cluster is as it was.
    pub async fn add_node(
        &self,
        name: impl Into<String>,
        fill: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Result<Node, Error> {
        let name = name.into();
        self.change(format!("add node {name}"), |spec| {
            *spec = std::mem::take(spec).node(&name, fill);
            Ok(())
        })
        .await?;
        let node = self.node(&name)?;
        node.miss_agent().await?;
        Ok(node)
    }

    /// Removes a node with the pods on it, as when a machine is switched off and the control
    /// plane forgets it: its agent is killed, its datastore files go.
    ///
    /// # Errors
    /// When there is no such node, or a pod elsewhere has an address of one of its blocks.
    pub async fn remove_node(&self, name: &str) -> Result<(), Error> {
        self.change(format!("remove node {name}"), |spec| {
            find_node(spec, name)?;
            spec.nodes.retain(|node| node.name != name);
            spec.pods.retain(|pod| pod.node != name);
            Ok(())
        })
        .await
    }

    /// Adds a pod, as a CNI plugin does: wires it, and then writes its endpoint.
    ///
    /// # Errors
    /// As [`add_node`](Self::add_node).
    pub async fn add_pod(
        &self,
        name: impl Into<String>,
        fill: impl FnOnce(PodBuilder) -> PodBuilder,
    ) -> Result<super::Pod, Error> {
        let name = name.into();
        self.change(format!("add pod {name}"), |spec| {
            *spec = std::mem::take(spec).pod(&name, fill);
            Ok(())
        })
        .await?;
        self.pod(&name)
    }

    /// Removes a pod: first its endpoint, then its interface, then what runs in it.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn remove_pod(&self, name: &str) -> Result<(), Error> {
        self.change(format!("remove pod {name}"), |spec| {
            find_pod(spec, name)?;
            spec.pods.retain(|pod| pod.name != name);
            Ok(())
        })
        .await
    }

    /// Moves a pod with its address to another node: gone there first, then made here. What runs
    /// in it goes on running, with a new `eth0`.
    ///
    /// # Errors
    /// When there is no such pod or node.
    pub async fn move_pod(&self, name: &str, node: &str) -> Result<(), Error> {
        self.change(format!("move pod {name} to {node}"), |spec| {
            node.clone_into(&mut find_pod(spec, name)?.node);
            Ok(())
        })
        .await
    }

    /// Gives a pod another address, `192.168.1.13`, and with it a new `eth0`.
    ///
    /// # Errors
    /// When there is no such pod, or it cannot have that address.
    pub async fn renumber_pod(&self, name: &str, address: impl Into<String>) -> Result<(), Error> {
        let address = address.into();
        let what = format!("renumber pod {name} to {address}");
        self.change(what, |spec| {
            find_pod(spec, name)?.address = address;
            Ok(())
        })
        .await
    }

    /// Changes an address pool; what `fill` leaves alone stays. A cluster without a pool of its
    /// own has `default-pool`.
    ///
    /// # Errors
    /// When there is no such pool, or it cannot be so.
    pub async fn set_pool(
        &self,
        name: &str,
        fill: impl FnOnce(PoolBuilder) -> PoolBuilder,
    ) -> Result<(), Error> {
        self.change(format!("set pool {name}"), |spec| {
            let known: Vec<String> = spec.pools.iter().map(|pool| pool.name.clone()).collect();
            let mut pools = spec.pools.iter_mut();
            let pool = pools
                .find(|pool| pool.name == name)
                .ok_or_else(|| Error::unknown("pool", name, known.iter().map(String::as_str)))?;
            *pool = fill(PoolBuilder(pool.clone())).0;
            Ok(())
        })
        .await
    }

    /// `what` tells of it in the event log: `add node k8s-worker-3`.
    async fn change(
        &self,
        what: String,
        edit: impl FnOnce(&mut ClusterSpec) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let events = self.events();
        events.record(Kind::Change {
            change: what.clone(),
        });
        let result = self.make_change(edit).await;
        if let Err(error) = &result {
            events.record(Kind::ChangeFailed {
                change: what,
                error: error.to_string(),
            });
        }
        result
    }

    async fn make_change(
        &self,
        edit: impl FnOnce(&mut ClusterSpec) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut current = self.inner.current.lock().await;
        let mut spec = current.spec.clone();
        edit(&mut spec)?;
        let plan = spec.plan()?;
        plan.settle(&mut spec);
        let way = |before, after| Difference {
            cluster: &self.inner,
            before,
            after,
        };
        if let Err(change) = way(&current.plan, &plan).apply().await {
            return Err(match way(&plan, &current.plan).apply().await {
                Ok(_) => change,
                Err(undo) => Error::HalfDone {
                    change: change.into(),
                    undo: undo.into(),
                },
            });
        }
        *current = Current { spec, plan };
        Ok(())
    }
}

impl Node {
    /// Gives the node another underlay address with its prefix, `10.12.22.9/16`: on the
    /// interface, in every `/etc/hosts`, and in the datastore. With a prefix of another network
    /// the node is plugged in there.
    ///
    /// # Errors
    /// When it cannot have that address.
    pub async fn set_address(&self, address: impl Into<String>) -> Result<(), Error> {
        let address = address.into();
        self.change(format!("set its address to {address}"), |node| {
            node.address = address;
            Ok(())
        })
        .await
    }

    /// Moves the node's address to another of its interfaces, on the same network; the former
    /// one keeps none. The datastore does not hear of it.
    ///
    /// # Errors
    /// When there is no such interface, or it has an address of its own.
    pub async fn move_address(&self, interface: &str) -> Result<(), Error> {
        self.change(format!("move its address to {interface}"), |node| {
            let known: Vec<String> = node.interfaces.iter().map(|i| i.name.clone()).collect();
            let mut others = node.interfaces.iter_mut();
            let other = others
                .find(|other| other.name == interface)
                .ok_or_else(|| {
                    Error::unknown(
                        "other interface",
                        interface,
                        known.iter().map(String::as_str),
                    )
                })?;
            if let Some(address) = &other.address {
                return Err(Error::Spec(SpecError::one(
                    format!("node {:?}", node.name),
                    format!("its interface {interface} has the address {address} already"),
                    "move the node's address to an interface without one",
                )));
            }
            std::mem::swap(&mut other.name, &mut node.interface);
            std::mem::swap(&mut other.mtu, &mut node.mtu);
            Ok(())
        })
        .await
    }

    /// Sets the MTU of the underlay interface in bytes, and that of its bridge as at boot. Pods
    /// that run keep theirs.
    ///
    /// # Errors
    /// When the MTU is not possible.
    pub async fn set_underlay_mtu(&self, mtu: u32) -> Result<(), Error> {
        self.change(format!("set its underlay MTU to {mtu}"), |node| {
            node.mtu = mtu;
            Ok(())
        })
        .await
    }

    /// Gives the node one more block of pod addresses, `192.168.7.0/24`.
    ///
    /// # Errors
    /// When it lies in no pool or overlaps another.
    pub async fn add_block(&self, block: impl Into<String>) -> Result<(), Error> {
        let block = block.into();
        self.change(format!("add block {block}"), |node| {
            node.blocks.push(block);
            Ok(())
        })
        .await
    }

    /// Releases a block.
    ///
    /// # Errors
    /// When the node has no such block, or a pod has an address of it.
    pub async fn remove_block(&self, block: &str) -> Result<(), Error> {
        self.change(format!("release block {block}"), |node| {
            let place = node.blocks.iter().position(|own| own == block);
            let known = node.blocks.iter().map(String::as_str);
            let place = place.ok_or_else(|| Error::unknown("block", block, known))?;
            node.blocks.remove(place);
            Ok(())
        })
        .await
    }

    /// Gives the tunnel device another address. One of another node's block is borrowed.
    ///
    /// # Errors
    /// When somebody has that address.
    pub async fn set_tunnel_address(&self, address: impl Into<String>) -> Result<(), Error> {
        let address = address.into();
        self.change(format!("set its tunnel address to {address}"), |node| {
            node.tunnel_address = Some(address);
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        what: String,
        edit: impl FnOnce(&mut NodeSpec) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let cluster = Cluster {
            inner: self.live()?.cluster.clone(),
        };
        let name = self.name();
        let what = format!("{name}: {what}");
        cluster
            .change(what, |spec| edit(find_node(spec, name)?))
            .await
    }
}

fn find_node<'a>(spec: &'a mut ClusterSpec, name: &str) -> Result<&'a mut NodeSpec, Error> {
    let known: Vec<String> = spec.nodes.iter().map(|node| node.name.clone()).collect();
    let mut nodes = spec.nodes.iter_mut();
    let found = nodes.find(|node| node.name == name);
    found.ok_or_else(|| Error::unknown("node", name, known.iter().map(String::as_str)))
}

fn find_pod<'a>(spec: &'a mut ClusterSpec, name: &str) -> Result<&'a mut PodSpec, Error> {
    let known: Vec<String> = spec.pods.iter().map(|pod| pod.name.clone()).collect();
    let mut pods = spec.pods.iter_mut();
    let found = pods.find(|pod| pod.name == name);
    found.ok_or_else(|| Error::unknown("pod", name, known.iter().map(String::as_str)))
}
