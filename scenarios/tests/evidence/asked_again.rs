//! The question on which a test failed is put to the network again as it was asked; and what was
//! never asked fails a test as well.

use anyhow::{Result, ensure};
use rstest::rstest;

use crate::failing::{Failing, diagnosis};

/// A question that only large packets, or one in ten, are not answered is asked again in the same
/// way: by a small ping the report would say that all is well.
#[rstest]
#[case::full_size("fails_by_a_full_size_ping", "do not fit fabric/n2", "1500 bytes")]
#[case::datagrams(
    "fails_in_a_matrix_of_large_datagrams",
    "do not fit fabric/n2",
    "1460 bytes"
)]
#[case::connections(
    "fails_in_a_matrix_of_long_connections",
    "dropped by",
    "ip length > 1450 drop"
)]
#[case::timeline(
    "fails_in_a_timeline_of_full_size",
    "do not fit fabric/n2",
    "1500 bytes"
)]
#[case::one_in_ten(
    "fails_by_a_loss_of_one_in_ten",
    "dropped by",
    "numgen inc mod 10 9 drop"
)]
#[podlab::test]
async fn a_pair_is_asked_again_in_the_same_way(
    #[case] test: &str,
    #[case] cause: &str,
    #[case] detail: &str,
) -> Result<()> {
    let attempt = Failing::new()?.fail(test, 1).await?;
    let pair = &attempt.bundle["clusters"][0]["pair"];
    ensure!(pair["from"] == "a" && pair["to"] == "b", "{pair}");
    let lost = diagnosis(&attempt)?;
    ensure!(
        lost.starts_with("lost between fabric/n1 and fabric/n2: fabric: "),
        "{lost}"
    );
    ensure!(lost.contains(cause) && lost.contains(detail), "{lost}");
    Ok(())
}

/// If this fails, a packet that the machine had no time for is looked for in the network: asked
/// again it is delivered, and nobody says why it was not before.
#[podlab::test]
async fn a_machine_without_time_for_its_packets_is_named() -> Result<()> {
    let attempt = Failing::new()?
        .fail("slow::fails_for_want_of_time", 1)
        .await?;
    let lost = diagnosis(&attempt)?;
    ensure!(lost.contains("it was delivered and answered"), "{lost}");
    let dropped = attempt.bundle["clusters"][0]["backlog_dropped"].as_u64();
    let dropped = dropped.unwrap_or_default();
    // Five thousand copies, and a queue that holds at most four thousand.
    ensure!(dropped > 900, "{dropped} dropped");
    let words = "this machine's kernel threw away ";
    let (text, report) = (&attempt.text, &attempt.report);
    let in_its_line = format!("\nslow:      {words}{dropped} packets, ");
    let in_the_timeline = format!(" lost\n  {words}");
    ensure!(text.contains(&in_its_line), "{text}");
    ensure!(text.contains(&in_the_timeline), "{text}");
    ensure!(
        report.contains(&format!("{words}{dropped} packets")),
        "{report}"
    );
    Ok(())
}

/// What a test meant to check and did not must not pass for checked.
#[rstest]
#[case::expectation(
    "forgets_an_expectation",
    "an expectation was never evaluated: on a/eth0: "
)]
#[case::given_up(
    "gives_an_expectation_up",
    "an expectation was never evaluated: on a/eth0: "
)]
#[case::matrix(
    "forgets_a_matrix",
    "a matrix of 3 × 3 peers was built and never asked"
)]
#[podlab::test]
async fn what_is_never_evaluated_fails_the_test(
    #[case] test: &str,
    #[case] words: &str,
) -> Result<()> {
    let output = Failing::new()?.run(test).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(101), "{output:?}");
    ensure!(text.contains(words), "{text}");
    Ok(())
}
