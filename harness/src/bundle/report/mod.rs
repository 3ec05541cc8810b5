//! `report.html`: one page that needs nothing but a browser.
//!
//! Markup by [`maud`], pictures drawn as SVG with the page's own colours, no script, and no
//! reference to anything outside of the page.

mod machines;
mod matrix;
mod results;
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

/// Ids and names of the sections of every cluster.
const CONTENTS: [(&str, &str); 6] = [
    ("packets", "Packets"),
    ("topology", "Topology"),
    ("reachability", "Who reaches whom"),
    ("events", "Events"),
    ("machines", "Machines"),
    ("datastore", "Datastore"),
];

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
                    @for cluster in &bundle.clusters {
                        nav aria-label=(format!("Sections of cluster {}", cluster.number)) {
                            @if several { span.soft { "Cluster " (cluster.number) ":" } }
                            @for (id, title) in CONTENTS {
                                a href=(format!("#{id}-{}", cluster.number)) { (title) }
                            }
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
                    @for capture in &bundle.captures {
                        @match capture {
                            Item::Value(file) => { ", " code { (file) } " a capture of the test" }
                            Item::Error(error) => { " " (not_collected("capture", error)) }
                        }
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
            @if let Some(slow) = bundle.slow() {
                p { span.badge.warn { "slow machine" } " " (slow) }
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

/// The sections of a cluster; each has an id that ends in the number of the cluster.
fn cluster_sections(cluster: &ClusterState) -> Markup {
    html! {
        (section(cluster, "packets", "The packets of the pair", match cluster.pair.as_ref() {
            Some(pair) => sequence::section(pair, cluster.number),
            None => html! {
                p.soft {
                    "No pair is known on which the test failed: no assertion named one, and no \
                     probe had failed last."
                }
            },
        }))
        @for result in &cluster.results { (results::section(cluster, result)) }
        (section(cluster, "topology", "Topology", topology::section(cluster)))
        (section(cluster, "reachability", "Who reaches whom", matrix::section(cluster)))
        (section(cluster, "events", "Events", timeline::section(cluster)))
        (section(cluster, "machines", "Machines", machines::section(cluster)))
        (section(cluster, "datastore", "Datastore", machines::datastore(cluster)))
    }
}

fn section(cluster: &ClusterState, id: &str, title: &str, content: Markup) -> Markup {
    let id = format!("{id}-{}", cluster.number);
    html! {
        section id=(id) aria-labelledby=(format!("{id}-title")) {
            h2 id=(format!("{id}-title")) { (title) }
            (content)
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
