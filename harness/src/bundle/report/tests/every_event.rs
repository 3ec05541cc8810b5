//! Every kind of event reaches every sink: terminal, JSON lines, and the report.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::Duration;

use maud::html;

use crate::bundle::Item;
use crate::bundle::model::{Bundle, ClusterState, VERSION};
use crate::bundle::report::page;
use crate::event::{
    Event, EventLog, How, JsonLines, Kind, Level, Probe, Protocol, Role, Sink, Terminal,
};

const AFTER: Duration = Duration::from_millis(7);

/// One event of every kind. A kind that is not in the list fails to compile: the names are made
/// into a match without a wildcard.
macro_rules! every_kind {
    ($($name:ident { $($field:ident: $value:expr),* },)+) => {
        fn every_kind() -> Vec<Kind> {
            vec![$(Kind::$name { $($field: $value),* }),+]
        }

        fn name(kind: &Kind) -> &'static str {
            match kind {
                $(Kind::$name { .. } => stringify!($name)),+
            }
        }
    };
}

every_kind! {
    MachineCreated { role: Role::Pod, addresses: vec![Ipv4Addr::new(192, 168, 1, 2).into()], on: Some(text("n1")) },
    MachineRemoved { role: Role::Node },
    Booted { after: AFTER },
    AgentStarted { pid: Some(42), program: text("agent --first") },
    AgentReady { after: AFTER, status: text("4 routes"), encapsulation: text("ebpf"), why: text("") },
    AgentFailed { error: text("no <datastore>\nhint: give one") },
    AgentStopped {},
    AgentKilled {},
    AgentDied { status: text("signal: 9 (SIGKILL)") },
    FaultApplied { fault: text("partition"), target: text("n1 ↔ n2") },
    FaultHealed { fault: text("delay"), target: text("n1/eth0") },
    ProbeSent { probe: probe(Protocol::Icmp) },
    ProbeAnswered { probe: probe(Protocol::Http), after: AFTER, answer: text("HTTP/1.1 200 OK") },
    ProbeFailed { probe: probe(Protocol::Udp), after: AFTER, error: text("no answer\nhint: look") },
    AssertionPassed { assertion: text("all reach all") },
    AssertionFailed { assertion: text("a reaches b"), found: text("it does\nnot"), pair: None, asked: None },
    MatrixRound { round: 3, questions: 12, wrong: 1, after: AFTER },
    TimelineStopped { pairs: 2, sent: 900, lost: 17 },
    CaptureStarted { capture: text("a/eth0"), filter: text("icmp") },
    CaptureStopped { capture: text("b/eth0"), packets: 5, dropped: 0 },
    ProgramStarted { pid: None, program: text("sh -c\n'true'") },
    ProgramEnded { program: text("false"), status: text("exit status: 1"), after: AFTER },
    RouteDeleted { destination: text("192.168.2.0/24") },
    LinkSet { device: text("eth0"), up: false },
    MtuSet { device: text("eth1"), mtu: 1400 },
    DatastoreChanged { file: text("nodes/n1.json"), exists: true },
    Change { change: text("add node n4") },
    ChangeFailed { change: text("add pod d"), error: text("no node\n\"n9\"") },
    Note { text: text("from here on\nwith the other MTU") },
}

fn text(words: &str) -> String {
    words.to_owned()
}

fn probe(protocol: Protocol) -> Probe {
    Probe {
        probe: 1,
        to: Ipv4Addr::new(192, 168, 2, 2).into(),
        how: How::by(protocol),
    }
}

/// `AgentReady` as JSON has it: `agent_ready`.
fn snake_case(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// What the terminal would show.
#[derive(Default)]
struct Screen(Mutex<Vec<u8>>);

impl Sink for Screen {
    fn event(&self, cluster: u64, event: &Event) {
        Terminal::write(&mut *self.0.lock().unwrap(), cluster, event).unwrap();
    }
}

/// A report of a cluster of which nothing is known but its events.
fn report(log: &EventLog) -> String {
    let nothing = || text("not asked for");
    let cluster = ClusterState {
        number: log.cluster(),
        spec: Item::Error(nothing()),
        machines: Vec::new(),
        datastore: Item::Error(nothing()),
        events: log.all(),
        results: Vec::new(),
        events_lost: 0,
        faults: Vec::new(),
        healing: None,
        backlog_dropped: 0,
        pair: None,
        reachability: Item::Error(nothing()),
    };
    page(&Bundle {
        format: "podlab-bundle",
        version: VERSION,
        test: text("every_event"),
        attempt: 1,
        failed_at_ns: 0,
        collected_in_ms: 0,
        error: nothing(),
        diagnosis: None,
        kernel: nothing(),
        captures: Vec::new(),
        clusters: vec![cluster],
    })
}

/// If this fails, something that happens is told in one place and not in another.
#[test]
fn every_kind_of_event_reaches_every_sink() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let screen = std::sync::Arc::new(Screen::default());
    let log = EventLog::new();
    log.add_sink(screen.clone());
    log.add_sink(std::sync::Arc::new(JsonLines::append(&file).unwrap()));
    for kind in every_kind() {
        log.record_at("n1", kind);
    }
    let screen = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
    let screen: Vec<&str> = screen.lines().collect();
    let json = std::fs::read_to_string(&file).unwrap();
    let json: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let page = report(&log);
    let list = page
        .split("events with their details</summary>")
        .nth(1)
        .unwrap();
    let list = list.split("</details>").next().unwrap();
    let events = log.all();
    // One line each, also of what has several.
    assert_eq!((screen.len(), json.len()), (events.len(), events.len()));
    for (number, event) in events.iter().enumerate() {
        let (name, said) = (name(&event.kind), event.kind.to_string());
        assert!(!said.contains('\n'), "{name}: {said}");
        let line = screen[number];
        assert!(line.ends_with(&format!(" n1: {said}")), "{name}: {line}");
        assert_eq!(json[number]["event"], snake_case(name));
        let mut whole = serde_json::to_value(event).unwrap();
        whole["test"] = json[number]["test"].clone();
        whole["cluster"] = log.cluster().into();
        assert_eq!(json[number], whole, "{name}");
        let cell = html! { td.what { (said) } }.into_string();
        assert_eq!(list.matches(&cell).count(), 1, "{name}: {cell} in {list}");
        let mark = html! { title { (event) } }.into_string();
        assert_eq!(page.matches(&mark).count(), 1, "{name}: {mark}");
        // What matters is in the short list, too.
        let shown = page.matches(&cell).count();
        let expected = 1 + usize::from(event.kind.level() > Level::Detail);
        assert_eq!(shown, expected, "{name}");
    }
}
