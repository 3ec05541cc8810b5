//! The page that a failed test leaves: what has to be on it, and that it needs nothing else.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::failing::{Attempt, Failing};

/// A section of the first cluster.
fn section<'a>(page: &'a str, id: &str) -> Result<&'a str> {
    let begin = format!("<section id=\"{id}-");
    let at = page.find(&begin).with_context(|| format!("no {begin}"))?;
    let end = page[at..].find("</section>").context("it does not end")?;
    Ok(&page[at..at + end])
}

/// The one picture of a section.
fn picture<'a>(page: &'a str, id: &str) -> Result<&'a str> {
    let section = section(page, id)?;
    ensure!(section.matches("<svg ").count() == 1, "{section}");
    let (begin, end) = (section.find("<svg "), section.find("</svg>"));
    let (begin, end) = begin.zip(end).context("no picture")?;
    Ok(&section[begin..end])
}

async fn partitioned() -> Result<Attempt> {
    Failing::new()?.fail("fails_with_a_fault", 1).await
}

/// A page that asks the network for anything is blank where a CI artefact is opened, and one that
/// is not whole markup shows nonsense.
#[podlab::test]
async fn the_report_needs_nothing_but_a_browser() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_by_an_error", 1).await?;
    let page = &attempt.report;
    for outside in [
        "http://", "https://", "src=", "url(", "@import", "<script", "<link",
    ] {
        ensure!(!page.contains(outside), "{outside} is in the report");
    }
    for reference in page.split("href=\"").skip(1) {
        ensure!(reference.starts_with('#'), "{}", &reference[..40]);
        let target = reference[1..].split('"').next().unwrap_or_default();
        ensure!(
            page.contains(&format!("id=\"{target}\"")),
            "#{target} leads nowhere"
        );
    }
    for wanted in [
        "prefers-color-scheme: dark",
        "lang=\"en\"",
        "viewport",
        "role=\"img\"",
    ] {
        ensure!(page.contains(wanted), "no {wanted}");
    }
    // Who, where, and the way with the place that is missing.
    ensure!(page.contains("a → b") && page.contains("class=\"missing\""));
    ensure!(
        page.matches("<svg").count() == 3,
        "sequence, topology, timeline"
    );
    for tag in ["section", "table", "svg", "details", "ol", "pre"] {
        let opened =
            page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        ensure!(
            opened == page.matches(&format!("</{tag}>")).count(),
            "<{tag}> is not closed"
        );
    }
    Ok(())
}

/// If this fails, a reader of the page does not see the cluster that failed.
#[podlab::test]
async fn the_topology_has_every_node_pod_and_link() -> Result<()> {
    let attempt = partitioned().await?;
    let picture = picture(&attempt.report, "topology")?;
    let shows = |what: &str| -> Result<()> {
        ensure!(picture.contains(what), "{what} is not in {picture}");
        Ok(())
    };
    let all = [("n1", "a"), ("n2", "b"), ("n3", "c")];
    for (number, (node, pod)) in all.into_iter().enumerate() {
        let number = number + 1;
        let port = attempt.machine(pod)?["attached_by"]
            .as_str()
            .unwrap_or_default();
        ensure!(port.starts_with("cali"), "{port}");
        shows(&format!(">{node}</text>"))?;
        shows(&format!(">10.0.0.{}</text>", number + 1))?;
        shows(&format!(">192.168.{number}.0/24</text>"))?;
        shows(&format!(">{pod}</text>"))?;
        shows(&format!(">192.168.{number}.2</text>"))?;
        shows(&format!("<title>{node}/eth0 – fabric/{node}</title>"))?;
        shows(&format!("<title>{pod}/eth0 – {node}/{port}</title>"))?;
    }
    shows(">10.0.0.1/24</text>")?;
    let links = picture.matches("class=\"wire").count();
    ensure!(links == 6, "{links} links in {picture}");
    Ok(())
}

/// If this fails, a fault is not seen beside the probes that it has made fail.
#[podlab::test]
async fn the_timeline_has_faults_and_probes() -> Result<()> {
    let attempt = partitioned().await?;
    let picture = picture(&attempt.report, "events")?;
    for lane in ["cluster", "fabric", "n1", "n2", "n3", "a", "b", "c"] {
        ensure!(
            picture.contains(&format!(">{lane}</text>")),
            "no lane {lane}: {picture}"
        );
    }
    // The class of each mark, and what it says.
    let marks: Vec<(&str, &str)> = picture
        .split("<circle class=\"mark-")
        .skip(1)
        .filter_map(|mark| {
            let title = mark.split("<title>").nth(1)?.split("</title>").next()?;
            Some((mark.split('"').next()?, title))
        })
        .collect();
    let has = |class: &str, text: &str| {
        let mut marks = marks.iter();
        marks.any(|(found, title)| *found == class && title.contains(text))
    };
    for (class, text) in [
        ("step", "cluster booted"),
        ("detail", "a: ping to 192.168.2.2 sent"),
        ("detail", "a: ping to 192.168.2.2 answered"),
        ("fault", "fault: partition at n1 ↔ n2"),
        ("failure", "a: ping to 192.168.2.2 failed"),
    ] {
        ensure!(has(class, text), "no {class} {text:?} among {marks:#?}");
    }
    let events = attempt.bundle["clusters"][0]["events"].as_array();
    ensure!(
        events.map(Vec::len) == Some(marks.len()),
        "{} marks",
        marks.len()
    );
    Ok(())
}

/// How many hops of the probe a trace has; fails unless the picture shows all of them on their way
/// there, and every answer of a machine that could not send it on as an error. Where there is time
/// for a neighbour to be given up, the sender itself answers so.
fn hops_on_their_way(picture: &str, trace: &Value) -> Result<usize> {
    let hops = trace["hops"].as_array().context("no hops")?;
    let (errors, hops): (Vec<_>, Vec<_>) = hops.iter().partition(|hop| hop["is_error"] == true);
    for (class, wanted) in [("there", hops.len()), ("error", errors.len())] {
        let dots = format!("<circle class=\"dot-{class}\"");
        let dots = picture.matches(&dots).count();
        ensure!(
            dots == wanted,
            "{dots} of {wanted} packets {class} in {picture}"
        );
    }
    Ok(hops.len())
}

/// If this fails, the diagram shows other packets than those that were seen.
#[podlab::test]
async fn the_sequence_has_every_packet_of_the_pair() -> Result<()> {
    let attempt = partitioned().await?;
    let picture = picture(&attempt.report, "packets")?;
    let trace = &attempt.bundle["clusters"][0]["pair"]["trace"]["value"];
    let hops = hops_on_their_way(picture, trace)?;
    ensure!(hops >= 5, "{trace:#}");
    for tap in trace["taps"].as_array().context("no taps")? {
        let (machine, device) = tap
            .as_str()
            .and_then(|tap| tap.split_once('/'))
            .context("a tap")?;
        for name in [machine, device] {
            ensure!(
                picture.contains(&format!(">{name}</text>")),
                "no {name} in {picture}"
            );
        }
    }
    let plain = ">192.168.1.2 → 192.168.2.2 ttl 64</text>";
    let tunnelled = ">10.0.0.2 → 10.0.0.3 [192.168.1.2 → 192.168.2.2] ttl 63</text>";
    ensure!(
        picture.contains(plain) && picture.contains(tunnelled),
        "{picture}"
    );
    // The loss comes after all of them.
    let loss = picture.find("went wrong here").context("no loss")?;
    ensure!(picture.rfind(tunnelled) < Some(loss), "{picture}");
    // Nothing that was seen before the loss is drawn as if it had been seen after it.
    ensure!(!picture.contains("astray"), "{picture}");
    Ok(())
}

/// If this fails, a device between the last good place and the first bad one on the same machine is
/// drawn as if the packet had got there in spite of its loss.
#[podlab::test]
async fn what_lies_before_the_loss_on_the_same_machine_is_not_astray() -> Result<()> {
    let attempt = Failing::new()?
        .fail("fails_with_marks_of_its_own", 1)
        .await?;
    let trace = &attempt.bundle["clusters"][0]["pair"]["trace"]["value"];
    hops_on_their_way(picture(&attempt.report, "packets")?, trace)?;
    Ok(())
}

/// If this fails, a reader has to look for the agents' words in another file.
#[podlab::test]
async fn every_node_has_the_log_of_its_agent() -> Result<()> {
    let attempt = partitioned().await?;
    let machines = section(&attempt.report, "machines")?;
    let folds: Vec<&str> = machines.split("<details class=\"machine\">").collect();
    for name in ["n1", "n2", "n3"] {
        let head = format!("<summary>{name}<span");
        let fold = folds.iter().find(|fold| fold.starts_with(&head));
        let fold = fold.with_context(|| format!("no {name}"))?;
        let log = attempt.machine(name)?["agent"]["log"]["value"].as_str();
        let log = log.context("no log")?.trim();
        ensure!(log.lines().count() >= 3, "{log}");
        let shown = fold
            .split("<summary>Log</summary><pre>")
            .nth(1)
            .context("no log")?;
        for line in log.lines() {
            let escaped = line
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;");
            let escaped = escaped.replace('"', "&quot;");
            ensure!(shown.contains(&escaped), "{line} of {name} is not shown");
        }
    }
    Ok(())
}
