//! What can happen.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::milliseconds;

/// What happened. More kinds will come.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A machine's namespaces were made.
    MachineCreated {
        /// What it is for.
        role: Role,
        /// Its addresses as specified; the fabric's are not listed.
        addresses: Vec<IpAddr>,
        /// The node of a pod.
        on: Option<String>,
    },
    /// A machine was removed from the cluster, with all that ran in it.
    MachineRemoved {
        /// What it was for.
        role: Role,
    },
    /// Every agent of the boot is ready.
    Booted {
        /// The time since the boot began. Milliseconds when serialised, as all durations are.
        #[serde(rename = "after_ms", serialize_with = "milliseconds")]
        after: Duration,
    },
    /// An agent's process was started.
    AgentStarted {
        /// Its process id in the sandbox.
        pid: Option<u32>,
        /// The command line.
        program: String,
    },
    /// An agent said that its first full sync is in the kernel.
    AgentReady {
        /// The time since it was started.
        #[serde(rename = "after_ms", serialize_with = "milliseconds")]
        after: Duration,
        /// Its human line.
        status: String,
        /// The encapsulation that it uses; empty if it does not say.
        encapsulation: String,
        /// Why it uses that one.
        why: String,
    },
    /// An agent did not become ready.
    AgentFailed {
        /// Why.
        error: String,
    },
    /// An agent was asked to stop, and has.
    AgentStopped,
    /// An agent was killed, as by a crash.
    AgentKilled,
    /// An agent ended though nobody had asked it to.
    AgentDied {
        /// How: `exit status: 1`, `signal: 9 (SIGKILL)`.
        status: String,
    },
    /// A fault was put in.
    FaultApplied {
        /// Which, as its verb prints it.
        fault: String,
        /// Between or at what: `k8s-worker-1 ↔ k8s-worker-2`, `k8s-worker-1/eth0`.
        target: String,
    },
    /// A fault was taken out again.
    FaultHealed {
        /// The same text as when it was applied.
        fault: String,
        /// The same text as when it was applied.
        target: String,
    },
    /// A probe left the event's machine.
    ProbeSent {
        /// Which.
        #[serde(flatten)]
        probe: Probe,
    },
    /// A probe was answered.
    ProbeAnswered {
        /// Which: the same as when it was sent.
        #[serde(flatten)]
        probe: Probe,
        /// The time since it was sent.
        #[serde(rename = "after_ms", serialize_with = "milliseconds")]
        after: Duration,
        /// What came back: `ttl=62`, `HTTP/1.1 200 OK, 20 bytes`.
        answer: String,
    },
    /// A probe was not answered, or not as it should be.
    ProbeFailed {
        /// Which: the same as when it was sent.
        #[serde(flatten)]
        probe: Probe,
        /// The time since it was sent.
        #[serde(rename = "after_ms", serialize_with = "milliseconds")]
        after: Duration,
        /// Why.
        error: String,
    },
    /// Something that was asserted of the cluster is so.
    AssertionPassed {
        /// What was asserted, as a statement.
        assertion: String,
    },
    /// Something that was asserted of the cluster is not so.
    AssertionFailed {
        /// What was asserted, as a statement.
        assertion: String,
        /// What was found instead; may have several lines.
        found: String,
        /// From whom to whom, by name or address, where the assertion is about a pair.
        pair: Option<(String, String)>,
        /// How the pair was asked, where that is known.
        asked: Option<How>,
    },
    /// All pairs of a matrix were asked once; its single probes are no events.
    MatrixRound {
        /// Its number, from 1.
        round: u32,
        /// How many questions were asked.
        questions: usize,
        /// How many answers were not as expected.
        wrong: usize,
        /// How long it took.
        #[serde(rename = "after_ms", serialize_with = "milliseconds")]
        after: Duration,
    },
    /// A timeline was stopped; its single probes are no events.
    TimelineStopped {
        /// How many pairs it had.
        pairs: usize,
        /// How many probes they sent.
        sent: u64,
        /// How many of them were lost.
        lost: u64,
    },
    /// A capture keeps packets from now on.
    CaptureStarted {
        /// Its name, `node/device`, or that of the set.
        capture: String,
        /// What it lets through.
        filter: String,
    },
    /// A capture was ended.
    CaptureStopped {
        /// Its name.
        capture: String,
        /// How many packets it has.
        packets: u64,
        /// How many passed the filter and were lost.
        dropped: u64,
    },
    /// A program was started in the event's machine.
    ProgramStarted {
        /// Its process id in the sandbox.
        pid: Option<u32>,
        /// The command line.
        program: String,
    },
    /// A program that was waited for has ended.
    ProgramEnded {
        /// The command line.
        program: String,
        /// How: `exit status: 0`.
        status: String,
        /// The time since it was started.
        #[serde(rename = "after_ms", serialize_with = "milliseconds")]
        after: Duration,
    },
    /// A route of the event's machine was deleted by hand.
    RouteDeleted {
        /// Its destination.
        destination: String,
    },
    /// A device of the event's machine was brought up or down by hand.
    LinkSet {
        /// The device.
        device: String,
        /// Whether it is up.
        up: bool,
    },
    /// The MTU of a device of the event's machine was set by hand.
    MtuSet {
        /// The device.
        device: String,
        /// The MTU in bytes.
        mtu: u32,
    },
    /// A file of the datastore was written or removed by the harness or the test.
    DatastoreChanged {
        /// Its path in the datastore, `nodes/k8s-worker-1.json`.
        file: String,
        /// `false` when it was removed.
        exists: bool,
    },
    /// A verb changes the running cluster: `add node k8s-worker-3`.
    Change {
        /// What is done.
        change: String,
    },
    /// A verb that changes the running cluster failed.
    ChangeFailed {
        /// What was to be done.
        change: String,
        /// Why it was not.
        error: String,
    },
    /// Something a test wants to tell the reader of a report.
    Note {
        /// What.
        text: String,
    },
}

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// The switches and the gateway between the nodes.
    Fabric,
    /// A machine in which an agent runs.
    Node,
    /// What runs on a node.
    Pod,
}

/// One question to the network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Probe {
    /// Tells this probe from all others of its log.
    pub probe: u64,
    /// Whom it asks.
    pub to: IpAddr,
    /// How it asks.
    #[serde(flatten)]
    pub how: How,
}

/// How a question is put to the network: whoever puts it again in the same way gets the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct How {
    /// By which protocol.
    pub protocol: Protocol,
    /// At which port, where the protocol has them and it is known.
    pub port: Option<u16>,
    /// Bytes of payload, where they were chosen: after the ICMP or UDP header, or so many on a
    /// connection.
    pub size: Option<u32>,
    /// Whether the don't-fragment bit was set.
    pub dont_fragment: bool,
    /// One of about so many such questions went wrong; 1 where all did, or there was only one.
    pub one_of: u32,
}

impl How {
    /// One question by this protocol, of the usual size.
    pub fn by(protocol: Protocol) -> Self {
        Self {
            protocol,
            port: None,
            size: None,
            dont_fragment: false,
            one_of: 1,
        }
    }

    /// At this port.
    #[must_use]
    pub fn port(mut self, port: impl Into<Option<u16>>) -> Self {
        self.port = port.into();
        self
    }

    /// With so many bytes of payload.
    #[must_use]
    pub fn size(mut self, bytes: u32) -> Self {
        self.size = Some(bytes);
        self
    }

    /// With the don't-fragment bit, or without.
    #[must_use]
    pub fn dont_fragment(mut self, set: bool) -> Self {
        self.dont_fragment = set;
        self
    }

    /// And one of about so many went wrong.
    #[must_use]
    pub fn one_of(mut self, questions: u32) -> Self {
        self.one_of = questions.max(1);
        self
    }
}

/// The protocol of a [`Probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Protocol {
    /// An echo request.
    Icmp,
    /// A TCP connection.
    Tcp,
    /// A UDP datagram that is to be sent back.
    Udp,
    /// An HTTP request.
    Http,
    /// A marked packet that is followed hop by hop.
    Trace,
}

/// How much a reader in a hurry wants to know of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The details of what went as planned.
    Detail,
    /// Steps of the test.
    Step,
    /// What the test did to the network on purpose.
    Fault,
    /// What went wrong.
    Failure,
}

impl Kind {
    /// How much it matters to whoever looks for the cause of a failure.
    pub fn level(&self) -> Level {
        match self {
            Self::MachineCreated { .. }
            | Self::AgentStarted { .. }
            | Self::ProbeSent { .. }
            | Self::ProbeAnswered { .. }
            | Self::MatrixRound { .. }
            | Self::TimelineStopped { .. }
            | Self::CaptureStarted { .. }
            | Self::CaptureStopped { .. }
            | Self::ProgramStarted { .. }
            | Self::ProgramEnded { .. }
            | Self::DatastoreChanged { .. } => Level::Detail,
            Self::Booted { .. }
            | Self::MachineRemoved { .. }
            | Self::AgentReady { .. }
            | Self::AgentStopped
            // By hand, and often one of many: the test marks a timeline itself where it matters.
            | Self::RouteDeleted { .. }
            | Self::LinkSet { .. }
            | Self::MtuSet { .. }
            | Self::AssertionPassed { .. }
            | Self::Change { .. }
            | Self::Note { .. } => Level::Step,
            Self::AgentKilled | Self::FaultApplied { .. } | Self::FaultHealed { .. } => Level::Fault,
            Self::AgentFailed { .. }
            | Self::AgentDied { .. }
            | Self::ProbeFailed { .. }
            | Self::AssertionFailed { .. }
            | Self::ChangeFailed { .. } => Level::Failure,
        }
    }

    /// Probes are many.
    pub(super) fn is_probe(&self) -> bool {
        matches!(
            self,
            Self::ProbeSent { .. } | Self::ProbeAnswered { .. } | Self::ProbeFailed { .. }
        )
    }
}

/// One line, without the machine.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MachineCreated {
                role,
                addresses,
                on,
            } => {
                write!(f, "{role} created")?;
                for address in addresses {
                    write!(f, " {address}")?;
                }
                on.iter().try_for_each(|node| write!(f, " on {node}"))
            }
            Self::MachineRemoved { role } => write!(f, "{role} removed"),
            Self::Booted { after } => write!(f, "cluster booted in {}", Ms(after)),
            Self::AgentStarted { pid, program } => {
                write!(f, "agent started")?;
                if let Some(pid) = pid {
                    write!(f, " as process {pid}")?;
                }
                write!(f, ": {program}")
            }
            Self::AgentReady {
                after,
                encapsulation,
                status,
                ..
            } => {
                write!(f, "agent ready after {}", Ms(after))?;
                let said = [encapsulation, status];
                let mut said = said.into_iter().filter(|text| !text.is_empty());
                said.try_for_each(|text| write!(f, ", {}", Line(text)))
            }
            Self::AgentFailed { error } => write!(f, "agent not ready: {}", Line(error)),
            Self::AgentStopped => f.write_str("agent stopped"),
            Self::AgentKilled => f.write_str("agent killed"),
            Self::AgentDied { status } => write!(f, "agent ended by itself: {status}"),
            Self::FaultApplied { fault, target } => write!(f, "fault: {fault} at {target}"),
            Self::FaultHealed { fault, target } => write!(f, "healed: {fault} at {target}"),
            Self::ProbeSent { probe } => write!(f, "{probe} sent"),
            Self::ProbeAnswered {
                probe,
                after,
                answer,
            } => write!(f, "{probe} answered in {}: {}", Ms(after), Line(answer)),
            Self::ProbeFailed {
                probe,
                after,
                error,
            } => write!(f, "{probe} failed after {}: {}", Ms(after), Line(error)),
            Self::AssertionPassed { assertion } => write!(f, "as asserted: {}", Line(assertion)),
            Self::AssertionFailed {
                assertion, found, ..
            } => write!(f, "NOT as asserted: {}; {}", Line(assertion), Line(found)),
            Self::MatrixRound {
                round,
                questions,
                wrong,
                after,
            } => write!(
                f,
                "matrix round {round}: {wrong} of {questions} answers wrong, {}",
                Ms(after)
            ),
            Self::TimelineStopped { pairs, sent, lost } => {
                write!(
                    f,
                    "timeline of {pairs} pairs stopped: {lost} of {sent} lost"
                )
            }
            Self::CaptureStarted { capture, filter } => {
                write!(f, "capture {capture} started, {}", Line(filter))
            }
            Self::CaptureStopped {
                capture,
                packets,
                dropped,
            } => write!(
                f,
                "capture {capture} stopped: {packets} packets, {dropped} lost"
            ),
            Self::ProgramStarted { pid, program } => {
                write!(f, "program started")?;
                if let Some(pid) = pid {
                    write!(f, " as process {pid}")?;
                }
                write!(f, ": {}", Line(program))
            }
            Self::ProgramEnded {
                program,
                status,
                after,
            } => {
                let program = Line(program);
                write!(f, "program ended in {}, {status}: {program}", Ms(after))
            }
            Self::RouteDeleted { destination } => write!(f, "route to {destination} deleted"),
            Self::LinkSet { device, up: true } => write!(f, "{device} set up"),
            Self::LinkSet { device, up: false } => write!(f, "{device} set down"),
            Self::MtuSet { device, mtu } => write!(f, "MTU of {device} set to {mtu}"),
            Self::DatastoreChanged { file, exists: true } => write!(f, "datastore: {file} written"),
            Self::DatastoreChanged {
                file,
                exists: false,
            } => write!(f, "datastore: {file} removed"),
            Self::Change { change } => write!(f, "change: {}", Line(change)),
            Self::ChangeFailed { change, error } => {
                write!(f, "change failed: {}: {}", Line(change), Line(error))
            }
            Self::Note { text } => write!(f, "note: {}", Line(text)),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fabric => "fabric",
            Self::Node => "node",
            Self::Pod => "pod",
        })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let How { protocol, port, .. } = self.how;
        match port {
            Some(port) => write!(f, "{protocol} to {}:{port}", self.to),
            None => write!(f, "{protocol} to {}", self.to),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "ping",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Http => "HTTP",
            Self::Trace => "trace",
        })
    }
}

/// A duration in the unit of a network.
struct Ms<'a>(&'a Duration);

impl fmt::Display for Ms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0.as_secs_f64() * 1e3)
    }
}

/// A text of several lines as one.
struct Line<'a>(&'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.lines().map(str::trim);
        for (index, line) in lines.filter(|line| !line.is_empty()).enumerate() {
            let between = if index == 0 { "" } else { " | " };
            write!(f, "{between}{line}")?;
        }
        Ok(())
    }
}
