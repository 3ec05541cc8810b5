//! How long a route is missing that somebody deletes.

use std::time::Instant;

use anyhow::{Context, Result};
use podlab::Node;
use podlab::netlink::{RouteEvent, RouteEvents};
use podlab_scenarios::seed::{self, WORKER_1};

use super::results::{Results, ms, percentile};
use super::routes;

pub(crate) const NAME: &str = "repair";
const TIMES: usize = 1000;
/// What DESIGN.md asks for.
const GOAL_P99_MS: f64 = 10.0;
/// When Felix looks at its routes again, by default.
const FELIX_MS: f64 = 90_000.0;

/// Deletes a route 1,000 times and measures by the kernel's own events until it is back: in the
/// seed's cluster, and among the routes of a cluster of a thousand nodes.
pub(crate) async fn run(results: &mut Results) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let mut samples = samples(&node).await?;
    let p50 = percentile(&mut samples, 0.5);
    results.add(
        "repair of a deleted route, p50",
        "ms",
        p50,
        FELIX_MS,
        "Felix' resync",
    );
    let p99 = percentile(&mut samples, 0.99);
    results.add_with_goal("repair of a deleted route, p99", "ms", p99, GOAL_P99_MS);
    let pool = r#"{"cidr":"10.128.0.0/9","block_size":26,"encapsulation":"always"}"#;
    cluster
        .datastore()
        .write("pools/far.json", pool.as_bytes())?;
    let routes = routes::fill(&cluster, &node).await?.len();
    let mut samples = self::samples(&node).await?;
    let p99 = percentile(&mut samples, 0.99);
    let name = format!("repair of one route among {routes}, p99");
    results.add_with_goal(name, "ms", p99, GOAL_P99_MS);
    Ok(())
}

async fn samples(node: &Node) -> Result<Vec<f64>> {
    let route = "192.168.2.0/24".parse()?;
    let mut events = node.route_events()?;
    let mut samples = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        // From before the request: two events that are read late look as if nothing lay between.
        let start = Instant::now();
        node.delete_route(route).await?;
        for present in [false, true] {
            let wanted =
                |event: &RouteEvent| (event.destination, event.present) == (route, present);
            let event = next(&mut events, wanted).await?;
            if present {
                samples.push(ms(event.at - start));
            }
        }
    }
    Ok(samples)
}

async fn next(
    events: &mut RouteEvents,
    wanted: impl Fn(&RouteEvent) -> bool,
) -> Result<RouteEvent> {
    loop {
        let event = events
            .next()
            .await
            .context("the kernel sends no more events")?;
        if wanted(&event) {
            return Ok(event);
        }
    }
}
