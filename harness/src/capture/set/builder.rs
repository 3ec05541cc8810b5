//! Which devices a capture set taps.

use std::path::{Path, PathBuf};

use super::{CaptureSet, folder};
use crate::capture::at_once;
use crate::capture::pcapng::ContinuousFile;
use crate::capture::{CaptureError, CaptureSocket, Filter, Tap};
use crate::cluster::{Cluster, Node, Pod};
use crate::error::Error;
use crate::event::Kind;
use crate::machine::Machine;

/// For each device, in bytes, what the kernel may hold: 2,000 packets that fit into a slot of
/// the ring, and as many bytes of longer ones.
const KERNEL: usize = 4 << 20;
/// For each device, in bytes, what the process keeps.
const MEMORY: usize = 16 << 20;
/// Largest file, in bytes.
const FILE: u64 = 256 << 20;

/// The device of a pod.
const POD_DEVICE: &str = "eth0";
/// Shows every packet twice, and none that comes from or goes to another machine.
const LOOPBACK: &str = "lo";

/// A capture set that was not started yet; made by [`Cluster::capture`].
#[derive(Debug, Clone)]
#[must_use = "nothing is captured before `start`"]
pub struct CaptureBuilder {
    cluster: Cluster,
    wanted: Vec<Wanted>,
    filter: Filter,
    file: Place,
    memory: usize,
    kernel: usize,
    file_limit: u64,
}

#[derive(Debug, Clone)]
enum Wanted {
    /// All devices of all machines that there are at the start.
    Everything,
    /// All devices of a machine.
    Machine(Machine),
    Path(Pod, Pod),
    Device(Machine, String),
}

#[derive(Debug, Clone)]
enum Place {
    Default,
    Path(PathBuf),
    Nowhere,
}

/// A device to open; one that is `optional` may be of a kind that cannot be captured on.
struct Device {
    machine: Machine,
    name: String,
    optional: bool,
}

type Opened = Result<CaptureSocket, CaptureError>;

impl CaptureBuilder {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            wanted: Vec::new(),
            filter: Filter::everything(),
            file: Place::Default,
            memory: MEMORY,
            kernel: KERNEL,
            file_limit: FILE,
        }
    }

    /// Taps every device of every node, every pod and the fabric, but for `lo`.
    pub fn all(self) -> Self {
        self.with(Wanted::Everything)
    }

    /// Taps all devices of a node, but for `lo`.
    pub fn node(self, node: &Node) -> Self {
        self.machine(node)
    }

    /// Taps all devices of a machine, but for `lo`.
    pub fn machine(self, machine: &Machine) -> Self {
        self.with(Wanted::Machine(machine.clone()))
    }

    /// Taps the devices that a packet passes between two pods, in their order: `eth0` of the pod,
    /// its `cali…`, and where the pods are on different nodes the tunnel, the underlay interface, the
    /// port in the fabric, and the same on the other side. A node without tunnel device has one less.
    pub fn path(self, from: &Pod, to: &Pod) -> Self {
        self.with(Wanted::Path(from.clone(), to.clone()))
    }

    /// Taps one device.
    pub fn device(self, machine: &Machine, device: impl Into<String>) -> Self {
        self.with(Wanted::Device(machine.clone(), device.into()))
    }

    /// Captures only what the filter lets through; everything without.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Writes to this file, which stays; an old one of that name is replaced. Without, the file
    /// has a name of its own in `captures`, beside the evidence of failed tests
    /// ([`PODLAB_EVIDENCE`](crate::bundle::FOLDER_VARIABLE) or `target/podlab`).
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Place::Path(path.as_ref().to_owned());
        self
    }

    /// Writes no file.
    pub fn no_file(mut self) -> Self {
        self.file = Place::Nowhere;
        self
    }

    /// Keeps at most so many bytes of packets in memory for each device, the newest; 16 MiB
    /// without.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Has the kernel hold about so many bytes of packets that were not read yet, for each device;
    /// 4 MiB without.
    pub fn kernel_memory(mut self, bytes: usize) -> Self {
        self.kernel = bytes;
        self
    }

    /// Lets the file grow to about so many bytes; 256 MiB without. Then its older half is removed.
    pub fn file_limit(mut self, bytes: u64) -> Self {
        self.file_limit = bytes;
        self
    }

    fn with(mut self, wanted: Wanted) -> Self {
        self.wanted.push(wanted);
        self
    }

    /// Starts: every packet that passes a tap from the moment of the return on is seen.
    ///
    /// # Errors
    /// When a device that was named does not exist, a machine was removed, no device was asked
    /// for, or the file cannot be made.
    pub async fn start(self) -> Result<CaptureSet, Error> {
        let devices = self.devices().await?;
        let (mut sockets, mut skipped) = (Vec::new(), Vec::new());
        let machines = devices.chunk_by(|a, b| a.machine.name() == b.machine.name());
        let machines: Vec<&[Device]> = machines.collect();
        for (of_machine, opened) in machines.iter().zip(self.open_all(&machines)) {
            let machine = of_machine[0].machine.live()?;
            for (device, opened) in of_machine.iter().zip(opened?) {
                let tap = machine.tap(&device.name);
                match opened {
                    Ok(socket) => sockets.push((tap, socket)),
                    Err(CaptureError::UnknownLinkType { .. }) if device.optional => {
                        skipped.push(tap);
                    }
                    // It has gone since it was listed.
                    Err(CaptureError::NoSuchDevice { .. }) if device.optional => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if sockets.is_empty() {
            return Err(CaptureError::NoTaps.into());
        }
        let interfaces = sockets.iter();
        let interfaces = interfaces
            .map(|(tap, socket): &(Tap, CaptureSocket)| (tap.shared(), socket.link_type()));
        let interfaces = interfaces.collect();
        let limit = self.file_limit;
        let file = match &self.file {
            Place::Nowhere => None,
            Place::Path(path) => Some(ContinuousFile::create(path, interfaces, limit)?),
            Place::Default => Some(folder::create(interfaces, limit)?),
        };
        let events = self.cluster.events().clone();
        let mut set = CaptureSet::start(sockets, self.memory, file, events)?;
        set.skipped = skipped;
        set.scope = self.cluster.scope().cloned();
        if let (Some(scope), Some(file)) = (&set.scope, &set.file) {
            scope.captures(file);
        }
        set.events.record(Kind::CaptureStarted {
            capture: set.to_string(),
            filter: self.filter.to_string(),
        });
        Ok(set)
    }

    /// Opens the devices of each machine, all at once: the kernel takes its time with each.
    fn open_all(&self, machines: &[&[Device]]) -> Vec<Result<Vec<Opened>, Error>> {
        let open = |device: &Device| {
            CaptureSocket::open_with_buffer(&device.name, &self.filter, self.kernel)
        };
        at_once(machines, |of_machine| {
            let machine = of_machine[0].machine.live()?;
            // Threads are in the namespaces of those that have started them.
            let opened = machine.namespaces().run(|| at_once(of_machine, open))?;
            Ok(opened)
        })
    }

    /// The devices in the order in which they were asked for, each once.
    async fn devices(&self) -> Result<Vec<Device>, Error> {
        let mut devices: Vec<Device> = Vec::new();
        for wanted in &self.wanted {
            let found = match wanted {
                Wanted::Everything => self.everything().await?,
                Wanted::Machine(machine) => all_of(machine).await?,
                Wanted::Path(from, to) => self.path_between(from, to).await?,
                Wanted::Device(machine, name) => vec![Device {
                    machine: machine.clone(),
                    name: name.clone(),
                    optional: false,
                }],
            };
            for device in found {
                let same = |other: &Device| other.tap() == device.tap();
                if !devices.iter().any(same) {
                    devices.push(device);
                }
            }
        }
        Ok(devices)
    }

    async fn everything(&self) -> Result<Vec<Device>, Error> {
        let mut devices = Vec::new();
        for pod in self.cluster.pods() {
            devices.extend(all_of(&pod).await?);
        }
        for node in self.cluster.nodes() {
            devices.extend(all_of(&node).await?);
        }
        devices.extend(all_of(self.cluster.fabric()).await?);
        Ok(devices)
    }

    async fn path_between(&self, from: &Pod, to: &Pod) -> Result<Vec<Device>, Error> {
        let (a, b) = (from.node(), to.node());
        let mut path = vec![
            (Machine::clone(from), POD_DEVICE.to_owned()),
            (Machine::clone(&a), from.host_interface()),
        ];
        if a.name() != b.name() {
            let fabric = self.cluster.fabric();
            let tunnel = self.cluster.tunnel_device();
            let tunnels = [has(&a, &tunnel).await?, has(&b, &tunnel).await?];
            let mut sides = [(&a, tunnels[0]), (&b, tunnels[1])].map(|(node, has_tunnel)| {
                let tunnel = has_tunnel.then(|| (Machine::clone(node), tunnel.clone()));
                let underlay = (Machine::clone(node), node.underlay());
                let port = (fabric.clone(), node.fabric_port());
                tunnel
                    .into_iter()
                    .chain([underlay, port])
                    .collect::<Vec<_>>()
            });
            sides[1].reverse();
            path.extend(sides.into_iter().flatten());
        }
        path.push((Machine::clone(&b), to.host_interface()));
        path.push((Machine::clone(to), POD_DEVICE.to_owned()));
        let devices = path.into_iter().map(|(machine, name)| Device {
            machine,
            name,
            optional: false,
        });
        Ok(devices.collect())
    }
}

impl Device {
    fn tap(&self) -> Tap {
        self.machine.tap(&self.name)
    }
}

async fn has(node: &Node, device: &str) -> Result<bool, Error> {
    Ok(node.links().await?.iter().any(|link| link.name == device))
}

async fn all_of(machine: &Machine) -> Result<Vec<Device>, Error> {
    let links = machine.links().await?;
    let links = links.into_iter().filter(|link| link.name != LOOPBACK);
    let devices = links.map(|link| Device {
        machine: machine.clone(),
        name: link.name,
        optional: true,
    });
    Ok(devices.collect())
}
