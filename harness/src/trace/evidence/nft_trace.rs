//! Which rule of a packet filter dropped the probe: nftables' own tracing.
//!
//! A table of our own sets the trace mark on packets with the probe's bytes and on no others; the
//! kernel then reports every rule that such a packet meets. The table decides nothing, and it is
//! gone when the trace ends.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::eventually::eventually;
use crate::machine::Machine;
use crate::process::{Process, Program};

/// How long `nft` may take to subscribe.
const READY: Duration = Duration::from_secs(5);
/// How long a report may take from the kernel through `nft`, once the probe is given up.
const REPORT: Duration = Duration::from_millis(200);

/// A rule, or a chain's policy, that dropped the probe.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NftVerdict {
    /// The machine whose packet filter it was.
    pub machine: String,
    /// The table with its family: `ip filter`, `bridge guard`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule as `nft` prints it, or `policy drop`.
    pub rule: String,
}

impl fmt::Display for NftVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table, chain, rule, ..
        } = self;
        write!(f, "`{rule}` in chain {chain} of table {table}")
    }
}

/// Why there are no verdicts. It is told, and no more: other evidence may do.
pub(in crate::trace) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Tracing in one machine. The monitor ends with it; [`finish`](Self::finish) removes the table.
pub(in crate::trace) struct NftTrace {
    machine: Machine,
    table: String,
    monitor: Process,
}

/// Where the probe's bytes may be.
pub(in crate::trace) struct Pattern {
    /// From the start of the transport header.
    pub(in crate::trace) offset: usize,
    pub(in crate::trace) bytes: Vec<u8>,
}

/// Lengths in bytes of what may be around the probe's IPv4 header: nothing, IPIP once and twice,
/// GRE, VXLAN and Geneve.
const AROUND: [usize; 5] = [0, 20, 40, 24, 50];
const IPV4: usize = 20;

impl NftTrace {
    /// Traces the probe on every device of the machine, and what the machine itself sends.
    ///
    /// # Errors
    /// When `nft` is missing or refuses.
    pub(in crate::trace) async fn start(
        machine: &Machine,
        devices: &[String],
        pattern: &Pattern,
    ) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let table = format!("podlab_trace_{number}");
        let monitor = machine.quiet_spawn(Program::new("nft").args(["monitor", "trace"]))?;
        let id = monitor.id().unwrap_or_default();
        eventually("nft listens", READY, || async {
            let listens = machine.namespaces().run(|| is_subscribed(id));
            match listens {
                Ok(true) => Ok(()),
                Ok(false) => Err("not yet".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        let ruleset = ruleset(&table, devices, pattern);
        let add = machine.quiet_exec(Program::new("nft").arg(ruleset)).await?;
        let trace = Self {
            machine: machine.clone(),
            table,
            monitor,
        };
        match add.success() {
            Ok(_) => Ok(trace),
            Err(error) => {
                trace.finish().await?;
                Err(error.into())
            }
        }
    }

    /// Ends the tracing; returns what dropped the probe.
    pub(in crate::trace) async fn finish(mut self) -> Result<Vec<NftVerdict>, Failure> {
        let name = self.machine.name().to_owned();
        // Not there in most cases: most probes are not lost in a filter.
        let dropped = |line: &str| verdict(&name, line).is_some();
        self.monitor.wait_for_line(dropped, REPORT).await.ok();
        let script = ["netdev", "ip"].map(|family| {
            let table = &self.table;
            // Adding what is there is no error; deleting what is not there is one.
            format!("add table {family} {table}; delete table {family} {table};")
        });
        let remove = Program::new("nft").arg(script.concat());
        let removed = self.machine.quiet_exec(remove).await?.success();
        let output = self.monitor.stop(Signal::SIGTERM).await?;
        removed?;
        let mut verdicts: Vec<NftVerdict> = Vec::new();
        for found in output
            .stdout
            .lines()
            .filter_map(|line| verdict(&name, line))
        {
            if !verdicts.contains(&found) {
                verdicts.push(found);
            }
        }
        Ok(verdicts)
    }
}

/// Whether the process listens to the kernel's traces: its netlink socket is in that group.
fn is_subscribed(process: u32) -> bool {
    // `NETLINK_NETFILTER`, and the bit of `NFNLGRP_NFTRACE`.
    const PROTOCOL: &str = "12";
    const GROUP: u32 = 1 << 8;
    let text = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap_or_default();
    text.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, protocol, port, groups, ..] = columns[..] else {
            return false;
        };
        let groups = u32::from_str_radix(groups, 16).unwrap_or(0);
        protocol == PROTOCOL && port == process.to_string() && groups & GROUP != 0
    })
}

/// A probe, wherever it may be.
fn rules(pattern: &Pattern) -> String {
    let digits = pattern.bytes.iter().map(|byte| format!("{byte:02x}"));
    let digits: String = digits.collect();
    let bits = pattern.bytes.len() * 8;
    let rules = AROUND.iter().map(|around| {
        let at = (around + IPV4 + pattern.offset) * 8;
        format!("@nh,{at},{bits} 0x{digits} meta nftrace set 1; ")
    });
    rules.collect()
}

fn ruleset(table: &str, devices: &[String], pattern: &Pattern) -> String {
    let rules = rules(pattern);
    let mut chains = String::new();
    for (number, device) in devices.iter().enumerate() {
        chains += &format!(
            "chain d{number} {{ type filter hook ingress device \"{device}\" priority -500; \
             {rules}}}; "
        );
    }
    format!(
        "table netdev {table} {{ {chains}}}; \
         table ip {table} {{ chain own {{ type filter hook output priority -500; {rules}}}; }}"
    )
}

/// The verdict of a line of `nft monitor trace`, if it is one that ends a packet.
fn verdict(machine: &str, line: &str) -> Option<NftVerdict> {
    let rest = line.strip_prefix("trace id ")?;
    let mut words = rest.splitn(5, ' ');
    let (_id, family, table, chain) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let rest = words.next()?.trim();
    let rule = match rest.strip_prefix("rule ") {
        Some(rule) => rule.strip_suffix("(verdict drop)")?.trim(),
        None => rest.strip_prefix("policy drop").map(|_| "policy drop")?,
    };
    Some(NftVerdict {
        machine: machine.to_owned(),
        table: format!("{family} {table}"),
        chain: chain.to_owned(),
        rule: rule.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<String> {
        verdict("n1", line).map(|found| found.to_string())
    }

    #[test]
    fn what_drops_is_told_from_what_lets_pass() {
        let rule = "trace id 14370375 ip f i rule icmp type echo-request counter packets 0 \
                    bytes 0 drop comment \"no pings\" (verdict drop)";
        assert_eq!(
            words(rule).as_deref(),
            Some(
                "`icmp type echo-request counter packets 0 bytes 0 drop comment \"no pings\"` \
                 in chain i of table ip f"
            )
        );
        let policy = words("trace id 1 bridge guard forward policy drop ");
        assert_eq!(
            policy.as_deref(),
            Some("`policy drop` in chain forward of table bridge guard")
        );
        for passes in [
            "trace id 1 netdev t lo policy accept ",
            "trace id 1 netdev t lo rule meta nftrace set 1 (verdict continue)",
            "trace id 1 ip f i packet: iif \"lo\" ip saddr 127.0.0.1",
            "",
        ] {
            assert_eq!(words(passes), None, "{passes}");
        }
    }

    #[test]
    fn the_rules_look_at_plain_and_at_encapsulated_packets_and_decide_nothing() {
        let pattern = Pattern {
            offset: 8,
            bytes: vec![1, 2],
        };
        let text = ruleset("t", &["eth0".to_owned()], &pattern);
        assert!(
            text.contains("@nh,224,16 0x0102 meta nftrace set 1;"),
            "{text}"
        );
        assert!(text.contains("@nh,384,16 0x0102"), "{text}");
        assert!(text.contains("device \"eth0\""), "{text}");
        assert!(!text.contains("drop") && !text.contains("accept"), "{text}");
    }
}
