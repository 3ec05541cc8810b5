//! Whose tables are whose.

use anyhow::Result;
use podlab::Node;
use podlab::eventually::eventually;
use podlab_scenarios::seed::{self, WORKER_1};
use rstest::rstest;

use crate::setup::{SOON, run, table, table_says};

async fn handle(node: &Node) -> Result<String> {
    run(node, "nft -a list table ip podlab | head -n 1").await
}

/// Proves that what somebody else deletes or changes of our table is repaired when it happens,
/// not at the next resync: the whole table, a rule, an element, a rule too many.
#[rstest]
#[case::table("delete table ip podlab")]
#[case::rules("flush chain ip podlab input")]
#[case::element_gone("delete element ip podlab nodes { 10.12.22.3 }")]
#[case::element_more("add element ip podlab nodes { 10.12.22.77 }")]
#[case::rule_more("insert rule ip podlab input accept")]
#[podlab::test]
async fn what_somebody_does_to_our_table_is_undone(#[case] damage: &str) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let good = table(&node).await?;
    assert!(good.contains("10.12.22.3"), "{good}");
    // Twice: what a table shall look like is learnt at the first strange transaction.
    for _ in 0..2 {
        // The handle tells a table from one that was made in its place.
        let damaged = handle(&node).await?;
        run(&node, &format!("nft '{damage}'")).await?;
        eventually("the table is as it was", SOON, || async {
            let now = table(&node).await.map_err(|error| error.to_string())?;
            let made = handle(&node).await.map_err(|error| error.to_string())?;
            match now == good && made != damaged {
                true => Ok(()),
                false => Err(format!("{made}{now}")),
            }
        })
        .await?;
    }
    Ok(())
}

/// Proves that tables of others are left as they are, also one of our name in another family,
/// whatever the agent writes, and when it starts and stops.
#[podlab::test]
async fn the_tables_of_others_are_left_alone() -> Result<()> {
    const OTHERS: &str = "table inet podlab { set s { type ipv4_addr; elements = { 10.1.2.3 }; }; }; \
        table ip nat { chain c { type nat hook postrouting priority 90; ip daddr 10.9.9.9 counter; }; }";
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let look = "nft list table inet podlab && nft list table ip nat";
    run(&node, &format!("nft '{OTHERS}'")).await?;
    // With handles: what was removed and made again would have another.
    let look = look.replace("nft", "nft -a");
    let before = run(&node, &look).await?;

    let other = r#"{"address":"10.12.22.9/16","blocks":["192.168.9.0/24"]}"#;
    cluster
        .datastore()
        .write("nodes/other.json", other.as_bytes())?;
    table_says(&node, "10.12.22.9", true).await?;
    node.stop_agent().await?;
    node.start_agent().await?;
    run(&node, "nft delete table ip podlab").await?;
    table_says(&node, "10.12.22.9", true).await?;
    assert_eq!(run(&node, &look).await?, before);
    Ok(())
}
