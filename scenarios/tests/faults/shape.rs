//! Wires that are slow, and what netem does to packets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::capture::Filter;
use podlab::fault::{Direction, Impairment, Rate};
use podlab::packet::IcmpMessage;
use podlab::process::Program;
use podlab::suite::Feature;
use podlab::{Cluster, Pod};
use podlab_scenarios::seed::{DEMO, DEMO_W2, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::world::{SOON, all, boot, pings, same, state};

const COUNT: u32 = 20;
const PORT: &str = "5201";

/// Sends a TCP stream of so many bytes; returns its rate in bits per second.
async fn stream(from: &Pod, to: &Pod, bytes: u32) -> Result<f64> {
    let (address, bytes) = (to.address().to_string(), bytes.to_string());
    let traffic = |arguments: &[&str]| Program::new(env!("CARGO_BIN_EXE_traffic")).args(arguments);
    let mut sink = to.spawn(traffic(&["tcp-sink", PORT, &bytes]))?;
    sink.wait_for_line(|line| line == "listening", SOON).await?;
    let source = from.spawn(traffic(&["tcp-source", &address, PORT, &bytes]))?;
    let received = sink.wait(6 * SOON).await?.success()?.stdout;
    source.wait(SOON).await?.success()?;
    let line = received.lines().last().context("no result")?;
    let (received, seconds) = line.split_once(' ').context(line.to_owned())?;
    Ok(received.parse::<f64>()? * 8.0 / seconds.parse::<f64>()?)
}

/// Proves that a limited wire carries its rate and no more, in the direction that is asked for,
/// while the same stream without the limit is many times as fast.
#[rstest]
#[case::pod_in(DEMO_W2, Direction::In)]
#[case::pod_out(TEST_TOOLS, Direction::Out)]
#[case::node_in("", Direction::In)]
#[case::node_out("", Direction::Out)]
#[podlab::test]
async fn a_limited_wire_carries_its_rate(
    #[case] pod: &str,
    #[case] direction: Direction,
    #[values("ebpf", "userspace")] backend: &str,
) -> Result<()> {
    /// Where nothing else is slower.
    const RATE: f64 = 5e6;
    const BYTES: u32 = 750_000;
    let cluster = boot(backend).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = state(&cluster).await?;
    let free = stream(&tools, &far, BYTES).await?;
    let wire = match pod {
        "" => match direction {
            Direction::In => cluster.node(WORKER_2)?.wire()?,
            Direction::Out => cluster.node(WORKER_1)?.wire()?,
        },
        pod => cluster.pod(pod)?.wire()?,
    };
    // A userspace backend on an emulated processor carries little more by itself.
    let limit = RATE.min(free / 5.0);
    let rate = Rate::bits(limit as u64);
    let fault = wire.limit_rate(direction, rate).await?;
    let limited = stream(&tools, &far, BYTES).await?;
    println!(
        "{:.1} Mbit/s, without the limit {:.1}",
        limited / 1e6,
        free / 1e6
    );
    // Headers count for the wire and not for the stream; the last frames wait at the sink's end.
    ensure!(limited < limit, "{limited} of {limit}");
    ensure!(limited > 0.5 * limit, "{limited} of {limit}");
    ensure!(free > 3.0 * limited, "{free} without the limit");
    let error = wire.limit_rate(direction, rate).await.unwrap_err();
    ensure!(error.to_string().contains("is there already"), "{error}");
    fault.heal().await?;
    same(&before, &state(&cluster).await?)?;
    ensure!(stream(&tools, &far, BYTES).await? > 2.0 * limited);
    Ok(())
}

/// Proves that a fault that this kernel cannot do is an error that says what is missing, and that
/// nothing of it stays; and that one on a device that a test has shaped itself is one, too.
#[podlab::test]
async fn what_the_kernel_lacks_is_named() -> Result<()> {
    let cluster = boot("userspace").await?;
    let tools = cluster.pod(TEST_TOOLS)?;
    let before = state(&cluster).await?;
    let delay = Impairment::delay(Duration::from_millis(1));
    let fault = tools.wire()?.impair(Direction::Out, delay).await;
    match (fault, Feature::Netem.probe()) {
        (Ok(fault), Ok(())) => fault.heal().await?,
        (Err(error), Err(_)) => {
            let error = error.to_string();
            ensure!(
                error.ends_with("hint: it needs netem on this kernel"),
                "{error}"
            );
            ensure!(
                error.starts_with("delay 1ms at test-tools/eth0 out: "),
                "{error}"
            );
        }
        (fault, probe) => panic!("{fault:?}, and the kernel: {probe:?}"),
    }
    ensure!(cluster.active_faults().is_empty());
    same(&before, &state(&cluster).await?)?;

    let own = "tc qdisc add dev eth0 root tbf rate 1gbit burst 100kb latency 50ms";
    tools.exec(own).await?.success()?;
    let fault = tools
        .wire()?
        .limit_rate(Direction::Out, Rate::megabits(1))
        .await;
    let error = fault.unwrap_err().to_string();
    ensure!(error.contains("has a qdisc tbf of its own"), "{error}");
    let fault = tools
        .wire()?
        .limit_rate(Direction::Out, Rate::bits(7))
        .await;
    let error = fault.unwrap_err().to_string();
    ensure!(error.contains("rates begin at"), "{error}");
    Ok(())
}

async fn pair() -> Result<(Cluster, Pod, Pod)> {
    let cluster = boot("userspace").await?;
    let (tools, near) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO)?);
    tools.ping(&near).await?;
    Ok((cluster, tools, near))
}

/// Proves that every packet is delayed by what is asked for, and varies by no more than that.
#[podlab::test(needs = "netem")]
async fn every_packet_is_late() -> Result<()> {
    let (cluster, tools, near) = pair().await?;
    let before = state(&cluster).await?;
    let ms = Duration::from_millis;
    let round_trips = async || -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..COUNT {
            times.push(tools.ping(&near).await?.rtt);
        }
        times.sort_unstable();
        Ok(times)
    };
    let free = round_trips().await?;
    let wire = tools.wire()?;
    let fault = wire
        .impair(Direction::Out, Impairment::delay(ms(50)))
        .await?;
    let late = round_trips().await?;
    println!("{free:?}\n{late:?}");
    ensure!(late[0] >= ms(50), "{late:?}");
    ensure!(free[free.len() / 2] < ms(50), "{free:?}");
    fault.heal().await?;
    let jitter = Impairment::delay(ms(50)).jitter(ms(30));
    let fault = wire.impair(Direction::In, jitter).await?;
    let varied = round_trips().await?;
    println!("{varied:?}");
    ensure!(varied[0] >= ms(20), "{varied:?}");
    let spread = varied[varied.len() - 2] - varied[1];
    ensure!(spread > ms(10), "{varied:?}");
    fault.heal().await?;
    same(&before, &state(&cluster).await?)
}

/// The numbers of the echo requests that arrive at a pod while another one pings it.
async fn arriving(from: &Pod, to: &Pod) -> Result<Vec<u16>> {
    let capture = to.capture("eth0", &Filter::protocol(1))?;
    // One program, because each ping of ours is the first one of a socket.
    let ping =
        Program::new("ping").args(["-n", "-i", "0.005", "-W", "1", "-c", &COUNT.to_string()]);
    from.exec(ping.arg(to.address().to_string())).await?;
    let packets = capture.stop().await?.packets;
    let requests = packets
        .iter()
        .filter_map(|captured| match captured.packet.icmp()?.message {
            IcmpMessage::EchoRequest { sequence, .. } => Some(sequence),
            _ => None,
        });
    Ok(requests.collect())
}

/// Proves that every packet comes twice.
#[podlab::test(needs = "netem")]
async fn every_packet_comes_twice() -> Result<()> {
    let (cluster, tools, near) = pair().await?;
    let before = state(&cluster).await?;
    let wire = tools.wire()?;
    let fault = wire
        .impair(Direction::Out, Impairment::duplicate(1.0))
        .await?;
    let mut numbers = arriving(&tools, &near).await?;
    numbers.sort_unstable();
    let twice: Vec<u16> = (1..=20).flat_map(|number| [number, number]).collect();
    assert_eq!(numbers, twice);
    fault.heal().await?;
    same(&before, &state(&cluster).await?)
}

/// Proves that every fifth packet overtakes those before it, and no other does.
#[podlab::test(needs = "netem")]
async fn every_fifth_packet_overtakes() -> Result<()> {
    let (cluster, tools, near) = pair().await?;
    let before = state(&cluster).await?;
    let wire = tools.wire()?;
    let overtaking = Impairment::delay(Duration::from_millis(200)).reorder_every(5);
    let fault = wire.impair(Direction::Out, overtaking).await?;
    let numbers = arriving(&tools, &near).await?;
    let overtakers: Vec<u16> = numbers
        .iter()
        .enumerate()
        .filter(|(place, number)| numbers[place + 1..].iter().any(|later| later < number))
        .map(|(_, number)| *number)
        .collect();
    assert_eq!(overtakers, [5, 10, 15, 20], "{numbers:?}");
    assert_eq!(numbers.len(), 20);
    fault.heal().await?;
    same(&before, &state(&cluster).await?)
}

/// Proves that in every packet exactly one bit is wrong.
#[podlab::test(needs = "netem")]
async fn in_every_packet_one_bit_is_wrong() -> Result<()> {
    let (cluster, tools, near) = pair().await?;
    let before = state(&cluster).await?;
    // One UDP datagram, always the same: to the discard port, with an IP identification.
    let mut packet = vec![0x45, 0, 0, 128, 0, 7, 0, 0, 64, 17, 0, 0];
    packet.extend(tools.address().octets());
    packet.extend(near.address().octets());
    packet.extend([0, 9, 0, 9, 0, 108, 0, 0]);
    packet.resize(128, 0x55);
    let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
    let arrived = async |count: u32| -> Result<Vec<Vec<u8>>> {
        let capture = near.capture("eth0", &Filter::everything())?;
        for _ in 0..count {
            let raw = Program::new(env!("CARGO_BIN_EXE_traffic")).args(["raw", &hex]);
            tools.exec(raw).await?.success()?;
        }
        let packets = capture.stop().await?.packets;
        // Not the answer "port unreachable", and no ARP.
        let frames = packets
            .iter()
            .map(|captured| captured.packet.bytes().to_vec());
        Ok(frames.filter(|frame| frame.len() == 14 + 128).collect())
    };
    let good = arrived(1).await?;
    ensure!(good.len() == 1, "{good:?}");
    let wrong_bits = |frame: &[u8]| -> u32 {
        let bytes = frame.iter().zip(&good[0]);
        bytes.map(|(one, other)| (one ^ other).count_ones()).sum()
    };
    // Where the last wire begins, so that nobody looks at a frame afterwards but the pod.
    let fault = near
        .wire()?
        .impair(Direction::In, Impairment::corrupt(1.0))
        .await?;
    let frames = arrived(COUNT).await?;
    let wrong: Vec<u32> = frames.iter().map(|frame| wrong_bits(frame)).collect();
    assert_eq!(wrong, vec![1; 20]);
    fault.heal().await?;
    let frames = arrived(COUNT).await?;
    ensure!(frames.len() == 20 && frames.iter().all(|frame| wrong_bits(frame) == 0));
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&tools, near.address(), COUNT).await?, all(COUNT));
    Ok(())
}
