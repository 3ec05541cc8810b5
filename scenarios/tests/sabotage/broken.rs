//! Every sabotage, one test each.

use anyhow::{Context, Result, ensure};
use podlab::suite;
use podlab_scenarios::sabotage::{self, Held, Place, examine, table};
use rstest::rstest;

/// If this fails, a user's network is broken and nothing says so, or the trace sends the user to
/// the wrong place; for `none`, a network that works is called broken.
#[rstest]
#[podlab::test]
async fn it_is_noticed_and_named(
    #[values(
        "none",
        "missing-route",
        "wrong-node",
        "leak",
        "no-blackhole",
        "no-way-back",
        "no-forwarding",
        "no-proxy-arp",
        "wrong-neighbour",
        "no-decapsulation",
        "doubled-encapsulation",
        "wrong-outer-source",
        "filter-in-fabric",
        "every-tenth-lost",
        "ttl-twice",
        "wrong-checksum",
        "mtu-too-large",
        "full-size-lost"
    )]
    name: &str,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let sabotage = match name {
        "none" => None,
        _ => Some(sabotage::named(name).context("there is no such sabotage")?),
    };
    let examined = match examine(sabotage.as_ref(), backend).await? {
        Ok(examined) => examined,
        Err(lacking) => suite::skip(&lacking.feature, lacking.why),
    };
    ensure!(
        examined.row.good,
        "{}\n{}\n{:#?}",
        table(std::slice::from_ref(&examined.row)),
        examined.trace,
        examined.failures
    );
    Ok(())
}

/// If this fails, the table is green whatever happens: a sabotage that breaks nothing must be
/// told from one that was noticed and named.
#[podlab::test]
async fn one_that_breaks_nothing_is_not_good() -> Result<()> {
    let mut idle = sabotage::named("missing-route").context("it is there")?;
    idle.apply = |_| Box::pin(async { Ok(Held::default()) });
    let idle = match examine(Some(&idle), "userspace").await? {
        Ok(examined) => examined,
        Err(lacking) => suite::skip(&lacking.feature, lacking.why),
    };
    ensure!(
        !idle.row.good && idle.failures.is_empty(),
        "{:#?}",
        idle.row
    );
    // Nor is one that is found elsewhere, or as something else, than was said.
    let mut elsewhere = sabotage::named("missing-route").context("it is there")?;
    elsewhere.expected.hop.1 = Place::FarCali;
    let mut otherwise = sabotage::named("missing-route").context("it is there")?;
    otherwise.expected.is = |_| false;
    for wrong in [elsewhere, otherwise] {
        if let Ok(examined) = examine(Some(&wrong), "userspace").await? {
            ensure!(!examined.row.good, "{:#?}", examined.row);
        }
    }
    Ok(())
}

/// If this fails, a sabotage is in the table and no test applies it.
#[podlab::test]
fn every_sabotage_has_its_test() -> Result<()> {
    let source = include_str!("broken.rs");
    for sabotage in sabotage::all() {
        let listed = source.contains(&format!("\"{}\",", sabotage.name))
            || source.contains(&format!("\"{}\"\n", sabotage.name));
        ensure!(listed, "{} has no test", sabotage.name);
    }
    Ok(())
}
