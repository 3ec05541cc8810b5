//! `podlab-agent status`: desired and actual state side by side, without changing anything.
//!
//! A whole pass is done on a [`Replica`] of the kernel: what is there before it is the actual
//! state, what is there after it the desired one. What a replica cannot hold, the packet filter
//! and what a backend keeps to itself, these two compare themselves.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::replica::{Replica, route_key};
use crate::apply::{self, Newcomers, PROTOCOL, Pass, Report};
use crate::compare::Row;
use crate::datastore::{Store, check};
use crate::desired::Desired;
use crate::encap::{self, Choice, EncapError, Encapsulation, TUNNEL, TunnelSpec};
use crate::failure::Failure;
use crate::filter::{self, Filter, Ruleset, TABLE};
use crate::mtu_file;
use crate::netlink::Kernel;
use crate::platform::{Link, LinkChange, Links, MAIN_TABLE, NewLink, Platform, Route, RouteKind};
use crate::report;

/// Something differs. The other exit codes are those of every command.
const DIFFERENT: u8 = 1;

/// Prints the comparison for a node.
///
/// # Errors
/// When the datastore or the kernel cannot be read.
pub(crate) fn print(
    datastore: &Path,
    node: &str,
    encap: Choice,
    mtu_file: Option<&Path>,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let store = Store::open(datastore, node).map_err(Failure::bad_input)?;
    let desired = Desired::compute(store.snapshot(), node).map_err(Failure::bad_input)?;
    let mut kernel = Kernel::new().map_err(Failure::missing)?;
    let backend = encap::present(encap, &mut kernel).map_err(Failure::missing)?;
    let mut comparison = Comparison::new(&desired, &mut kernel, backend, "/proc/sys".into())
        .map_err(Failure::missing)?;
    let faults = check(store.snapshot());
    let faults = faults.iter().map(|fault| format!("datastore: {fault}"));
    let broken = store.complaints().into_iter();
    let broken = broken.map(|complaint| format!("datastore: {complaint}"));
    comparison.notes.extend(faults.chain(broken));
    if let Some(path) = mtu_file {
        comparison.mtu(mtu_file::read(path));
    }
    if as_json {
        println!("{:#}", comparison.json(node));
    } else {
        print!("{}", comparison.text(node));
    }
    Ok(match comparison.is_equal() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DIFFERENT),
    })
}

#[derive(Debug)]
struct Comparison {
    /// Name of the backend that was looked at.
    backend: &'static str,
    /// The MTU of pods that are wired from now on.
    pod_mtu: Option<u32>,
    rows: Vec<Row>,
    /// What no object shows: what cannot be desired yet, what stands in the way.
    notes: Vec<String>,
}

impl Comparison {
    fn new(
        desired: &Desired,
        platform: &mut dyn Platform,
        backend: Box<dyn Encapsulation>,
        proc_sys: PathBuf,
    ) -> Result<Self, crate::platform::KernelError> {
        let mut tunnel = AnyTunnel {
            backend,
            compared: Ok(Vec::new()),
        };
        let before = Replica::of(platform, proc_sys)?;
        let mut after = before.clone();
        let pass = Pass {
            thorough: false,
            now: Instant::now(),
            // What the agent may leave alone for some seconds yet is not desired, either.
            newcomers: &mut Newcomers::new(Duration::ZERO),
        };
        let report = apply::sync(
            &mut after,
            &mut tunnel,
            &mut Filter::default(),
            desired,
            pass,
        )?;
        let mut rows = rows(&before, &after, desired);
        let pod_mtu = report.pod_mtu;
        let mut notes = notes(report);
        match tunnel.compared {
            Ok(compared) => rows.extend(compared),
            Err(error) => notes.push(report::line(&error)),
        }
        match platform.list(TABLE) {
            Ok(table) => rows.extend(filter::compare(&Ruleset::new(desired), table.as_deref())),
            Err(error) => notes.push(report::line(&error)),
        }
        Ok(Self {
            backend: tunnel.backend.name(),
            pod_mtu,
            rows,
            notes,
        })
    }

    /// What the file for those who wire pods says.
    fn mtu(&mut self, actual: Option<u32>) {
        let text = |mtu: u32| format!("pod mtu {mtu}");
        self.rows.push(Row {
            desired: self.pod_mtu.map(text),
            actual: actual.map(text),
        });
    }

    fn is_equal(&self) -> bool {
        self.notes.is_empty() && !self.rows.iter().any(Row::differs)
    }

    fn text(&self, node: &str) -> String {
        const NOTHING: &str = "-";
        let (number, different) = (
            self.rows.len(),
            self.rows.iter().filter(|r| r.differs()).count(),
        );
        let mut text = match different {
            0 => format!("node {node}: all {number} objects are as desired\n"),
            _ => format!("node {node}: {different} of {number} objects differ\n"),
        };
        let mtu = self.pod_mtu.map(|mtu| format!(", pod mtu {mtu}"));
        text += &format!(
            "encapsulation {}{}\n",
            self.backend,
            mtu.unwrap_or_default()
        );
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| NOTHING.to_owned());
        let width = self.rows.iter().map(|row| side(&row.desired).len()).max();
        let width = width.unwrap_or(0).max("desired".len());
        let mut line = |mark: &str, desired: &str, actual: &str| {
            // Writing into a string does not fail.
            writeln!(text, "{mark} {desired:width$}  {actual}").ok();
        };
        line(" ", "desired", "actual");
        for row in &self.rows {
            let mark = if row.differs() { "!" } else { " " };
            line(mark, &side(&row.desired), &side(&row.actual));
        }
        for note in &self.notes {
            writeln!(text, "! {note}").ok();
        }
        text
    }

    fn json(&self, node: &str) -> Value {
        let object = |row: &Row| {
            json!({
                "desired": row.desired,
                "actual": row.actual,
                "equal": !row.differs(),
            })
        };
        json!({
            "node": node,
            "encapsulation": self.backend,
            "pod_mtu": self.pod_mtu,
            "equal": self.is_equal(),
            "objects": self.rows.iter().map(object).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn notes(report: Report) -> Vec<String> {
    let waiting = report
        .pods_waiting
        .iter()
        .map(|interface| format!("pod interface {interface} is missing or down"));
    let conflicts = report
        .conflicts
        .iter()
        .map(|route| format!("an administrator's route is in the place of one of ours: {route}"));
    report
        .not_ready
        .iter()
        .cloned()
        .chain(waiting)
        .chain(conflicts)
        .chain(report.errors.iter().cloned())
        .collect()
}

/// The objects that are ours, before or after, and whatever else a pass would change.
fn rows(before: &Replica, after: &Replica, desired: &Desired) -> Vec<Row> {
    let name = |index: u32| {
        let links = after.links.iter().chain(&before.links);
        let mut names = links.filter(|link| link.index == index);
        let name = names.next().map(|link| link.name.clone());
        name.unwrap_or_else(|| format!("#{index}"))
    };
    let mut rows = Vec::new();
    let [actual, wanted] = [before, after].map(|state| state.link(TUNNEL).map(tunnel));
    rows.push(Row {
        desired: wanted,
        actual,
    });
    rows.extend(pair(
        &before.addresses,
        &after.addresses,
        |address| *address,
        |address| name(address.interface) == TUNNEL,
        |address| {
            format!(
                "address {} dev {}",
                address.address,
                name(address.interface)
            )
        },
    ));
    rows.extend(pair(
        &before.routes,
        &after.routes,
        route_key,
        |route| route.protocol == PROTOCOL,
        |route| route_text(route, name),
    ));
    rows.extend(pair(
        &before.neighbours,
        &after.neighbours,
        |neighbour| (neighbour.interface, neighbour.address),
        |neighbour| desired.interfaces.contains(&name(neighbour.interface)),
        |n| {
            format!(
                "neighbour {} lladdr {} dev {}",
                n.address,
                n.mac,
                name(n.interface)
            )
        },
    ));
    rows.extend(after.sysctls.iter().map(|(path, (actual, desired))| {
        let text = |value: &str| Some(format!("sysctl {}={value}", path.replace('/', ".")));
        Row {
            desired: text(desired),
            actual: text(actual),
        }
    }));
    rows
}

/// What has the same key stands on the same row.
fn pair<T: PartialEq, K: Ord>(
    before: &[T],
    after: &[T],
    key: impl Fn(&T) -> K,
    ours: impl Fn(&T) -> bool,
    text: impl Fn(&T) -> String,
) -> Vec<Row> {
    let keys: BTreeSet<K> = before.iter().chain(after).map(&key).collect();
    let with = |list: &'_ [T], wanted: &K| list.iter().position(|item| key(item) == *wanted);
    let row = |wanted: K| {
        let actual = with(before, &wanted).map(|i| &before[i]);
        let desired = with(after, &wanted).map(|i| &after[i]);
        let shown = actual != desired || actual.is_some_and(&ours) || desired.is_some_and(&ours);
        shown.then(|| Row {
            desired: desired.map(&text),
            actual: actual.map(&text),
        })
    };
    keys.into_iter().filter_map(row).collect()
}

fn tunnel(link: &Link) -> String {
    let state = if link.up { "up" } else { "down" };
    format!("link {} mtu {} {state}", link.name, link.mtu)
}

/// As `ip route` writes it, with everything that a pass compares.
pub(super) fn route_text(route: &Route, name: impl Fn(u32) -> String) -> String {
    let kind = match route.kind {
        RouteKind::Unicast => "",
        RouteKind::Blackhole => "blackhole ",
        RouteKind::Other => "special ",
    };
    let mut text = format!("route {kind}{}", route.destination);
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            write!(text, " {word} {value}").ok();
        }
    };
    add("via", route.gateway.map(|gateway| gateway.to_string()));
    add("dev", route.interface.map(name));
    add("proto", Some(route.protocol.to_string()));
    add("scope", route.link_scope.then(|| "link".to_owned()));
    add(
        "metric",
        (route.metric != 0).then(|| route.metric.to_string()),
    );
    add("tos", (route.tos != 0).then(|| route.tos.to_string()));
    add("mtu", route.mtu.map(|mtu| mtu.to_string()));
    let table = (route.table != MAIN_TABLE).then(|| route.table.to_string());
    add("table", table);
    let flags = [(route.onlink, " onlink"), (route.extras, " …")];
    flags
        .iter()
        .filter(|(set, _)| *set)
        .for_each(|(_, word)| text.push_str(word));
    text
}

/// What every backend makes: [`TUNNEL`] with the right MTU, up. How, only they know; what the one
/// at work has to say is kept.
struct AnyTunnel {
    backend: Box<dyn Encapsulation>,
    compared: Result<Vec<Row>, EncapError>,
}

impl Encapsulation for AnyTunnel {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn look(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        self.backend.look(platform)
    }

    fn prepare(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        self.backend.look(platform)
    }

    fn is_at_work(&mut self, links: &[Link], platform: &mut dyn Platform) -> bool {
        self.backend.is_at_work(links, platform)
    }

    fn compare(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<Vec<Row>, EncapError> {
        self.backend.compare(spec, links, platform)
    }

    fn ensure(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        self.compared = self.backend.compare(spec, links, platform);
        let tunnel = |links: &[Link]| links.iter().find(|link| link.name == TUNNEL).cloned();
        let link = match tunnel(links) {
            Some(link) => Some(link),
            None => {
                let name = TUNNEL.to_owned();
                platform.create(&NewLink::Ipip { name })?;
                tunnel(&platform.links()?)
            }
        };
        let Some(link) = link else {
            return Ok(true);
        };
        let change = LinkChange {
            mtu: Some(spec.mtu),
            up: Some(true),
            ..LinkChange::default()
        };
        Links::change(platform, link.index, &change)?;
        Ok(true)
    }

    fn withdraw(
        &mut self,
        _underlay: &Link,
        _links: &[Link],
        _platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
