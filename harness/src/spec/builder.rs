//! Fills the specification in the words of a test.

use super::{
    ClusterSpec, ContainerSpec, Encapsulation, InterfaceSpec, NodeSpec, PodSpec, PoolSpec,
    UnderlaySpec, default_interface, default_mtu, default_namespace,
};

impl ClusterSpec {
    /// Adds a node.
    #[must_use]
    pub fn node(
        mut self,
        name: impl Into<String>,
        fill: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Self {
        let node = NodeBuilder(NodeSpec {
            name: name.into(),
            address: String::new(),
            interface: default_interface(),
            mtu: default_mtu(),
            interfaces: Vec::new(),
            blocks: Vec::new(),
            tunnel_address: None,
            agent_later: false,
        });
        self.nodes.push(fill(node).0);
        self
    }

    /// Adds a pod.
    #[must_use]
    pub fn pod(
        mut self,
        name: impl Into<String>,
        fill: impl FnOnce(PodBuilder) -> PodBuilder,
    ) -> Self {
        let pod = PodBuilder(PodSpec {
            name: name.into(),
            namespace: default_namespace(),
            node: String::new(),
            address: String::new(),
            containers: Vec::new(),
        });
        self.pods.push(fill(pod).0);
        self
    }

    /// Adds an address pool.
    #[must_use]
    pub fn pool(
        mut self,
        cidr: impl Into<String>,
        fill: impl FnOnce(PoolBuilder) -> PoolBuilder,
    ) -> Self {
        let name = match self.pools.len() {
            0 => "default-pool".to_owned(),
            more => format!("pool-{}", more + 1),
        };
        let pool = PoolBuilder(PoolSpec {
            name,
            cidr: cidr.into(),
            block_size: 24,
            encapsulation: Encapsulation::Always,
            nat_outgoing: false,
            tunnel_mtu: None,
        });
        self.pools.push(fill(pool).0);
        self
    }

    /// Describes an underlay network that shall differ from what the nodes' addresses imply.
    #[must_use]
    pub fn underlay(
        mut self,
        network: impl Into<String>,
        fill: impl FnOnce(UnderlayBuilder) -> UnderlayBuilder,
    ) -> Self {
        let underlay = UnderlayBuilder(UnderlaySpec {
            network: network.into(),
            gateway: None,
            mtu: None,
        });
        self.underlays.push(fill(underlay).0);
        self
    }
}

/// Fills a [`NodeSpec`].
#[derive(Debug)]
pub struct NodeBuilder(NodeSpec);

impl NodeBuilder {
    /// The underlay address with its prefix, `10.12.22.2/16`.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.0.address = address.into();
        self
    }

    /// The name of the underlay interface. Default `eth0`.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.0.interface = name.into();
        self
    }

    /// The MTU of the underlay interface in bytes. Default 1500.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.0.mtu = mtu;
        self
    }

    /// Boots the node without its agent: a fault, which
    /// [`heal_all`](crate::Cluster::heal_all) or
    /// [`start_agent`](crate::Node::start_agent) ends.
    #[must_use]
    pub fn agent_later(mut self) -> Self {
        self.0.agent_later = true;
        self
    }

    /// Adds an interface beside the one with the node's address.
    #[must_use]
    pub fn other_interface(
        mut self,
        name: impl Into<String>,
        fill: impl FnOnce(InterfaceBuilder) -> InterfaceBuilder,
    ) -> Self {
        let interface = InterfaceBuilder(InterfaceSpec {
            name: name.into(),
            address: None,
            mtu: default_mtu(),
        });
        self.0.interfaces.push(fill(interface).0);
        self
    }

    /// Adds a block of pod addresses, `192.168.1.0/24`.
    #[must_use]
    pub fn block(mut self, cidr: impl Into<String>) -> Self {
        self.0.blocks.push(cidr.into());
        self
    }

    /// The address of the tunnel device. Default: the first of the first block.
    #[must_use]
    pub fn tunnel_address(mut self, address: impl Into<String>) -> Self {
        self.0.tunnel_address = Some(address.into());
        self
    }
}

/// Fills an [`InterfaceSpec`].
#[derive(Debug)]
pub struct InterfaceBuilder(InterfaceSpec);

impl InterfaceBuilder {
    /// Its address with the prefix, `10.13.0.2/16`, and with it the network it is plugged into.
    /// Default: none, and the network of the node's address.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.0.address = Some(address.into());
        self
    }

    /// Its MTU in bytes. Default 1500.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.0.mtu = mtu;
        self
    }
}

/// Fills a [`PodSpec`].
#[derive(Debug)]
pub struct PodBuilder(PodSpec);

impl PodBuilder {
    /// The name of the node it runs on.
    #[must_use]
    pub fn on(mut self, node: impl Into<String>) -> Self {
        self.0.node = node.into();
        self
    }

    /// Its address, `192.168.1.12`.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.0.address = address.into();
        self
    }

    /// Its Kubernetes namespace. Default `default`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.0.namespace = namespace.into();
        self
    }

    /// Adds a container without a service: a place to run programs in.
    #[must_use]
    pub fn container(mut self, name: impl Into<String>) -> Self {
        self.0.containers.push(ContainerSpec {
            name: name.into(),
            http: None,
        });
        self
    }

    /// Adds a container that answers HTTP on `port` with `<p>Hi from HOSTNAME</p>`.
    #[must_use]
    pub fn http_container(mut self, name: impl Into<String>, port: u16) -> Self {
        self.0.containers.push(ContainerSpec {
            name: name.into(),
            http: Some(port),
        });
        self
    }

    /// [`http_container`](Self::http_container) for a pod whose container's name does not matter.
    #[must_use]
    pub fn serve_http(self, port: u16) -> Self {
        self.http_container("http", port)
    }
}

/// Fills a [`PoolSpec`].
#[derive(Debug)]
pub struct PoolBuilder(pub(crate) PoolSpec);

impl PoolBuilder {
    /// Its name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// The prefix length of one block. Default 24.
    #[must_use]
    pub fn block_size(mut self, prefix: u8) -> Self {
        self.0.block_size = prefix;
        self
    }

    /// When packets are encapsulated. Default [`Encapsulation::Always`].
    #[must_use]
    pub fn encapsulation(mut self, mode: Encapsulation) -> Self {
        self.0.encapsulation = mode;
        self
    }

    /// Hide pod addresses from the world outside the pools.
    #[must_use]
    pub fn nat_outgoing(mut self, on: bool) -> Self {
        self.0.nat_outgoing = on;
        self
    }

    /// The MTU of tunnel and pods in bytes. Default: 20 less than the underlay's.
    #[must_use]
    pub fn tunnel_mtu(mut self, mtu: u32) -> Self {
        self.0.tunnel_mtu = Some(mtu);
        self
    }
}

/// Fills an [`UnderlaySpec`].
#[derive(Debug)]
pub struct UnderlayBuilder(UnderlaySpec);

impl UnderlayBuilder {
    /// The gateway's address. Default: the first address that no node has.
    #[must_use]
    pub fn gateway(mut self, address: impl Into<String>) -> Self {
        self.0.gateway = Some(address.into());
        self
    }

    /// The MTU of the bridge in bytes. Default: the largest of its nodes' interfaces.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.0.mtu = Some(mtu);
        self
    }
}
