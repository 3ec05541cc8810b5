//! `report.html`: one page that needs nothing but a browser.
//!
//! Markup by [`maud`], pictures drawn as SVG with the page's own colours, no script, and no
//! reference to anything outside of the page.

mod machines;
mod matrix;
mod sequence;
mod tables;
mod timeline;
mod topology;
mod way;

#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Item;
use super::model::{Bundle, ClusterState, PairState};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn page(bundle: &Bundle) -> String {
    let several = bundle.clusters.len() > 1;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "✗ " (bundle.test) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header.top {
                    span.badge.bad { "✗ failed" }
                    h1 { (bundle.test) }
                    p.meta {
                        "attempt " (bundle.attempt) " · " (date(bundle.failed_at_ns)) " · "
                        (bundle.kernel) " · collected in " (bundle.collected_in_ms) " ms"
                    }
                    @if !several {
                        nav aria-label="Sections" {
                            a href="#packets" { "Packets" }
                            a href="#topology" { "Topology" }
                            a href="#reachability" { "Who reaches whom" }
                            a href="#timeline" { "Timeline" }
                            a href="#machines" { "Machines" }
                            a href="#datastore" { "Datastore" }
                        }
                    }
                }
                main {
                    (failure(bundle))
                    @for cluster in &bundle.clusters {
                        @if several { h2 { "Cluster " (cluster.number) } }
                        (cluster_sections(cluster))
                    }
                }
                footer {
                    "Beside this page: " code { "bundle.json" } " has the same for programs"
                    @if bundle.clusters.iter().any(|cluster| cluster.pair.is_some()) {
                        ", " code { "capture.pcapng" } " the packets of the pair"
                    }
                    "."
                }
            }
        }
    };
    markup.into_string()
}

/// What must be understood at a glance: who, where, why.
fn failure(bundle: &Bundle) -> Markup {
    let pairs = bundle
        .clusters
        .iter()
        .filter_map(|cluster| cluster.pair.as_ref());
    let faults = bundle.clusters.iter().flat_map(|cluster| &cluster.faults);
    let faults: Vec<&String> = faults.collect();
    html! {
        section.failure aria-labelledby="failure" {
            h2 #failure { "What failed" }
            @for pair in pairs { (culprit(pair)) }
            @if !faults.is_empty() {
                p {
                    span.badge.warn { "faults in force when it failed" } " "
                    @for (index, fault) in faults.iter().enumerate() {
                        @if index > 0 { "; " }
                        (fault)
                    }
                }
            }
            @for cluster in &bundle.clusters {
                @if let Some(Item::Error(error)) = &cluster.healing {
                    p.not-collected { "Not all faults could be healed: " (error) }
                }
            }
            pre.error tabindex="0" { (bundle.error.trim()) }
        }
    }
}

fn culprit(pair: &PairState) -> Markup {
    html! {
        p.diagnosis {
            span.pair {
                (pair.from) " → " (pair.to)
                @if pair.to != pair.address.to_string() { span.soft { " (" (pair.address) ")" } }
            }
            @match &pair.trace {
                Item::Value(trace) => (trace.diagnosis),
                Item::Error(error) => (not_collected("trace", error)),
            }
        }
        @if let Item::Value(trace) = &pair.trace {
            (way::strips(trace))
            @if !trace.notes.is_empty() {
                ul.notes { @for note in &trace.notes { li { (note) } } }
            }
            @for (tap, lost) in &trace.lossy_taps {
                p.not-collected {
                    "The tap at " (tap) " lost " (lost) " packets: what was not seen there may \
                     have been there."
                }
            }
        }
    }
}

fn cluster_sections(cluster: &ClusterState) -> Markup {
    html! {
        section #packets aria-labelledby="packets-title" {
            h2 #packets-title { "The packets of the pair" }
            @match cluster.pair.as_ref() {
                Some(pair) => (sequence::section(pair)),
                None => p.soft {
                    "No pair is known on which the test failed: no assertion named one, and no \
                     probe had failed last."
                },
            }
        }
        section #topology aria-labelledby="topology-title" {
            h2 #topology-title { "Topology" }
            (topology::section(cluster))
        }
        section #reachability aria-labelledby="reachability-title" {
            h2 #reachability-title { "Who reaches whom" }
            (matrix::section(cluster))
        }
        section #timeline aria-labelledby="timeline-title" {
            h2 #timeline-title { "Timeline" }
            (timeline::section(cluster))
        }
        section #machines aria-labelledby="machines-title" {
            h2 #machines-title { "Machines" }
            (machines::section(cluster))
        }
        section #datastore aria-labelledby="datastore-title" {
            h2 #datastore-title { "Datastore" }
            (machines::datastore(cluster))
        }
    }
}

/// In the place of something that could not be collected.
fn not_collected(what: &str, error: &str) -> Markup {
    html! { span.not-collected { "(" (what) " not collected: " (error) ")" } }
}

/// Seconds since 1970 as a date of the proleptic Gregorian calendar, in UTC.
fn date(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's days-to-civil: eras of 400 years that begin on the first of March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}
