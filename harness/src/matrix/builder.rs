//! What is asked of whom, and what is expected.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::rounds::{self, Plan, Planned};
use super::{Expectation, Matrix, MatrixError, Peer, Probe, Proof, Question};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::event::{EventLog, Kind, Protocol};
use crate::suite;

/// How long a cluster may take to become as expected.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one probe waits for its answer.
const ANSWER: Duration = Duration::from_millis(500);
/// Rounds in a row that prove that something is unreachable.
const PROOF: NonZeroU32 = NonZeroU32::new(3).expect("three");
/// The size of a probe when none is chosen: that of `ping`.
const SIZE: u32 = 56;

/// A matrix that is still to be asked; see the [module](super).
///
/// One that is dropped without having been asked makes the test fail, or panics where no test of a
/// [suite](mod@crate::suite) runs.
#[must_use = "a matrix asks nothing before `run` or `prove`"]
pub struct MatrixBuilder {
    events: EventLog,
    cluster: Cluster,
    from: Vec<Peer>,
    to: Vec<Peer>,
    with_self: bool,
    protocols: Vec<Protocol>,
    sizes: Vec<u32>,
    probes: Vec<Probe>,
    rules: Vec<Rule>,
    deadline: Duration,
    answer: Duration,
    stable: Option<NonZeroU32>,
    asked: bool,
}

/// What a rule expects of a question; nothing where it does not apply.
type Says = dyn Fn(&Question<'_>) -> Option<Expectation> + Send + Sync;

/// Says what to expect of the questions that it applies to.
struct Rule {
    name: String,
    expectation: Box<Says>,
}

impl Cluster {
    /// Begins a matrix: who reaches whom, see [`matrix`](crate::matrix).
    pub fn matrix(&self) -> MatrixBuilder {
        MatrixBuilder {
            events: self.events().clone(),
            cluster: self.clone(),
            from: Vec::new(),
            to: Vec::new(),
            with_self: false,
            protocols: Vec::new(),
            sizes: Vec::new(),
            probes: Vec::new(),
            rules: Vec::new(),
            deadline: DEADLINE,
            answer: ANSWER,
            stable: None,
            asked: false,
        }
    }
}

impl MatrixBuilder {
    /// Adds rows: these ask.
    pub fn from(mut self, sources: impl IntoIterator<Item = impl Into<Peer>>) -> Self {
        self.from.extend(sources.into_iter().map(Into::into));
        self
    }

    /// Adds columns: these are asked.
    pub fn to(mut self, targets: impl IntoIterator<Item = impl Into<Peer>>) -> Self {
        self.to.extend(targets.into_iter().map(Into::into));
        self
    }

    /// Adds these as rows and as columns.
    pub fn among(self, peers: impl IntoIterator<Item = impl Into<Peer>>) -> Self {
        let peers: Vec<Peer> = peers.into_iter().map(Into::into).collect();
        self.from(&peers).to(&peers)
    }

    /// Adds all pods that there are now as rows and as columns.
    pub fn all_pods(self) -> Self {
        let pods = self.cluster.pods();
        self.among(pods)
    }

    /// Adds all nodes that there are now as rows and as columns.
    pub fn all_nodes(self) -> Self {
        let nodes = self.cluster.nodes();
        self.among(nodes)
    }

    /// Has a peer that is a row and a column ask itself, too.
    pub fn with_self(mut self) -> Self {
        self.with_self = true;
        self
    }

    /// By which protocols to ask: each with each of the [`sizes`](Self::sizes). All four when
    /// neither these nor [`probes`](Self::probes) are chosen.
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.protocols.extend(protocols);
        self
    }

    /// Payload sizes in bytes, see [`Probe::size`]; 56 when none is chosen.
    pub fn sizes(mut self, sizes: impl IntoIterator<Item = u32>) -> Self {
        self.sizes.extend(sizes);
        self
    }

    /// Adds single probes to those of protocols × sizes.
    pub fn probes(mut self, probes: impl IntoIterator<Item = Probe>) -> Self {
        self.probes.extend(probes);
        self
    }

    /// What to expect where no later rule says otherwise; it is
    /// [`reachable`](Expectation::reachable) when nothing is said at all.
    pub fn expect(self, expectation: Expectation) -> Self {
        self.rule("expect", move |_| Some(expectation.clone()))
    }

    /// What to expect between two peers. As with all rules, the last that applies counts, and one
    /// that applies to nothing is a fault.
    pub fn expect_between(
        self,
        from: impl Into<String>,
        to: impl Into<String>,
        expectation: Expectation,
    ) -> Self {
        let (from, to) = (from.into(), to.into());
        self.rule(format!("from {from} to {to}"), move |question| {
            question.is_between(&from, &to).then(|| expectation.clone())
        })
    }

    /// What to expect of the questions for which `applies` says so.
    pub fn expect_where(
        self,
        applies: impl Fn(&Question<'_>) -> bool + Send + Sync + 'static,
        expectation: Expectation,
    ) -> Self {
        self.rule("expect_where", move |question| {
            applies(question).then(|| expectation.clone())
        })
    }

    /// What to expect of each question; `None` leaves it to earlier rules.
    pub fn expect_each(
        self,
        expectation: impl Fn(&Question<'_>) -> Option<Expectation> + Send + Sync + 'static,
    ) -> Self {
        self.rule("expect_each", expectation)
    }

    fn rule(
        mut self,
        name: impl Into<String>,
        expectation: impl Fn(&Question<'_>) -> Option<Expectation> + Send + Sync + 'static,
    ) -> Self {
        self.rules.push(Rule {
            name: name.into(),
            expectation: Box::new(expectation),
        });
        self
    }

    /// How long to repeat rounds until everything is as expected: 10 s, stretched by the
    /// [patience](crate::patience) factor. One round is made in any case.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long each probe waits for its answer: 500 ms, stretched by the patience factor. A round
    /// in which something is unreachable takes that long.
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer = limit;
        self
    }

    /// How many rounds in a row have to be right: 1, or 3 when something is expected to be
    /// unreachable.
    pub fn stable_for(mut self, rounds: NonZeroU32) -> Self {
        self.stable = Some(rounds);
        self
    }

    /// Asks, and returns what was found, right or wrong.
    ///
    /// # Errors
    /// [`MatrixError::Faulty`] when it cannot be asked; otherwise what kept a server or a probe
    /// from being made, such as a pod that was removed.
    pub async fn run(mut self) -> Result<Matrix, Error> {
        self.asked = true;
        let plan = self.plan()?;
        let matrix = rounds::run(plan).await?;
        matrix.keep();
        Ok(matrix)
    }

    /// Asks, and returns the matrix if all of it is as expected.
    ///
    /// # Errors
    /// [`MatrixError::Wrong`] with the matrix if not; otherwise as [`run`](Self::run).
    pub async fn prove(self) -> Result<Proof, Error> {
        let matrix = self.run().await?;
        matrix.assert()?;
        Ok(Proof(matrix))
    }

    fn all_probes(&self) -> Vec<Probe> {
        const ALL: [Protocol; 4] = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp, Protocol::Http];
        let protocols = match (&*self.protocols, &*self.probes) {
            ([], []) => &ALL,
            (chosen, _) => chosen,
        };
        let sizes = match &*self.sizes {
            [] => &[SIZE],
            chosen => chosen,
        };
        let products = protocols
            .iter()
            .flat_map(|protocol| sizes.iter().map(|size| Probe::new(*protocol, *size)));
        products.chain(self.probes.iter().copied()).collect()
    }

    fn plan(&self) -> Result<Plan, MatrixError> {
        let probes = self.all_probes();
        let mut faults = faults(&self.from, &self.to, &probes);
        let mut applied = vec![false; self.rules.len()];
        let mut checks = Vec::new();
        for (row, from) in self.from.iter().enumerate() {
            for (column, to) in self.to.iter().enumerate() {
                if from.name() == to.name() && !self.with_self {
                    continue;
                }
                for &probe in &probes {
                    let question = Question { from, to, probe };
                    let mut expected = Expectation::reachable();
                    for (rule, applied) in self.rules.iter().zip(&mut applied) {
                        if let Some(other) = (rule.expectation)(&question) {
                            expected = other;
                            *applied = true;
                        }
                    }
                    if let Some(fault) = expected.fault(probe) {
                        let pair = format!("{} → {}", from.name(), to.name());
                        faults.push(format!("{pair}: {probe}: {expected}: {fault}"));
                    }
                    checks.push(Planned {
                        from: row,
                        to: column,
                        probe,
                        expected,
                    });
                }
            }
        }
        if checks.is_empty() && faults.is_empty() {
            faults.push("there is no pair of two different peers".to_owned());
        }
        let idle = self
            .rules
            .iter()
            .zip(&applied)
            .filter(|(_, applied)| !**applied);
        faults.extend(idle.map(|(rule, _)| format!("the rule {:?} applies to nothing", rule.name)));
        if !faults.is_empty() {
            return Err(MatrixError::Faulty { faults });
        }
        let proof = checks.iter().any(|check| !check.expected.is_reachable());
        let usual = if proof { PROOF } else { NonZeroU32::MIN };
        Ok(Plan {
            events: self.events.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            probes,
            checks,
            deadline: self.deadline,
            answer: self.answer,
            wanted: self.stable.unwrap_or(usual),
        })
    }
}

/// What is wrong with peers and probes, whatever is expected.
fn faults(from: &[Peer], to: &[Peer], probes: &[Probe]) -> Vec<String> {
    let mut faults = Vec::new();
    for (what, peers) in [("source", from), ("target", to)] {
        if peers.is_empty() {
            faults.push(format!("there is no {what}"));
        }
        let mut names = BTreeSet::new();
        let again = peers.iter().filter(|peer| !names.insert(peer.name()));
        faults.extend(again.map(|peer| format!("the {what} {} is there twice", peer.name())));
    }
    let outside = from.iter().filter(|peer| peer.host().is_none());
    faults.extend(outside.map(|peer| format!("{} is outside and cannot ask", peer.name())));
    for probe in probes {
        let has_ports = matches!(probe.protocol, Protocol::Tcp | Protocol::Http);
        if probe.protocol == Protocol::Trace {
            faults.push("a trace is no probe of a matrix: see Cluster::trace".to_owned());
        }
        if probe.dont_fragment && has_ports {
            faults.push(format!("{probe}: the bit is for icmp and udp only"));
        }
        // A payload that no IPv4 packet can carry.
        if !has_ports && probe.size > 65_507 {
            faults.push(format!("{probe}: the largest payload has 65507 bytes"));
        }
        for peer in to.iter().filter(|peer| peer.host().is_none()) {
            let served = match probe.protocol {
                Protocol::Udp => false,
                Protocol::Tcp => peer.tcp_port.is_some(),
                Protocol::Http => peer.http.is_some(),
                Protocol::Icmp | Protocol::Trace => true,
            };
            if !served {
                let name = peer.name();
                faults.push(format!("{probe}: {name} is outside, and no port is named"));
            }
        }
    }
    faults
}

impl fmt::Debug for MatrixBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatrixBuilder")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("probes", &self.all_probes())
            .finish_non_exhaustive()
    }
}

impl Drop for MatrixBuilder {
    fn drop(&mut self) {
        if self.asked {
            return;
        }
        let (rows, columns) = (self.from.len(), self.to.len());
        let text = format!("a matrix of {rows} × {columns} peers was built and never asked");
        self.events.record(Kind::AssertionFailed {
            assertion: "a matrix that was built is asked".to_owned(),
            found: text.clone(),
            pair: None,
            asked: None,
        });
        // A panic that is under way must stay the one that is reported.
        if !suite::add_failure(&text) && !std::thread::panicking() {
            panic!("{text}\nhint: end it with .run().await or .prove().await");
        }
    }
}
