//! Who reaches whom, as a table.

use maud::{Markup, html};

use super::not_collected;
use crate::bundle::Item;
use crate::bundle::model::{Cell, ClusterState};

pub(super) fn section(cluster: &ClusterState) -> Markup {
    let reachability = match &cluster.reachability {
        Item::Value(reachability) => reachability,
        Item::Error(error) => return html! { p { (not_collected("matrix", error)) } },
    };
    let cells = reachability.cells.iter().flatten().flatten();
    let lost = cells
        .clone()
        .filter(|cell| matches!(cell, Cell::Lost { .. }))
        .count();
    let all = cells.count();
    html! {
        p.soft {
            @if all == 0 {
                "There are no two machines to ask."
            } @else if lost == 0 {
                "After the collection every one of " (all) " ordered pairs answered a ping."
            } @else {
                span.badge.bad { (lost) " of " (all) } " ordered pairs did not answer a ping when "
                "everything was collected"
                @if let Some(Item::Value(())) = cluster.healing { ", all faults healed" }
                "."
            }
            @if reachability.left_out > 0 {
                " " (reachability.left_out) " machines were left out."
            }
        }
        @if all > 0 {
            p.soft { "From the row to the column; the ttl of the answer." }
            div.scroll tabindex="0" {
                table.matrix {
                    tr {
                        td {}
                        @for to in &reachability.machines { th scope="col" { (to) } }
                    }
                    @for (from, row) in reachability.machines.iter().zip(&reachability.cells) {
                        tr {
                            th scope="row" { (from) }
                            @for cell in row { (one(cell.as_ref())) }
                        }
                    }
                }
            }
        }
    }
}

fn one(cell: Option<&Cell>) -> Markup {
    html! {
        @match cell {
            None => td.self { "·" },
            Some(Cell::Reached { ttl, ms }) => td.good title=(format!("{ms} ms")) { (ttl) },
            Some(Cell::Lost { why }) => td.bad title=(why) { "✕" },
        }
    }
}
