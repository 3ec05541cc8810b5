//! Faults between nodes: who does not hear whom, and what gets lost between them.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::error::Site;
use super::fabric::{self, Rule};
use super::guard::Fault;
use super::loss::Loss;
use super::registry::Placement;
use crate::cluster::{Cluster, Node};
use crate::error::Error;

impl Cluster {
    /// Cuts two sets of nodes off from each other, in both directions and for all frames. They
    /// still reach the gateway and all others.
    ///
    /// # Errors
    /// When there is no such node, a set is empty or both have one in common, or when the kernel
    /// lacks nftables.
    pub async fn partition(
        &self,
        some: impl IntoIterator<Item = impl AsRef<str>>,
        others: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Fault, Error> {
        let (some, others) = (self.side(some)?, self.side(others)?);
        let site = Site::new("partition", format!("{} ↔ {}", some.name(), others.name()));
        some.apart_from(&others, &site)?;
        let rules = vec![some.to(&others, ""), others.to(&some, "")];
        self.put_rules(site, rules).await
    }

    /// Cuts one direction only: what the nodes `from` send does not reach the nodes `to`.
    ///
    /// # Errors
    /// As [`partition`](Self::partition).
    pub async fn partition_one_way(
        &self,
        from: impl IntoIterator<Item = impl AsRef<str>>,
        to: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Fault, Error> {
        let (from, to) = (self.side(from)?, self.side(to)?);
        let site = Site::new(
            "one-way partition",
            format!("{} → {}", from.name(), to.name()),
        );
        from.apart_from(&to, &site)?;
        self.put_rules(site, vec![from.to(&to, "")]).await
    }

    /// Cuts two underlay networks off from each other: `10.12.0.0/16` and `10.13.0.0/16`. Within
    /// each, nodes still hear each other and the gateway.
    ///
    /// # Errors
    /// When there is no such network or no node on it, or when the kernel lacks nftables.
    pub async fn partition_networks(&self, one: &str, other: &str) -> Result<Fault, Error> {
        let site = Site::new("partition", format!("network {one} ↔ network {other}"));
        let (one, other) = (
            self.network(one, &site).await?,
            self.network(other, &site).await?,
        );
        one.apart_from(&other, &site)?;
        let rules = vec![one.to(&other, ""), other.to(&one, "")];
        self.put_rules(site, rules).await
    }

    /// Loses packets that the nodes `from` send to the nodes `to`. Tunnel packets count as what
    /// they are on the underlay: one packet each, of IP protocol 4.
    ///
    /// # Errors
    /// As [`partition`](Self::partition), and when the loss would never lose a packet.
    pub async fn lose(
        &self,
        from: impl IntoIterator<Item = impl AsRef<str>>,
        to: impl IntoIterator<Item = impl AsRef<str>>,
        loss: Loss,
    ) -> Result<Fault, Error> {
        let (from, to) = (self.side(from)?, self.side(to)?);
        let target = format!("{} → {}", from.name(), to.name());
        let site = Site::new(loss.to_string(), target);
        from.apart_from(&to, &site)?;
        if let Some(why) = loss.nothing() {
            return Err(site.impossible(why));
        }
        self.put_rules(site, vec![from.to(&to, &loss.expression())])
            .await
    }

    /// The faults that are in place, in the order in which they were put in.
    pub fn active_faults(&self) -> Vec<Fault> {
        self.faults().active()
    }

    /// Heals every fault that is in place, the last one first; but those that wait for an agent
    /// (crashed nodes, agents that are away, vandals) after all others, since an agent waits for
    /// its network. What fails is tried once more at the end. Without any it does nothing.
    ///
    /// # Errors
    /// [`FaultError::NotHealed`](super::FaultError::NotHealed) with those that could not be
    /// healed; all others are.
    pub async fn heal_all(&self) -> Result<(), Error> {
        self.faults().heal_all().await
    }

    async fn put_rules(&self, site: Site, rules: Vec<Rule>) -> Result<Fault, Error> {
        let faults = self.faults();
        let placement = Placement {
            site: site.clone(),
            machine: None,
            claim: None,
        };
        let apply = fabric::put(faults, self.fabric(), &site, rules);
        faults.put(placement, self.events(), apply).await
    }

    fn side(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Side, Error> {
        let names: BTreeSet<String> = names
            .into_iter()
            .map(|name| name.as_ref().to_owned())
            .collect();
        let mut side = Side::default();
        for name in names {
            side.ports.extend(self.node(&name)?.fabric_ports());
            side.names.push(name);
        }
        Ok(side)
    }

    async fn network(&self, network: &str, site: &Site) -> Result<Side, Error> {
        let prefix: Ipv4Net = network
            .parse()
            .map_err(|_| site.impossible(format!("{network:?} is no network like 10.12.0.0/16")))?;
        let ports = self.ports_on(prefix.trunc()).await;
        if ports.is_empty() {
            return Err(site.impossible(format!("there is no node on a network {prefix}")));
        }
        Ok(Side {
            names: vec![network.to_owned()],
            ports,
        })
    }
}

impl Node {
    /// Cuts the node off from everything beyond its wires, the gateway included; its own links
    /// stay up, and its pods still reach each other.
    ///
    /// # Errors
    /// When the kernel lacks nftables.
    pub async fn isolate(&self) -> Result<Fault, Error> {
        let faults = self.live()?.faults();
        let site = Site::new("isolation", self.name());
        let ports = self.fabric_ports();
        let when = String::new();
        let rules = vec![
            Rule::From {
                ports: ports.clone(),
                when: when.clone(),
            },
            Rule::To { ports, when },
        ];
        let placement = Placement {
            site: site.clone(),
            machine: Some(self.name().to_owned()),
            claim: Some(site.to_string()),
        };
        let fabric = self.cluster_fabric();
        let apply = fabric::put(faults, fabric, &site, rules);
        faults.put(placement, self.events(), apply).await
    }
}

/// Some nodes, by their ports in the fabric.
#[derive(Debug, Default)]
struct Side {
    names: Vec<String>,
    ports: Vec<String>,
}

impl Side {
    fn name(&self) -> String {
        self.names.join(", ")
    }

    fn to(&self, other: &Self, when: &str) -> Rule {
        Rule::Between {
            from: self.ports.clone(),
            to: other.ports.clone(),
            when: when.to_owned(),
        }
    }

    fn apart_from(&self, other: &Self, site: &Site) -> Result<(), Error> {
        if self.ports.is_empty() || other.ports.is_empty() {
            return Err(site.impossible("a side without nodes has nobody to lose"));
        }
        match self.ports.iter().find(|port| other.ports.contains(port)) {
            Some(_) => Err(site.impossible("a node is on both sides")),
            None => Ok(()),
        }
    }
}
