//! A timeline as text.

use std::fmt::{self, Display};
use std::time::Duration;

use super::report::{Mark, Outage, Outages, PairOutages};
use crate::backlog;

/// Characters of a strip.
pub(super) const STRIP: usize = 72;
/// Outages of a pair that are told one by one.
const TOLD: usize = 12;
/// Marks that are told, and errors of a pair.
const MARKS: usize = 26;
const ERRORS: usize = 3;

/// ```text
/// timeline of 2 pairs by ping every 1 ms for 3.204 s: 12 of 6408 lost
///   A +0.512 s n1: agent killed
///              A
/// p1 → p2: 3204 sent, 12 lost, longest round trip 1.2 ms, longest gap 1.4 ms
///   |···········x····························|
///   outage +0.523 s for 12.0 ms (at least 11.0 ms), 12 lost, 11.2 ms after A
/// p2 → p1: 3204 sent, none lost, longest round trip 0.9 ms, longest gap 1.4 ms
/// ```
impl Display for Outages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pairs, lost) = (self.pairs.len(), self.lost());
        let plural = if pairs == 1 { "" } else { "s" };
        write!(f, "timeline of {pairs} pair{plural} by {}", self.protocol)?;
        write!(f, " every {} for {}", ms(self.interval), s(self.duration))?;
        writeln!(f, ": {lost} of {} lost", self.sent())?;
        for (index, mark) in self.marks.iter().enumerate().take(MARKS) {
            writeln!(f, "  {} +{} {}", letter(index), s(mark.at), mark.text)?;
        }
        if self.marks.len() > MARKS {
            writeln!(f, "  … and {} more", self.marks.len() - MARKS)?;
        }
        if let Some(told) = backlog::told(self.backlog_dropped) {
            writeln!(f, "  {told}")?;
        }
        for pair in &self.pairs {
            self.tell(pair, f)?;
        }
        Ok(())
    }
}

impl Outages {
    fn tell(&self, pair: &PairOutages, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} sent", pair.name(), pair.sent)?;
        match pair.lost {
            0 => write!(f, ", none lost")?,
            lost => write!(f, ", {lost} lost")?,
        }
        let counts = [
            (pair.duplicates, "twice"),
            (pair.reordered, "out of order"),
            (pair.skipped, "skipped for want of processor time"),
            (pair.overflowed, "answers lost in the timeline's own socket"),
        ];
        for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        let (rtt, gap) = (ms(pair.longest_rtt), ms(pair.longest_gap));
        writeln!(f, ", longest round trip {rtt}, longest gap {gap}")?;
        for (error, count) in pair.errors.iter().take(ERRORS) {
            writeln!(f, "  told {count} times: {error}")?;
        }
        if pair.outages.is_empty() {
            return Ok(());
        }
        let marks = marks_above(&self.marks, self.duration);
        if !marks.is_empty() {
            writeln!(f, "   {marks}")?;
        }
        let strip: String = pair.strip.iter().map(|part| glyph(*part)).collect();
        writeln!(f, "  |{strip}|")?;
        for outage in pair.outages.iter().take(TOLD) {
            self.tell_outage(outage, f)?;
        }
        let more = pair.outages.iter().skip(TOLD);
        let (count, lost) = more.fold((0, 0), |(count, lost), o| (count + 1, lost + o.lost));
        match count {
            0 => Ok(()),
            count => writeln!(f, "  … and {count} more outages with {lost} lost"),
        }
    }

    fn tell_outage(&self, outage: &Outage, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, least) = (ms(outage.length), ms(outage.at_least));
        write!(f, "  outage +{} for {length}", s(outage.start))?;
        match outage.ended {
            true if outage.lost > 1 => write!(f, " (at least {least})")?,
            true => {}
            false => write!(f, " until the end")?,
        }
        write!(f, ", {} lost", outage.lost)?;
        let mark = outage.after.and_then(|at| Some((at, self.marks.get(at)?)));
        match mark {
            Some((at, mark)) => {
                let after = ms(outage.start.saturating_sub(mark.at));
                writeln!(f, ", {after} after {}", letter(at))
            }
            None => writeln!(f),
        }
    }
}

/// Answered, partly, or not at all; nothing where nothing was sent.
fn glyph((sent, lost): (u32, u32)) -> char {
    match (sent, lost) {
        (0, _) => ' ',
        (_, 0) => '·',
        (sent, lost) if sent == lost => '#',
        _ => 'x',
    }
}

/// The letters of the marks at their places above a strip.
fn marks_above(marks: &[Mark], duration: Duration) -> String {
    let mut line = vec![' '; STRIP];
    for (index, mark) in marks.iter().enumerate().take(MARKS) {
        if let Some(place) = line.get_mut(place(mark.at, duration)) {
            // Of several at one place the first, unless that is a letter already.
            if *place == ' ' {
                *place = letter(index);
            }
        }
    }
    let line: String = line.into_iter().collect();
    line.trim_end().to_owned()
}

/// The part of a strip in which a time lies.
pub(super) fn place(at: Duration, duration: Duration) -> usize {
    let share = at.as_secs_f64() / duration.as_secs_f64().max(f64::MIN_POSITIVE);
    // In range after the clamp; a time after the end belongs to the last part.
    ((share * STRIP as f64) as usize).min(STRIP - 1)
}

fn letter(index: usize) -> char {
    let letter = u8::try_from(index)
        .ok()
        .and_then(|index| b'A'.checked_add(index));
    letter.map_or('?', char::from)
}

fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms < 10.0 && ms.fract() != 0.0 {
        true => format!("{ms:.3} ms"),
        false => format!("{ms:.1} ms"),
    }
}

fn s(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}
