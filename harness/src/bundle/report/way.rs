//! The way of a probe as a strip of stops: how far it came, and where it did not come.

use maud::{Markup, html};

use crate::bundle::model::TraceState;
use crate::trace::Leg;

/// How a stop of the way stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The packet was seen here.
    Seen,
    /// Here it was seen last, or as it should be last.
    Last,
    /// Here it should have been seen next.
    Missing,
    /// Nothing came that far.
    Never,
    /// It was not seen, and went on all the same.
    PassedBy,
    /// It was seen, but after it had gone wrong.
    Astray,
}

/// The way there, and the way back when something was wrong there.
pub(super) fn strips(trace: &TraceState) -> Markup {
    let leg = trace.wrong.unwrap_or(Leg::There);
    let stops = stops(trace, leg);
    html! {
        @if leg == Leg::Back {
            p.soft { "The request arrived. The way of the answer:" }
        }
        (strip(&stops))
        @if trace.wrong.is_some() {
            p.legend aria-hidden="true" {
                span { i style="background:var(--good-fill);border-color:var(--good)" {} "seen" }
                span { i style="border-color:var(--bad)" {} "seen last" }
                span {
                    i style="background:var(--bad-fill);border-color:var(--bad);border-style:dashed" {}
                    "went wrong before this"
                }
                @if stops.iter().any(|(_, stop)| *stop == Stop::Astray) {
                    span {
                        i style="background:var(--warn-fill);border-color:var(--warn)" {}
                        "seen, but astray"
                    }
                }
                @if stops.iter().any(|(_, stop)| *stop == Stop::Never) {
                    span { i style="border-color:var(--soft);border-style:dashed" {} "never reached" }
                }
            }
        }
    }
}

fn strip(stops: &[(String, Stop)]) -> Markup {
    html! {
        ol.way aria-label="The way of the packet, device by device" {
            @for (index, (tap, stop)) in stops.iter().enumerate() {
                @let (machine, device) = tap.split_once('/').unwrap_or((tap.as_str(), ""));
                li class=(stop.class()) {
                    @if index > 0 {
                        @match stop {
                            Stop::Missing => span.arrow.lost aria-label="lost here" { "✕" },
                            _ => span.arrow aria-hidden="true" { "→" },
                        }
                    }
                    span.stop title=(stop.words()) { b { (machine) } span { (device) } }
                }
                // Behind the last place of the way nothing is missing that could be shown.
                @if *stop == Stop::Last && index + 1 == stops.len() {
                    li { span.arrow.lost aria-label="lost here" { "✕" } }
                }
            }
        }
    }
}

/// Every stop of the way in the order of the leg.
pub(super) fn stops(trace: &TraceState, leg: Leg) -> Vec<(String, Stop)> {
    let mut taps = trace.taps.clone();
    if leg == Leg::Back {
        taps.reverse();
    }
    let seen = |tap: &String| {
        let mut hops = trace.hops.iter().filter(|hop| hop.leg == leg);
        hops.any(|hop| hop.tap == *tap)
    };
    let is_wrong = trace.wrong == Some(leg);
    let stretch = trace.stretch.as_ref().filter(|_| is_wrong);
    let after = stretch
        .and_then(|s| s.after.as_ref())
        .map(ToString::to_string);
    let before = stretch
        .and_then(|s| s.before.as_ref())
        .map(ToString::to_string);
    let missing = taps.iter().position(|tap| Some(tap) == before.as_ref());
    let furthest = taps.iter().rposition(seen);
    let stops = taps.iter().enumerate().map(|(place, tap)| {
        let stop = if Some(tap) == before.as_ref() {
            Stop::Missing
        } else if Some(tap) == after.as_ref() {
            Stop::Last
        } else if seen(tap) && missing.is_some_and(|missing| place > missing) {
            Stop::Astray
        } else if seen(tap) {
            Stop::Seen
        } else if furthest.is_some_and(|furthest| place < furthest) {
            Stop::PassedBy
        } else {
            Stop::Never
        };
        (tap.clone(), stop)
    });
    stops.collect()
}

impl Stop {
    fn class(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Last => "seen last",
            Self::Missing => "missing",
            Self::Never => "never",
            Self::PassedBy => "passed-by",
            Self::Astray => "astray",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Seen => "the packet was seen here",
            Self::Last => "the packet was seen here last, as it should be",
            Self::Missing => "it went wrong before this device",
            Self::Never => "nothing came this far",
            Self::PassedBy => "not seen here",
            Self::Astray => "seen here after it had gone wrong",
        }
    }
}
