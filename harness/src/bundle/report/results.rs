//! Results of the test itself: its last matrix, its last timeline of probes.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;

use crate::bundle::model::ClusterState;
use crate::event::Attachment;

pub(super) fn section(cluster: &ClusterState, result: &Attachment) -> Markup {
    let title = match result.name.as_str() {
        "matrix" => "The test's last matrix".to_owned(),
        "timeline" => "The test's last timeline of probes".to_owned(),
        other => format!("The test's last {other}"),
    };
    let grid = grid(&result.value);
    super::section(
        cluster,
        &result.name,
        &title,
        html! {
            @if let Some(grid) = &grid {
                (table(grid))
                details { summary { "As it was printed" } pre { (result.text) } }
            } @else {
                pre { (result.text) }
            }
        },
    )
}

/// A matrix by its cells.
struct Grid<'a> {
    rows: Vec<&'a str>,
    columns: Vec<&'a str>,
    /// How many questions of the cell there were, and what was wrong with some.
    cells: BTreeMap<(&'a str, &'a str), (usize, Vec<String>)>,
}

/// `None` where it is no matrix, or too large for a table.
fn grid(value: &Value) -> Option<Grid<'_>> {
    const LARGEST: usize = 24;
    let names = |key: &str| -> Option<Vec<&str>> {
        let names: Vec<&str> = value[key]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        (names.len() <= LARGEST).then_some(names)
    };
    let (rows, columns) = (names("from")?, names("to")?);
    let mut cells: BTreeMap<_, (usize, Vec<String>)> = BTreeMap::new();
    for check in value["checks"].as_array()? {
        let pair = (check["from"].as_str()?, check["to"].as_str()?);
        let (count, wrong) = cells.entry(pair).or_default();
        *count += 1;
        if check["wrong"]
            .as_array()
            .is_some_and(|wrong| !wrong.is_empty())
        {
            let said = |key: &str| match &check[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            wrong.push(format!("{}: {}", said("probe"), said("wrong")));
        }
    }
    Some(Grid {
        rows,
        columns,
        cells,
    })
}

fn table(grid: &Grid<'_>) -> Markup {
    html! {
        p.soft { "From the row to the column; how many of the answers were as expected." }
        div.scroll tabindex="0" {
            table.matrix {
                tr {
                    td {}
                    @for to in &grid.columns { th scope="col" { (to) } }
                }
                @for from in &grid.rows {
                    tr {
                        th scope="row" { (from) }
                        @for to in &grid.columns { (cell(grid.cells.get(&(*from, *to)))) }
                    }
                }
            }
        }
    }
}

fn cell(cell: Option<&(usize, Vec<String>)>) -> Markup {
    html! {
        @match cell {
            None => td.self { "·" },
            Some((count, wrong)) if wrong.is_empty() => td.good { (count) " ✓" },
            Some((count, wrong)) => td.bad title=(wrong.join("\n")) {
                "✕ " (wrong.len()) " of " (count)
            },
        }
    }
}
