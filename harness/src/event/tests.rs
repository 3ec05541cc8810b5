use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::sink::parse;
use super::*;

fn note(text: &str) -> Kind {
    Kind::Note { text: text.into() }
}

fn texts(events: &[Arc<Event>]) -> Vec<String> {
    events.iter().map(|event| event.kind.to_string()).collect()
}

#[test]
fn events_are_numbered_and_their_times_never_go_back() {
    let log = EventLog::new();
    log.record(note("one"));
    log.record_at("n1", Kind::AgentStopped);
    log.note("three");
    let events = log.all();
    assert_eq!(
        texts(&events),
        ["note: one", "agent stopped", "note: three"]
    );
    assert_eq!(events[1].machine.as_deref(), Some("n1"));
    assert!(events.is_sorted_by_key(|event| event.at));
    assert!(events.iter().map(|event| event.number).eq(0..3));
}

#[test]
fn a_flood_of_probes_drives_out_old_probes_and_nothing_else() {
    let log = EventLog::new();
    log.note("the beginning");
    for _ in 0..EventLog::CAPACITY {
        let probe = log.probe("a", Ipv4Addr::LOCALHOST, How::by(Protocol::Icmp));
        probe.answered("ttl=64");
    }
    log.note("the end");
    let events = log.all();
    assert_eq!(events.len(), EventLog::CAPACITY + 2);
    assert_eq!(log.count(), EventLog::CAPACITY as u64 * 2 + 2);
    assert_eq!(events[0].kind, note("the beginning"));
    // The first half of the probes is gone, a gap in the numbers tells of it.
    assert_eq!(events[1].number, EventLog::CAPACITY as u64 + 1);
    assert_eq!(events.last().unwrap().kind, note("the end"));
}

#[test]
fn whoever_subscribes_late_hears_what_comes_and_a_sink_hears_all() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<u64>>);
    impl Sink for Heard {
        fn event(&self, _cluster: u64, event: &Event) {
            self.0.lock().unwrap().push(event.number);
        }
    }
    let log = EventLog::new();
    log.note("before");
    let mut live = log.subscribe();
    let sink = Arc::new(Heard::default());
    log.add_sink(sink.clone());
    log.note("after");
    assert_eq!(live.try_recv().unwrap().number, 1);
    assert!(live.try_recv().is_err());
    assert_eq!(*sink.0.lock().unwrap(), [0, 1]);
}

#[test]
fn an_event_is_one_line_and_one_flat_object() {
    let probe = Probe {
        probe: 7,
        to: Ipv4Addr::new(192, 168, 2, 6).into(),
        how: How::by(Protocol::Http).port(80),
    };
    let event = Event {
        number: 3,
        at: Duration::from_micros(41_500),
        wall: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_000_001),
        machine: Some("web".into()),
        kind: Kind::ProbeFailed {
            probe,
            after: Duration::from_millis(2),
            error: "no answer\n  hint: look".into(),
        },
    };
    assert_eq!(
        event.to_string(),
        "+0.042 s web: HTTP to 192.168.2.6:80 failed after 2.0 ms: no answer | hint: look"
    );
    let expected = serde_json::json!({
        "number": 3, "at_ms": 41.5, "wall_ns": 1_000_000_001_u64, "machine": "web",
        "event": "probe_failed", "probe": 7, "protocol": "http", "to": "192.168.2.6", "port": 80,
        "size": null, "dont_fragment": false, "one_of": 1,
        "after_ms": 2.0, "error": "no answer\n  hint: look",
    });
    assert_eq!(serde_json::to_value(&event).unwrap(), expected);
}

#[test]
fn json_lines_are_appended_and_name_their_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let sinks = parse(&format!(" file:{} ,", path.display())).unwrap();
    let log = EventLog::new();
    for sink in sinks {
        log.add_sink(sink);
    }
    log.note("one");
    log.record_at("n1", Kind::AgentKilled);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["text"], "one");
    assert_eq!(lines[1]["event"], "agent_killed");
    assert_eq!(lines[1]["cluster"], log.cluster());
}

#[test]
fn a_sink_that_there_is_not_is_named_with_those_that_there_are() {
    let error = parse("terminal,xml").map(drop).unwrap_err().to_string();
    assert!(
        error.contains("no sink \"xml\"\nhint: write terminal"),
        "{error}"
    );
    let error = parse("file:/no/such/folder/x").map(drop).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder/x"), "{error}");
}
