//! The real `tcpdump` as an independent witness.

use podlab::patience::scaled;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// `tcpdump` at work.
pub(crate) struct Tcpdump {
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    /// Killed when dropped.
    _child: tokio::process::Child,
}

impl Tcpdump {
    /// Captures when this returns. In immediate mode every packet gets a slot for the longest
    /// packet there can be, and on loopback the buffer then has only a few: the snapshot length
    /// makes them smaller and many.
    pub(crate) async fn start(device: &str, options: &[&str], filter: &str) -> Self {
        let mut child = Command::new("tcpdump")
            .args(["-n", "-l", "--immediate-mode", "--snapshot-length=256"])
            .args(["-Z", "root", "-i", device])
            .args(options)
            .arg(filter)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = errors.next_line().await.unwrap().unwrap();
            if line.contains("listening on") {
                break;
            }
        }
        // Further messages must find a reader, or tcpdump dies of SIGPIPE.
        tokio::spawn(async move { while let Ok(Some(_)) = errors.next_line().await {} });
        Self {
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
        }
    }

    pub(crate) async fn line(&mut self) -> String {
        let limit = scaled(Duration::from_secs(10)).unwrap();
        let line = timeout(limit, self.lines.next_line()).await;
        line.expect("tcpdump prints a packet").unwrap().unwrap()
    }

    /// Per client port, the flags of its packets, until `connections` have ended.
    pub(crate) async fn flags(
        &mut self,
        server: SocketAddr,
        connections: usize,
    ) -> BTreeMap<u16, String> {
        let server = format!("{}.{}", server.ip(), server.port());
        let mut flags: BTreeMap<u16, String> = BTreeMap::new();
        let ended = |flags: &String| flags.matches('F').count() == 2;
        while flags.values().filter(|flags| ended(flags)).count() < connections {
            let line = self.line().await;
            // `TIME IP SOURCE > DESTINATION: Flags [FLAGS], …`
            let fields: Vec<_> = line.split_whitespace().collect();
            let from_server = fields[2] == server;
            let client = if from_server { fields[4] } else { fields[2] };
            let (_, port) = client.trim_end_matches(':').rsplit_once('.').unwrap();
            let direction = if from_server { '<' } else { '>' };
            let packet = fields[6].trim_matches(['[', ']', ',']);
            let seen = flags.entry(port.parse().unwrap()).or_default();
            seen.push_str(&format!("{direction}{packet} "));
        }
        flags
    }
}
