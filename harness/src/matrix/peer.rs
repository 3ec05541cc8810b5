//! Who asks and who is asked.

use std::net::Ipv4Addr;

use crate::cluster::{Container, Node, Pod};
use crate::error::Error;
use crate::machine::Machine;

/// A row or a column of a matrix, or an end of a timeline's pair: a pod, a node, another machine at
/// one of its addresses, or an address outside the cluster.
#[derive(Debug, Clone)]
pub struct Peer {
    name: String,
    place: Place,
    pub(crate) tcp_port: Option<u16>,
    pub(super) http: Option<(u16, String)>,
}

#[derive(Debug, Clone)]
enum Place {
    Pod(Pod),
    Node(Node),
    Machine(Machine, Ipv4Addr),
    Outside(Ipv4Addr),
}

impl Peer {
    /// A machine, asked at `address`: the fabric as the world outside, or a node at the address of
    /// its tunnel. The address need not be its own: where it is translated to, is found out.
    pub fn machine(machine: &Machine, address: Ipv4Addr) -> Self {
        Self::new(machine.name(), Place::Machine(machine.clone(), address))
    }

    /// An address where no machine of ours is. It is asked by ICMP, and by TCP and HTTP at the
    /// ports that [`tcp_port`](Self::tcp_port) and [`http_port`](Self::http_port) name; what it saw
    /// of a probe is unknown.
    pub fn outside(name: impl Into<String>, address: Ipv4Addr) -> Self {
        Self::new(name, Place::Outside(address))
    }

    /// Under another name: no two rows, and no two columns, have the same.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Has TCP probes connect to `port`, where somebody else serves, instead of a server of the
    /// matrix.
    #[must_use]
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.tcp_port = Some(port);
        self
    }

    /// Has HTTP probes ask for `path` at `port`, where somebody else serves, instead of a server of
    /// the matrix. Any answer with status 200 will do; the sizes do not matter.
    #[must_use]
    pub fn http_port(mut self, port: u16, path: impl Into<String>) -> Self {
        self.http = Some((port, path.into()));
        self
    }

    fn new(name: impl Into<String>, place: Place) -> Self {
        Self {
            name: name.into(),
            place,
            tcp_port: None,
            http: None,
        }
    }

    /// Its name: that of the pod, node or machine, unless it was [`named`](Self::named).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address at which it is asked.
    pub fn address(&self) -> Ipv4Addr {
        match &self.place {
            Place::Pod(pod) => pod.address(),
            Place::Node(node) => node.address(),
            Place::Machine(_, address) | Place::Outside(address) => *address,
        }
    }

    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&Pod> {
        match &self.place {
            Place::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    /// The node that it is, or that it is a pod on.
    pub fn node(&self) -> Option<Node> {
        match &self.place {
            Place::Pod(pod) => Some(pod.node()),
            Place::Node(node) => Some(node.clone()),
            _ => None,
        }
    }

    /// The machine, unless it is outside.
    pub(crate) fn host(&self) -> Option<&Machine> {
        match &self.place {
            Place::Pod(pod) => Some(pod),
            Place::Node(node) => Some(node),
            Place::Machine(machine, _) => Some(machine),
            Place::Outside(_) => None,
        }
    }

    /// Runs `f` in its network namespace; `None` where it has none that is ours.
    pub(crate) fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<Option<T>, Error> {
        match self.host() {
            Some(machine) => Ok(Some(machine.live()?.namespaces().run(f)?)),
            None => Ok(None),
        }
    }
}

impl From<&Pod> for Peer {
    fn from(pod: &Pod) -> Self {
        pod.clone().into()
    }
}

impl From<Pod> for Peer {
    fn from(pod: Pod) -> Self {
        Self::new(pod.name().to_owned(), Place::Pod(pod))
    }
}

impl From<&Container> for Peer {
    fn from(container: &Container) -> Self {
        container.pod().into()
    }
}

impl From<&Node> for Peer {
    fn from(node: &Node) -> Self {
        node.clone().into()
    }
}

impl From<Node> for Peer {
    fn from(node: Node) -> Self {
        Self::new(node.name().to_owned(), Place::Node(node))
    }
}

impl From<&Peer> for Peer {
    fn from(peer: &Peer) -> Self {
        peer.clone()
    }
}
