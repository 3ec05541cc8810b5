//! The kernel's tables, asked for by many at once.
//!
//! Of a socket the kernel answers one such question at a time and refuses the next (`EBUSY`) until
//! the answer has been read to its end.

use std::future::poll_fn;
use std::task::Poll;

use anyhow::Result;
use futures_util::future::try_join_all;
use futures_util::poll;
use podlab::Node;
use podlab::process::Program;
use podlab_scenarios::seed::{self, WORKER_1};

/// So many that no answer fits into one read.
const ROUTES: usize = 3000;

/// A cluster in which the tables of a node are long, and that node.
async fn long_tables() -> Result<(podlab::Cluster, Node)> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let add = format!(
        "for i in $(seq {ROUTES}); do \
         echo route add 172.16.$((i / 256)).$((i % 256))/32 dev lo; done | ip -batch -"
    );
    let add = node.exec(Program::new("sh").args(["-c", &add])).await?;
    add.success()?;
    Ok((cluster, node))
}

/// Gives other tasks their turn, but not the runtime's driver, which tells that there is something
/// to read: `yield_now` would do that.
async fn others_go_on() {
    let mut gone_on = false;
    poll_fn(|context| {
        if gone_on {
            return Poll::Ready(());
        }
        gone_on = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Proves that whoever asks at the same time is answered, and in full.
#[podlab::test]
async fn many_are_answered_at_once() -> Result<()> {
    let (_cluster, node) = long_tables().await?;
    let asking = (0..32).map(|steps| {
        let node = node.clone();
        tokio::spawn(async move {
            // Not all in one moment: some ask while others are being answered.
            for _ in 0..steps {
                others_go_on().await;
            }
            node.routes().await
        })
    });
    for routes in try_join_all(asking).await? {
        let routes = routes?;
        assert!(routes.len() >= ROUTES, "{}", routes.len());
    }
    Ok(())
}

/// Proves that who asks and does not wait for the answer takes it from nobody else.
#[podlab::test]
async fn who_gives_up_disturbs_nobody() -> Result<()> {
    let (_cluster, node) = long_tables().await?;
    // As a task of its own: the driver has its turn whenever a runtime has polled its main future.
    let asking = tokio::spawn(async move {
        for steps in 0..100 {
            let mut asked = Box::pin(node.routes());
            for _ in 0..steps {
                if poll!(asked.as_mut()).is_ready() {
                    break;
                }
                others_go_on().await;
            }
            drop(asked);
            let routes = node.routes().await?;
            assert!(routes.len() >= ROUTES, "{}", routes.len());
        }
        anyhow::Ok(())
    });
    asking.await?
}
