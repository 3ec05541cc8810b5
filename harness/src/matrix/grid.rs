//! A matrix as text: the grid, and what is wrong in it.

use std::fmt::{self, Display};

use super::result::TOLD;
use super::{Check, Matrix};

/// Rows and columns of a grid that still can be read.
const READABLE: usize = 24;
/// Characters of a line that still can be read: with more, columns have numbers for names.
const WIDE: usize = 110;

/// ```text
/// matrix of 6 pairs by icmp 56, tcp 56: 2 of 12 wrong after 9 rounds in 10.2 s
///            p1   p2   p3
///      p1          ok  ✗ 2
///      p2    ok        ok
///      p3    ok   --
///   ok as expected, reachable   -- as expected, unreachable   ✗ n wrong answers
/// p1 → p3: icmp 56, tcp 56
///   expected  reachable, source 192.168.1.5, ttl 62
///   actual    no answer: timed out (ping 192.168.3.5: no answer to icmp_seq=1 within 500ms)
///   differs   lost, in 9 of 9 rounds
/// ```
impl Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = self.wrong().count();
        let (all, rounds) = (self.checks.len(), self.rounds);
        write!(f, "{}: ", self.title())?;
        match (wrong, self.stable) {
            (0, _) => write!(f, "all {all} answers as expected")?,
            (_, true) => write!(f, "all {all} answers as expected in the end")?,
            (_, false) => write!(f, "{wrong} of {all} answers wrong")?,
        }
        let plural = if rounds == 1 { "" } else { "s" };
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, " after {rounds} round{plural} in {seconds:.2} s")?;
        self.grid(f)?;
        if self.stable {
            return Ok(());
        }
        self.pattern(f)?;
        let pairs = self.wrong_pairs();
        for (from, to) in pairs.iter().take(TOLD) {
            self.tell(from, to, f)?;
        }
        match pairs.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => writeln!(f, "… and {more} more wrong pairs"),
        }
    }
}

impl Matrix {
    fn grid(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = self.wrong_pairs();
        // Of a large matrix only what is wrong, of that no more than can be read.
        let chosen = |names: &[String], is_wrong: &dyn Fn(&str) -> bool| -> Vec<(usize, String)> {
            let large = self.from.len().max(self.to.len()) > READABLE;
            let all = names.iter().cloned().enumerate();
            let chosen = all.filter(|(_, name)| !large || is_wrong(name));
            chosen.take(READABLE).collect()
        };
        let rows = chosen(&self.from, &|name| {
            wrong.iter().any(|(from, _)| *from == name)
        });
        let columns = chosen(&self.to, &|name| wrong.iter().any(|(_, to)| *to == name));
        if rows.is_empty() || columns.is_empty() {
            return Ok(());
        }
        let named = |(index, name): &(usize, String)| format!("{} {name}", index + 1);
        let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0).max(4);
        let names = width(&mut columns.iter().map(|(_, name)| name.chars().count()));
        let row_names = width(&mut rows.iter().map(|row| named(row).chars().count()));
        let by_name = row_names + columns.len() * (names + 2) <= WIDE;
        let cell = if by_name { names } else { 5 };
        let mut line = format!("  {:row_names$}", "");
        for (index, name) in &columns {
            line.push_str(&match by_name {
                true => format!("  {name:^cell$}"),
                false => format!("  {:^cell$}", index + 1),
            });
        }
        writeln!(f, "{}", line.trim_end())?;
        for row in &rows {
            match by_name {
                true => write!(f, "  {:row_names$}", row.1)?,
                false => write!(f, "  {:row_names$}", named(row))?,
            }
            let mut line = String::new();
            for (_, to) in &columns {
                let text = mark(self.between(&row.1, to));
                line.push_str(&format!("  {text:^cell$}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        if !by_name {
            let unknown = columns.iter().filter(|(_, name)| !self.from.contains(name));
            let legend: Vec<String> = unknown.map(named).collect();
            if !legend.is_empty() {
                writeln!(f, "  columns: {}", legend.join(", "))?;
            }
        }
        let hidden = (self.from.len() - rows.len(), self.to.len() - columns.len());
        if hidden != (0, 0) {
            let (r, c) = hidden;
            writeln!(f, "  ({r} more rows and {c} more columns are not shown)")?;
        }
        writeln!(
            f,
            "  ok reachable as expected   -- unreachable as expected   ✗ wrong"
        )
    }

    /// What all wrong pairs have in common, where there are several.
    fn pattern(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.wrong_pairs();
        let [(from, to), rest @ ..] = &*pairs else {
            return Ok(());
        };
        if rest.is_empty() {
            return Ok(());
        }
        let count = pairs.len();
        if rest.iter().all(|(other, _)| other == from) {
            writeln!(f, "all {count} wrong pairs are from {from}")?;
        }
        if rest.iter().all(|(_, other)| other == to) {
            writeln!(f, "all {count} wrong pairs are to {to}")?;
        }
        Ok(())
    }

    /// What is wrong between two peers: probes with the same fault together.
    fn tell(&self, from: &str, to: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<(Vec<String>, String)> = Vec::new();
        for check in self.between(from, to).filter(|check| !check.is_right()) {
            let differences: Vec<String> = check.wrong.iter().map(ToString::to_string).collect();
            let fault = format!(
                "  expected  {}\n  actual    {}\n  differs   {}, in {} of {} rounds\n",
                check.expected,
                check.actual,
                differences.join(", "),
                check.wrong_rounds,
                self.rounds
            );
            let known = groups
                .iter_mut()
                .find(|(_, other)| comparable(other) == comparable(&fault));
            match known {
                Some((probes, _)) => probes.push(check.probe.to_string()),
                None => groups.push((vec![check.probe.to_string()], fault)),
            }
        }
        for (probes, fault) in groups {
            writeln!(f, "{from} → {to}: {}", probes.join(", "))?;
            f.write_str(&fault)?;
        }
        Ok(())
    }
}

/// Of a fault what does not differ from probe to probe: the error's own words, in parentheses, have
/// port numbers and counters.
fn comparable(fault: &str) -> String {
    let mut depth = 0_u32;
    let outside = fault.chars().filter(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    outside.collect()
}

/// A pair in four characters.
fn mark<'a>(checks: impl Iterator<Item = &'a Check>) -> String {
    let (mut all, mut wrong, mut reachable) = (0, 0, 0);
    for check in checks {
        all += 1;
        wrong += usize::from(!check.is_right());
        reachable += usize::from(check.expected.is_reachable());
    }
    match (all, wrong) {
        (0, _) => String::new(),
        (_, 0) if reachable == all => "ok".to_owned(),
        (_, 0) if reachable == 0 => "--".to_owned(),
        (_, 0) => "ok--".to_owned(),
        (1, _) => "✗".to_owned(),
        (_, wrong) => format!("✗ {wrong}"),
    }
}
