//! The packets of the pair as a sequence diagram: a lane per device, a row per sighting.

use maud::{Markup, html};

use super::not_collected;
use crate::bundle::Item;
use crate::bundle::model::{Header, HopState, PairState, TraceState};
use crate::trace::Leg;

const LEFT: usize = 66;
const HEAD: usize = 52;
const ROW: usize = 30;
const NARROWEST_LANE: usize = 102;
const WIDTH: usize = 1196;
/// More sightings than that are a flood, not a sequence.
const ROWS: usize = 60;
/// Letters of the label's font per pixel, on the safe side.
const LETTER: usize = 7;

/// `number` tells the ids of several clusters apart.
pub(super) fn section(pair: &PairState, number: u64) -> Markup {
    let trace = match &pair.trace {
        Item::Value(trace) => trace,
        Item::Error(error) => return html! { p { (not_collected("trace", error)) } },
    };
    html! {
        p.soft {
            // More than one line is a table or a drawing, which stands above as it is.
            "In the test: " (pair.failure.lines().next().unwrap_or_default()) ". Asked once more, before any fault was healed: "
            (trace.outcome) "."
        }
        div.scroll tabindex="0" { (diagram(trace, number)) }
        @if trace.hops.len() > ROWS {
            p.soft { (trace.hops.len() - ROWS) " more sightings are in capture.pcapng." }
        }
        details {
            summary { "The same as text, with every decision" }
            pre { (trace.text) }
        }
    }
}

/// Where everything is.
struct Layout<'a> {
    lanes: &'a [String],
    lane_width: usize,
    rows: usize,
}

impl Layout<'_> {
    fn x(&self, lane: usize) -> usize {
        LEFT + lane * self.lane_width + self.lane_width / 2
    }

    fn y(row: usize) -> usize {
        HEAD + row * ROW + ROW / 2 + 8
    }

    fn width(&self) -> usize {
        LEFT + self.lanes.len() * self.lane_width + 8
    }

    fn height(&self) -> usize {
        HEAD + self.rows * ROW + 20
    }

    fn lane(&self, tap: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane == tap)
    }
}

fn diagram(trace: &TraceState, number: u64) -> Markup {
    let hops: Vec<&HopState> = trace.hops.iter().take(ROWS).collect();
    let lost = lost_line(trace);
    let count = trace.taps.len().max(1);
    let layout = Layout {
        lanes: &trace.taps,
        lane_width: ((WIDTH - LEFT) / count).clamp(NARROWEST_LANE, 240),
        rows: hops.len() + usize::from(lost.is_some()),
    };
    let (width, height) = (layout.width(), layout.height());
    // A row after the last one of its leg tells of the loss.
    let lost_row = lost
        .as_ref()
        .map(|(_, _, after)| after.map_or(0, |after| after + 1));
    let row_of = |index: usize| match lost_row {
        Some(lost) if index >= lost => index + 1,
        _ => index,
    };
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height)
            role="img" aria-labelledby=(format!("sequence-{number} sequence-text-{number}")) {
            title id=(format!("sequence-{number}")) { "Sequence of the packets of the pair" }
            desc id=(format!("sequence-text-{number}")) { (trace.verdict) ": " (trace.diagnosis) }
            (heads(&layout, trace))
            // Lines first: the labels lie over them.
            @for (index, hop) in hops.iter().enumerate() {
                @let astray = trace.wrong == Some(hop.leg) && lost_row.is_some_and(|lost| index >= lost);
                (step(&layout, &hops[..index], hop, astray, row_of(index), &row_of))
            }
            @for (index, hop) in hops.iter().enumerate() {
                @let astray = trace.wrong == Some(hop.leg) && lost_row.is_some_and(|lost| index >= lost);
                (sighting(&layout, hop, astray, row_of(index)))
            }
            @if let (Some((from, to, _)), Some(row)) = (&lost, lost_row) {
                (loss(&layout, *from, *to, row))
            }
        }
    }
}

/// Names of machines over their neighbouring lanes, devices below, and the lanes.
fn heads(layout: &Layout<'_>, trace: &TraceState) -> Markup {
    let split: Vec<(&str, &str)> = layout
        .lanes
        .iter()
        .map(|lane| lane.split_once('/').unwrap_or((lane, "")))
        .collect();
    let missing = trace
        .stretch
        .as_ref()
        .and_then(|stretch| stretch.before.as_ref());
    let missing = missing.map(ToString::to_string);
    let mut groups: Vec<(&str, usize, usize)> = Vec::new();
    for (lane, (machine, _)) in split.iter().enumerate() {
        match groups.last_mut() {
            Some((name, _, last)) if name == machine => *last = lane,
            _ => groups.push((machine, lane, lane)),
        }
    }
    let bottom = layout.height() - 6;
    html! {
        @for (machine, first, last) in &groups {
            @let left = layout.x(*first) - layout.lane_width / 2 + 3;
            @let right = layout.x(*last) + layout.lane_width / 2 - 3;
            rect.head x=(left) y="2" width=(right - left) height="44" rx="6" {}
            text.strong x=((left + right) / 2) y="20" text-anchor="middle" { (machine) }
        }
        @for (lane, (_, device)) in split.iter().enumerate() {
            @let x = layout.x(lane);
            @let bad = missing.as_ref() == Some(&layout.lanes[lane]);
            // A long name is squeezed rather than run into its neighbour.
            @let room = layout.lane_width - 10;
            @let squeezed = (device.chars().count() * LETTER > room).then_some(room);
            text.mono x=(x) y="38" text-anchor="middle" textLength=[squeezed]
                lengthAdjust=[squeezed.map(|_| "spacingAndGlyphs")] { (device) }
            line class=(if bad { "lane bad" } else { "lane" }) x1=(x) x2=(x) y1="48" y2=(bottom) {}
        }
    }
}

/// The line from where it was seen before.
fn step(
    layout: &Layout<'_>,
    before: &[&HopState],
    hop: &HopState,
    astray: bool,
    row: usize,
    row_of: &dyn Fn(usize) -> usize,
) -> Markup {
    let last = before.iter().rposition(|earlier| earlier.leg == hop.leg);
    let from = last.and_then(|index| {
        let lane = layout.lane(&before[index].tap)?;
        Some((layout.x(lane), Layout::y(row_of(index))))
    });
    html! {
        @if let (Some((from_x, from_y)), Some(lane)) = (from, layout.lane(&hop.tap)) {
            line class=(classes(hop, astray).0) x1=(from_x) y1=(from_y)
                x2=(layout.x(lane)) y2=(Layout::y(row)) {}
        }
    }
}

fn sighting(layout: &Layout<'_>, hop: &HopState, astray: bool, row: usize) -> Markup {
    let Some(lane) = layout.lane(&hop.tap) else {
        return html! {};
    };
    let (x, y) = (layout.x(lane), Layout::y(row));
    html! {
        circle class=(classes(hop, astray).1) cx=(x) cy=(y) r="5" { title { (hop.text) } }
        text.small x=(LEFT - 14) y=(y + 4) text-anchor="end" { (microseconds(hop.at_ns)) }
        (label(layout, x, y, &headers(hop), ""))
    }
}

/// Of a line and of the dot at its end.
fn classes(hop: &HopState, astray: bool) -> (&'static str, &'static str) {
    match hop.leg {
        _ if hop.is_error => ("lost", "dot-error"),
        _ if astray => ("astray", "dot-astray"),
        Leg::There => ("there", "dot-there"),
        Leg::Back => ("back", "dot-back"),
    }
}

/// A label beside a dot, on the side where there is room.
fn label(layout: &Layout<'_>, x: usize, y: usize, text: &str, class: &str) -> Markup {
    let length = text.chars().count() * LETTER;
    let to_right = x + 12 + length <= layout.width() || x < layout.width() / 2;
    let (start, anchor) = if to_right {
        (x + 11, "start")
    } else {
        (x - 11, "end")
    };
    let left = if to_right {
        start - 3
    } else {
        (start + 3).saturating_sub(length + 6)
    };
    html! {
        rect.plate x=(left) y=(y - 9) width=(length + 6) height="18" rx="3" {}
        text class=(format!("mono {class}")) x=(start) y=(y + 4) text-anchor=(anchor) { (text) }
    }
}

fn loss(layout: &Layout<'_>, from: Option<usize>, to: Option<usize>, row: usize) -> Markup {
    let y = Layout::y(row);
    let start = from.map(|lane| layout.x(lane));
    // Behind the last device: a little further on.
    let end = to.map(|lane| layout.x(lane));
    let (start, end) = match (start, end) {
        (Some(start), Some(end)) => (start, end),
        (Some(start), None) => (start, (start + 60).min(layout.width() - 12)),
        (None, Some(end)) => (end.saturating_sub(60), end),
        (None, None) => return html! {},
    };
    // The cross stands before the lane at which the packet is missed.
    let x = if end > start {
        end - (end - start).min(28) / 2 - 6
    } else {
        end + (start - end).min(28) / 2 + 6
    };
    html! {
        line.lost x1=(start) x2=(end) y1=(y) y2=(y) {}
        line.cross x1=(x - 7) x2=(x + 7) y1=(y - 7) y2=(y + 7) {}
        line.cross x1=(x - 7) x2=(x + 7) y1=(y + 7) y2=(y - 7) {}
        (label(layout, end.max(start), y, "went wrong here", "badtext"))
    }
}

/// From which lane to which a packet went missing, and after which sighting.
fn lost_line(trace: &TraceState) -> Option<(Option<usize>, Option<usize>, Option<usize>)> {
    let leg = trace.wrong?;
    let stretch = trace.stretch.as_ref()?;
    let lane = |point: &crate::trace::Point| {
        let name = point.to_string();
        trace.taps.iter().position(|tap| *tap == name)
    };
    let from = stretch.after.as_ref().and_then(lane);
    let to = stretch.before.as_ref().and_then(lane);
    let after = stretch.after.as_ref().map(ToString::to_string);
    // Devices of the same machine that lie between the two have seen it before it was lost, too.
    let machine = |tap: &str| tap.split('/').next().map(str::to_owned);
    let own = after.as_deref().and_then(machine);
    let behind = |tap: &str| {
        let lane = trace.taps.iter().position(|lane| lane == tap);
        machine(tap) == own && lane > from && to.is_some_and(|to| lane < Some(to))
    };
    let row =
        trace.hops.iter().take(ROWS).rposition(|hop| {
            hop.leg == leg && (Some(&hop.tap) == after.as_ref() || behind(&hop.tap))
        });
    Some((from, to, row))
}

fn microseconds(nanoseconds: u64) -> String {
    format!("{} µs", nanoseconds / 1000)
}

/// `10.0.0.2 → 10.0.0.3 [192.168.1.2 → 192.168.2.2] ttl 63`.
fn headers(hop: &HopState) -> String {
    let one = |header: &Header| format!("{} → {}", header.source, header.destination);
    let mut texts = hop.headers.iter().map(one);
    let mut text = texts.next().unwrap_or_else(|| hop.text.clone());
    for inner in texts {
        text += &format!(" [{inner}]");
    }
    if let Some(inner) = hop.headers.last() {
        text += &format!(" ttl {}", inner.ttl);
    }
    if hop.is_error {
        text += " ICMP error";
    }
    if !hop.addressed {
        text += " (flooded)";
    }
    text
}
