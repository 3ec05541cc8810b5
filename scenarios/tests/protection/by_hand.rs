//! Changes the allow-list of the tc program by hand, as `nft delete element` changes that of the
//! table: the map is found through the program, and the program through the interface.
//!
//! The kernel does not report such a change, so it is undone by the resync.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::libc;
use podlab::Node;
use podlab::agent::PodlabAgent;
use podlab::eventually::eventually;
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, WORKER_1};

use crate::setup::{SOON, impatient, run};

/// Proves that a node whose allow-list somebody has cut takes that peer's packets again.
#[podlab::test]
async fn the_resync_puts_the_allow_list_right() -> Result<()> {
    let agent = PodlabAgent::with_encapsulation("ebpf").args(["--resync", "0.5"]);
    let cluster = backend::boot(seed::spec(), agent, "ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    let (one, two) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    two.ping(&one).await?;
    let agent = node.agent_id().context("an agent runs")?;
    run(&node, &format!("kill -STOP {agent}")).await?;
    remove_peer(&node, two.node().address()).await?;
    assert!(two.ping_with(&one, &impatient()).await.is_err());
    run(&node, &format!("kill -CONT {agent}")).await?;
    eventually("the peer's packets are taken again", SOON, || async {
        let reply = two.ping_with(&one, &impatient()).await;
        reply.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

/// Commands of bpf(2), from linux/bpf.h.
const MAP_DELETE_ELEM: i64 = 3;
const PROG_GET_FD_BY_ID: i64 = 13;
const MAP_GET_FD_BY_ID: i64 = 14;
const OBJ_GET_INFO_BY_FD: i64 = 15;

/// Removes one peer from the map `peers` of the program on a node's underlay.
pub(crate) async fn remove_peer(node: &Node, peer: Ipv4Addr) -> Result<()> {
    let filters = run(
        node,
        &format!("tc filter show dev {} ingress", node.underlay()),
    )
    .await?;
    let mut words = filters.split_whitespace().skip_while(|word| *word != "id");
    let id: u32 = words.nth(1).with_context(|| filters.clone())?.parse()?;
    let map = map_of(id, "peers")?;
    // A prefix: its length, then the address in network byte order.
    let mut key = [0u8; 8];
    key[..4].copy_from_slice(&32u32.to_ne_bytes());
    key[4..].copy_from_slice(&peer.octets());
    let mut request = [0u64; 4];
    request[0] = map.as_raw_fd() as u64;
    request[1] = key.as_ptr().expose_provenance() as u64;
    bpf(MAP_DELETE_ELEM, &mut request)?;
    Ok(())
}

fn map_of(program: u32, name: &str) -> Result<OwnedFd> {
    let program = by_id(PROG_GET_FD_BY_ID, program)?;
    let mut ids = [0u32; 8];
    // struct bpf_prog_info up to map_ids: their number is at byte 52, the pointer at 56.
    let mut info = [0u64; 8];
    info[6] = (ids.len() as u64) << 32;
    info[7] = ids.as_mut_ptr().expose_provenance() as u64;
    describe(&program, &mut info)?;
    let count = (info[6] >> 32) as usize;
    for id in &ids[..count.min(ids.len())] {
        let map = by_id(MAP_GET_FD_BY_ID, *id)?;
        // struct bpf_map_info: the name is at byte 24.
        let mut info = [0u64; 5];
        describe(&map, &mut info)?;
        let found: Vec<u8> = info[3..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        if found.split(|byte| *byte == 0).next() == Some(name.as_bytes()) {
            return Ok(map);
        }
    }
    anyhow::bail!("the program has no map {name}")
}

fn by_id(command: i64, id: u32) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, &mut [u64::from(id), 0])?;
    // SAFETY: the call returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has the kernel write as much of the object's description as fits.
fn describe(object: &OwnedFd, info: &mut [u64]) -> io::Result<()> {
    let length = size_of_val(info) as u64;
    let object = object.as_raw_fd() as u64;
    // The descriptor and the length are 32 bits each.
    let mut request = [
        object | length << 32,
        info.as_mut_ptr().expose_provenance() as u64,
    ];
    bpf(OBJ_GET_INFO_BY_FD, &mut request).map(drop)
}

fn bpf(command: i64, request: &mut [u64]) -> io::Result<i32> {
    // SAFETY: `request` is a prefix of `union bpf_attr` of the length that is given, and the
    // buffers that it points to live in the callers' frames until this returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            request.as_mut_ptr(),
            size_of_val(request),
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(result as i32)
}
