//! Which troubles a seed makes, and when.

use std::fmt;

use podlab::fault::Random;

use super::trouble::{Kind, Local, Side, Treatment, Trouble};

/// How many nodes there are, each with a pod.
pub const NODES: usize = 6;
/// To so many of them anything may happen; to one more what concerns its agent alone.
const VICTIMS: usize = 3;
const TROUBLES: usize = 12;
/// Between two troubles of a node it has so long to itself, in milliseconds.
const REST: u64 = 50;

/// The troubles of a seed: the same ones in every run, on every machine that has `netem`, and on
/// every one that has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    seed: u64,
    with_netem: bool,
    troubles: Vec<Trouble>,
}

/// A step of a schedule: the trouble of that place begins, or is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It begins.
    Begin(usize),
    /// It is healed.
    End(usize),
}

impl Schedule {
    /// The schedule of this seed. Troubles overlap, but no node has two at a time: what the one
    /// does would hide what the other does. Only `with_netem` are there those that need it.
    pub fn new(seed: u64, with_netem: bool) -> Self {
        let mut random = Random::new(seed);
        let count = u32::try_from(NODES).unwrap_or(u32::MAX);
        let order = random.choose(count, count);
        let order: Vec<usize> = order.into_iter().map(|node| node as usize).collect();
        let mut free = [0; NODES];
        let mut now = 0;
        let mut troubles = Vec::new();
        for _ in 0..TROUBLES {
            now += u64::from(random.below(150));
            let kind = draw(&mut random, &order, with_netem);
            let nodes = kind.nodes();
            let begins = nodes.iter().map(|node| free[*node]).fold(now, u64::max);
            let ends = begins + 100 + u64::from(random.below(400));
            for node in nodes {
                free[node] = ends + REST;
            }
            troubles.push(Trouble { kind, begins, ends });
        }
        Self {
            seed,
            with_netem,
            troubles,
        }
    }

    /// From which seed it is.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether there may be those that need `netem`.
    pub fn with_netem(&self) -> bool {
        self.with_netem
    }

    /// The troubles, by the places that [`Act`]s name.
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// The steps in their order, with their times in milliseconds.
    pub fn acts(&self) -> Vec<(u64, Act)> {
        let troubles = self.troubles.iter().enumerate();
        let mut acts: Vec<(u64, Act)> = troubles
            .flat_map(|(place, trouble)| {
                [
                    (trouble.begins, Act::Begin(place)),
                    (trouble.ends, Act::End(place)),
                ]
            })
            .collect();
        // Stable: at one time in the order of their places.
        acts.sort_by_key(|(at, _)| *at);
        acts
    }

    /// The pairs of nodes, by number, between whose pods nothing may be lost.
    pub fn untouched(&self, agents_carry: bool) -> Vec<(usize, usize)> {
        let all = (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to)
            .filter(|pair| {
                let mut troubles = self.troubles.iter();
                !troubles.any(|trouble| trouble.kind.touches(*pair, agents_carry))
            })
            .collect()
    }
}

/// One trouble. `order` is all nodes: victims first, then the one whose agent may suffer.
fn draw(random: &mut Random, order: &[usize], with_netem: bool) -> Kind {
    const BETWEEN: u32 = 5;
    const OF_AGENTS: u32 = 8;
    const OF_NODES: u32 = 12;
    let victims = &order[..VICTIMS];
    let mut one = |of: &[usize]| random.pick(of).copied().unwrap_or(0);
    let victim = one(victims);
    let agent = one(&order[..=VICTIMS]);
    let others: Vec<usize> = order.iter().copied().filter(|n| *n != victim).collect();
    let other = one(&others);
    let without_netem = BETWEEN + OF_AGENTS + OF_NODES;
    let kinds = without_netem + if with_netem { 5 } else { 0 };
    match random.below(kinds) {
        0 => Kind::Partition(victim, other),
        1 => Kind::OneWay(victim, other),
        2 => Kind::OneWay(other, victim),
        3 => Kind::Loss(victim, other, 2 + random.below(3)),
        4 => split(random, order),
        kind if kind < BETWEEN + OF_AGENTS => of_agent(random, agent, kind - BETWEEN),
        kind if kind < without_netem => {
            Kind::At(victim, of_node(random, kind - BETWEEN - OF_AGENTS))
        }
        kind => {
            let treatment = treatment(random, kind - without_netem);
            Kind::At(victim, Local::Impaired(treatment))
        }
    }
}

/// Two victims, or all, against some of the others: pairs of others are not touched by it.
fn split(random: &mut Random, order: &[usize]) -> Kind {
    let (victims, others) = order.split_at(VICTIMS);
    let one = &victims[random.below(2) as usize..];
    let other = &others[random.below(2) as usize..];
    Kind::Split(Side::of(one), Side::of(other))
}

/// What packets of the kernel's backends do not notice.
fn of_agent(random: &mut Random, at: usize, which: u32) -> Kind {
    let local = match which {
        0 => Local::Frozen,
        1 => Local::AgentFrozen,
        2 => Local::AgentKilled,
        3 => Local::AgentLate,
        4 => Local::DatastoreLost,
        5 => Local::DatastoreSlow(50 + random.below(200)),
        6 => Local::DiskFull,
        _ => return Kind::AgentRestarted(at),
    };
    Kind::At(at, local)
}

fn of_node(random: &mut Random, which: u32) -> Local {
    match which {
        0 => Local::Isolated,
        1 => Local::LinkDown,
        2 => Local::Flapping,
        3 => Local::CarrierLost,
        4 => Local::Limited(32 + random.below(200)),
        5 => Local::Narrow(1280 + random.below(200)),
        6 => Local::PodLinkDown,
        7 => Local::Renumbered,
        8 => Local::Crashed,
        9 => Local::PodFrozen,
        10 => Local::Vandalized(random.next_u64()),
        _ => Local::DatastoreCorrupt(random.next_u64()),
    }
}

fn treatment(random: &mut Random, which: u32) -> Treatment {
    let late = 5 + random.below(20);
    match which {
        0 => Treatment::Delayed(late),
        1 => Treatment::Jittered(late),
        2 => Treatment::Reordered(late),
        3 => Treatment::Duplicated,
        _ => Treatment::Corrupted,
    }
}

/// A line for each trouble, as in `+0.120 s until +0.410 s: n3 crashed`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| format!("+{}.{:03} s", ms / 1000, ms % 1000);
        let netem = if self.with_netem { "with" } else { "without" };
        write!(f, "schedule of seed {}, {netem} netem:", self.seed)?;
        for trouble in &self.troubles {
            let (begins, ends) = (seconds(trouble.begins), seconds(trouble.ends));
            write!(f, "\n  {begins} until {ends}: {}", trouble.kind)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The schedule of a seed that was printed must not become another one.
    #[test]
    fn a_seed_has_one_schedule_and_another_seed_another() {
        let schedules: BTreeSet<String> = (0..1000)
            .map(|seed| {
                let text = Schedule::new(seed, true).to_string();
                assert_eq!(Schedule::new(seed, true).to_string(), text);
                text.split_once('\n').map(|(_, rest)| rest.to_owned())
            })
            .map(Option::unwrap)
            .collect();
        assert_eq!(schedules.len(), 1000);
    }

    /// A replay on another machine, or with the next version, is one of the same troubles. Whoever
    /// changes what is drawn changes this text, and what was told of a failure before.
    #[test]
    fn the_schedule_of_a_seed_is_known() {
        let schedule = |netem| format!("{}\n", Schedule::new(3, netem));
        let with = include_str!("golden/seed-3-with-netem.txt");
        assert_eq!(schedule(true), with);
        let without = include_str!("golden/seed-3-without-netem.txt");
        assert_eq!(schedule(false), without);
    }

    #[test]
    fn no_node_has_two_troubles_at_a_time() {
        for schedule in (0..1000).map(|seed| Schedule::new(seed, true)) {
            let troubles = schedule.troubles();
            for (place, one) in troubles.iter().enumerate() {
                for other in &troubles[place + 1..] {
                    let nodes = one.kind.nodes();
                    let shared = other.kind.nodes().iter().any(|node| nodes.contains(node));
                    let apart = one.ends < other.begins || other.ends < one.begins;
                    assert!(apart || !shared, "{schedule}");
                }
            }
        }
    }

    /// Otherwise there would be nothing to prove of them.
    #[test]
    fn there_are_pairs_that_nothing_touches() {
        for schedule in (0..1000).map(|seed| Schedule::new(seed, true)) {
            assert!(schedule.untouched(true).len() >= 2, "{schedule}");
            assert!(schedule.untouched(false).len() >= 6, "{schedule}");
            assert!(schedule.untouched(false).len() < NODES * (NODES - 1));
        }
    }

    #[test]
    fn every_trouble_begins_once_and_is_healed_after_that() {
        let schedule = Schedule::new(7, true);
        let acts: Vec<Act> = schedule.acts().into_iter().map(|(_, act)| act).collect();
        for place in 0..schedule.troubles().len() {
            let at = |wanted| acts.iter().position(|act| *act == wanted);
            assert!(at(Act::Begin(place)).unwrap() < at(Act::End(place)).unwrap());
        }
        assert_eq!(acts.len(), 2 * schedule.troubles().len());
    }

    #[test]
    fn every_kind_occurs() {
        let kinds = |with_netem| -> BTreeSet<String> {
            let schedules = (0..100).map(|seed| Schedule::new(seed, with_netem));
            let names = schedules.flat_map(|schedule| {
                let troubles = schedule.troubles.iter();
                let names = troubles.map(|trouble| format!("{:?}", trouble.kind));
                names.collect::<Vec<_>>()
            });
            let letters = |name: String| name.replace(|c: char| c.is_ascii_digit(), "");
            names.map(letters).collect()
        };
        let (with, without) = (kinds(true), kinds(false));
        assert_eq!(without.len(), 4 + 8 + 12, "{without:?}");
        let more: Vec<&String> = with.difference(&without).collect();
        assert_eq!(more.len(), 5, "{more:?}");
        assert!(more.iter().all(|kind| kind.contains("Impaired")));
    }
}
