//! What happened, in its order: a picture of all machines, and the events as a list.

use std::sync::Arc;

use maud::{Markup, html};

use crate::bundle::model::ClusterState;
use crate::event::{Event, Level};

const LEFT: usize = 150;
const WIDTH: usize = 1196;
const ROW: usize = 20;
/// More lanes than that are a wall.
const LANES: usize = 24;
/// More rows than that nobody scrolls through; the file has them all.
const ROWS: usize = 2000;

pub(super) fn section(cluster: &ClusterState) -> Markup {
    let events = &cluster.events;
    let steps: Vec<&Arc<Event>> = events
        .iter()
        .filter(|e| e.kind.level() > Level::Detail)
        .collect();
    html! {
        @if cluster.events_lost > 0 {
            p.soft { (cluster.events_lost) " older events were not kept." }
        }
        div.scroll tabindex="0" { (picture(cluster)) }
        p.legend aria-hidden="true" {
            span { i style="background:var(--bad);border-color:var(--bad)" {} "failure" }
            span { i style="background:var(--warn);border-color:var(--warn)" {} "fault" }
            span { i style="background:var(--way);border-color:var(--way)" {} "step" }
            span { i style="background:var(--soft);border-color:var(--soft)" {} "detail" }
        }
        (list(&steps))
        details {
            summary { "All " (events.len()) " events with their details" }
            (list(&events.iter().collect::<Vec<_>>()))
        }
    }
}

fn list(events: &[&Arc<Event>]) -> Markup {
    let skipped = events.len().saturating_sub(ROWS);
    html! {
        @if skipped > 0 { p.soft { "The first " (skipped) " are in bundle.json only." } }
        table.events {
            @for event in &events[skipped..] {
                tr class=(class(event)) {
                    td.at { (format!("{:.3} s", event.at.as_secs_f64())) }
                    td.who { (event.machine.as_deref().unwrap_or("")) }
                    td.what { (event.kind) }
                }
            }
        }
    }
}

fn class(event: &Event) -> &'static str {
    match event.kind.level() {
        Level::Detail => "detail",
        Level::Step => "step",
        Level::Fault => "fault",
        Level::Failure => "failure",
    }
}

/// A lane per machine, a mark per event.
fn picture(cluster: &ClusterState) -> Markup {
    let mut lanes: Vec<&str> = vec!["cluster"];
    for event in &cluster.events {
        let machine = event.machine.as_deref().unwrap_or("cluster");
        if !lanes.contains(&machine) {
            lanes.push(machine);
        }
    }
    lanes.truncate(LANES);
    let end = cluster
        .events
        .last()
        .map_or(0.0, |event| event.at.as_secs_f64());
    let end = end.max(1e-3);
    let height = lanes.len() * ROW + 30;
    let bottom = lanes.len() * ROW + 6;
    let x = |seconds: f64| {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a picture is no 2^52 pixels wide"
        )]
        let room = (WIDTH - LEFT - 30) as f64;
        format!("{:.1}", LEFT as f64 + seconds / end * room)
    };
    // Failures last, so that nothing hides them.
    let mut events: Vec<&Arc<Event>> = cluster.events.iter().collect();
    events.sort_by_key(|event| event.kind.level());
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height) role="img"
            aria-label="Events of every machine over time" {
            @for (row, lane) in lanes.iter().enumerate() {
                @let y = row * ROW + 16;
                text.small x=(LEFT - 12) y=(y + 4) text-anchor="end" { (shorten(lane)) }
                line.lane x1=(LEFT) x2=(WIDTH - 20) y1=(y) y2=(y) {}
            }
            @for event in events {
                @let machine = event.machine.as_deref().unwrap_or("cluster");
                @if let Some(row) = lanes.iter().position(|lane| *lane == machine) {
                    @let level = event.kind.level();
                    circle class=(format!("mark-{}", class(event))) cx=(x(event.at.as_secs_f64()))
                        cy=(row * ROW + 16) r=(if level > Level::Step { "5" } else { "3.5" }) {
                        title { (event) }
                    }
                }
            }
            @for tick in 0..=4_u8 {
                @let seconds = end * f64::from(tick) / 4.0;
                text.small x=(x(seconds)) y=(bottom + 16) text-anchor=(if tick == 4 { "end" } else { "middle" }) {
                    (format!("{seconds:.3} s"))
                }
            }
        }
    }
}

fn shorten(name: &str) -> String {
    const MAX: usize = 20;
    match name.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
