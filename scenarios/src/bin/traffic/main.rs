//! Traffic for scenarios: a TCP stream, UDP super-packets that the kernel cuts, and packets that
//! no kernel would send. Checks every byte that it receives, and prints one line with the result.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt,
    socket, sockopt,
};

/// One end of a test stream.
#[derive(Parser)]
#[command(name = "traffic")]
enum End {
    /// Takes one connection with BYTES bytes; prints how many arrived and the seconds it took.
    TcpSink { port: u16, bytes: usize },
    /// Makes it.
    TcpSource {
        address: Ipv4Addr,
        port: u16,
        bytes: usize,
    },
    /// Takes ROUNDS times COUNT datagrams of SIZE bytes, and acknowledges each round.
    UdpSink {
        port: u16,
        size: usize,
        count: usize,
        rounds: usize,
    },
    /// Sends each round by one system call with UDP_SEGMENT.
    UdpSource {
        address: Ipv4Addr,
        port: u16,
        size: usize,
        count: usize,
        rounds: usize,
    },
    /// Takes one connection, and sends back what comes.
    TcpEcho { port: u16 },
    /// Makes it, sends a number each 10 ms, and prints each that has come back, with the time:
    /// `17 at 1700000000.123`.
    TcpBeat { address: Ipv4Addr, port: u16 },
    /// Sends one IPv4 packet, given in hex with its header; the kernel writes the checksum.
    Raw { packet: String },
}

/// The stream repeats itself after so many bytes: a prime, so that it never falls in step with
/// segments or buffers.
const PERIOD: usize = 65_521;
/// How long a lost packet is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// `length` bytes of the stream from any place of its first period.
fn pattern(length: usize) -> Vec<u8> {
    (0..PERIOD + length)
        .map(|i| {
            let i = i % PERIOD;
            (i ^ (i >> 8)) as u8
        })
        .collect()
}

fn main() -> ExitCode {
    let outcome = match End::parse() {
        End::TcpSink { port, bytes } => tcp_sink(port, bytes),
        End::TcpSource {
            address,
            port,
            bytes,
        } => tcp_source(address, port, bytes),
        End::UdpSink {
            port,
            size,
            count,
            rounds,
        } => udp_sink(port, size, count, rounds),
        End::UdpSource {
            address,
            port,
            size,
            count,
            rounds,
        } => udp_source((address, port), size, count, rounds),
        End::TcpEcho { port } => tcp_echo(port),
        End::TcpBeat { address, port } => tcp_beat(address, port),
        End::Raw { packet } => raw(&packet),
    };
    match outcome {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tcp_echo(port: u16) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    listening()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut number = [0; 8];
    let mut count = 0;
    while stream.read_exact(&mut number).is_ok() {
        stream.write_all(&number)?;
        count += 1;
    }
    Ok(format!("{count}"))
}

fn tcp_beat(address: Ipv4Addr, port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_nodelay(true)?;
    for number in 0u64.. {
        stream.write_all(&number.to_ne_bytes())?;
        let mut back = [0; 8];
        stream.read_exact(&mut back)?;
        if u64::from_ne_bytes(back) != number {
            return Err(wrong(format!("{back:?} came back for {number}")));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(io::Error::other)?.as_secs_f64();
        println!("{number} at {now:.3}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(String::new())
}

fn raw(hex: &str) -> io::Result<String> {
    let byte = |i| {
        hex.get(i..i + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    let packet: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    let packet = packet.filter(|packet| packet.len() >= 20);
    let packet = packet.ok_or_else(|| wrong("not an IPv4 packet in hex".to_owned()))?;
    let to = SockaddrIn::new(packet[16], packet[17], packet[18], packet[19], 0);
    let socket = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    let sent = sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
    Ok(format!("{sent}"))
}

fn wrong(what: String) -> io::Error {
    io::Error::other(what)
}

/// Says that the other end can start.
fn listening() -> io::Result<()> {
    println!("listening");
    io::stdout().flush()
}

fn tcp_sink(port: u16, bytes: usize) -> io::Result<String> {
    const CHUNK: usize = 1 << 18;
    let pattern = pattern(CHUNK);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    listening()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let start = Instant::now();
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let expected = &pattern[received % PERIOD..][..count];
        if buffer[..count] != *expected {
            return Err(wrong(format!("damaged behind byte {received}")));
        }
        received += count;
    }
    if received != bytes {
        return Err(wrong(format!("{received} of {bytes} bytes arrived")));
    }
    Ok(format!("{received} {:.6}", start.elapsed().as_secs_f64()))
}

fn tcp_source(address: Ipv4Addr, port: u16, bytes: usize) -> io::Result<String> {
    const CHUNK: usize = 1 << 17;
    let pattern = pattern(CHUNK);
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut sent = 0;
    while sent < bytes {
        let length = CHUNK.min(bytes - sent);
        stream.write_all(&pattern[sent % PERIOD..][..length])?;
        sent += length;
    }
    Ok(format!("{sent}"))
}

fn udp_sink(port: u16, size: usize, count: usize, rounds: usize) -> io::Result<String> {
    let pattern = pattern(size * count);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    listening()?;
    let mut buffer = vec![0; 1 << 16];
    for round in 0..rounds {
        for i in 0..count {
            let (length, from) = socket.recv_from(&mut buffer).map_err(|error| {
                wrong(format!("round {round}, {i} of {count} datagrams: {error}"))
            })?;
            if buffer[..length] != pattern[(round + i * size) % PERIOD..][..size] {
                let first = buffer.first().copied().unwrap_or(0);
                return Err(wrong(format!(
                    "round {round}, datagram {i}: {length} bytes from {first:#x} on, not \
                     {size} of the pattern"
                )));
            }
            if i + 1 == count {
                socket.send_to(b"ok", from)?;
            }
        }
    }
    Ok(format!("{}", rounds * count))
}

fn udp_source(to: (Ipv4Addr, u16), size: usize, count: usize, rounds: usize) -> io::Result<String> {
    let pattern = pattern(size * count);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    setsockopt(
        &socket,
        sockopt::UdpGsoSegment,
        &i32::try_from(size).unwrap_or(i32::MAX),
    )?;
    for round in 0..rounds {
        socket.send(&pattern[round % PERIOD..][..size * count])?;
        socket
            .recv(&mut [0; 2])
            .map_err(|error| wrong(format!("no answer to round {round}: {error}")))?;
    }
    Ok(format!("{}", rounds * count))
}
