//! From the embedded object to maps and programs in the kernel.
//!
//! aya's own loader is left out on purpose. Its constructor parses the kernel's whole BTF
//! (5 MB; 80 ms and 20 MB of memory in a debug build), which these programs do not use,
//! and then probes the kernel for features in some twenty system calls. At hundreds of
//! agents on one machine, or for a cluster that boots in milliseconds, that would be most
//! of the start. aya-obj parses and relocates, aya does the maps; what remains is one
//! system call, `BPF_PROG_LOAD`.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya::maps::{Array, LpmTrie, Map, MapData, MapError, MapInfo};
use aya::programs::loaded_programs;
use aya_obj::{
    Object,
    generated::{bpf_cmd::BPF_PROG_LOAD, bpf_insn, bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS},
};
use ipnet::Ipv4Net;
use nix::{errno::Errno, libc};

use super::allow_list::{Octets, entries};
use super::{Config, ProgramError};

const OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/ipip.bpf.o"));

/// How many lines of the verifier's log an error carries: the last ones say why.
const VERIFIER_LINES: usize = 8;

/// A program in the kernel.
#[derive(Debug)]
pub(super) struct Program {
    /// The kernel's number of it.
    pub id: u32,
    fd: OwnedFd,
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The maps as the object defines them, by name.
type Definitions = std::collections::HashMap<String, aya_obj::Map>;

/// Everything from the object that is used later. The map `drops` lives on with the
/// programs, who alone write it.
pub(super) struct Loaded {
    pub encapsulate: Program,
    pub decapsulate: Program,
    pub config: Array<MapData, Config>,
    pub peers: LpmTrie<MapData, Octets, u8>,
}

/// Creates the maps and loads both programs.
pub(super) fn load() -> Result<Loaded, ProgramError> {
    let mut object = parse()?;
    let definitions = std::mem::take(&mut object.maps);
    let config = create_map(&definitions, "config")?;
    let peers = create_map(&definitions, "peers")?;
    let drops = create_map(&definitions, "drops")?;

    let text_sections: HashSet<usize> = object.functions.keys().map(|key| key.0).collect();
    let maps = [("config", &config), ("peers", &peers), ("drops", &drops)];
    object
        .relocate_maps(
            maps.into_iter()
                .map(|(name, map)| (name, map.fd().as_fd().as_raw_fd(), &definitions[name])),
            &text_sections,
        )
        .map_err(|error| unusable(&error))?;
    object
        .relocate_calls(&text_sections)
        .map_err(|error| unusable(&error))?;

    Ok(Loaded {
        encapsulate: load_program(&object, "encapsulate")?,
        decapsulate: load_program(&object, "decapsulate")?,
        config: Map::Array(config)
            .try_into()
            .map_err(|error| unusable(&error))?,
        peers: Map::LpmTrie(peers)
            .try_into()
            .map_err(|error| unusable(&error))?,
    })
}

/// See [`super::peers_of`].
pub(super) fn peers_of(program: u32) -> Result<BTreeSet<Ipv4Net>, ProgramError> {
    let opaque = |error: &dyn std::error::Error| ProgramError::Opaque {
        program,
        detail: error.to_string(),
    };
    let gone = io::Error::from(io::ErrorKind::NotFound);
    // Others' programs come and go meanwhile.
    let mut programs = loaded_programs().filter_map(Result::ok);
    let found = programs.find(|info| info.id() == program);
    let ids = found.ok_or_else(|| opaque(&gone))?.map_ids();
    for id in ids.map_err(|error| opaque(&error))?.unwrap_or_default() {
        let info = MapInfo::from_id(id).map_err(|error| opaque(&error))?;
        if info.name_as_str() == Some("peers") {
            let map = MapData::from_id(id).map_err(|error| opaque(&error))?;
            let map: LpmTrie<MapData, Octets, u8> = Map::LpmTrie(map)
                .try_into()
                .map_err(|error: MapError| opaque(&error))?;
            return entries(&map);
        }
    }
    Err(opaque(&gone))
}

fn parse() -> Result<Object, ProgramError> {
    Object::parse(OBJECT).map_err(|error| unusable(&error))
}

fn unusable(error: &dyn std::error::Error) -> ProgramError {
    ProgramError::Object {
        detail: error.to_string(),
    }
}

fn create_map(definitions: &Definitions, name: &'static str) -> Result<MapData, ProgramError> {
    let definition = definitions.get(name).ok_or_else(|| ProgramError::Object {
        detail: format!("no map {name}"),
    })?;
    MapData::create(definition.clone(), name, None).map_err(|source| {
        let errno = match &source {
            MapError::CreateError { io_error, .. } => io_error.raw_os_error(),
            _ => None,
        };
        ProgramError::Map {
            map: name,
            hint: hint(errno, ""),
            source: Box::new(source),
        }
    })
}

fn load_program(object: &Object, name: &'static str) -> Result<Program, ProgramError> {
    let function = object
        .programs
        .get(name)
        .and_then(|program| object.functions.get(&program.function_key()))
        .ok_or_else(|| ProgramError::Object {
            detail: format!("no program {name}"),
        })?;
    let mut log = Vec::new();
    // Without a log at first: writing one takes the verifier longer than its proof.
    let fd = prog_load(name, &function.instructions, &object.license, &mut log)
        .or_else(|_| {
            log.resize(1 << 20, 0);
            prog_load(name, &function.instructions, &object.license, &mut log)
        })
        .map_err(|source| {
            let log = CStr::from_bytes_until_nul(&log)
                .unwrap_or_default()
                .to_string_lossy();
            ProgramError::Load {
                program: name,
                verifier: last_lines(&log),
                hint: hint(source.raw_os_error(), &log),
                source,
            }
        })?;
    let id = program_id(fd.as_fd()).map_err(|source| ProgramError::Identify {
        program: name,
        source,
    })?;
    Ok(Program { id, fd })
}

/// What `tc filter show` calls the program's `id`.
fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let facts = std::fs::read_to_string(path)?;
    let mut ids = facts
        .lines()
        .filter_map(|line| line.strip_prefix("prog_id:"));
    let id = ids.next().and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| io::Error::other("its fdinfo has no prog_id"))
}

/// The part of the kernel's `union bpf_attr` that `BPF_PROG_LOAD` needs here; the kernel
/// takes what is missing behind it as zero.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// Loads a tc program; the verifier writes into `log` unless that is empty.
fn prog_load(
    name: &str,
    instructions: &[bpf_insn],
    license: &CStr,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut prog_name = [0; 16];
    for (to, from) in prog_name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS as u32,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        log_buf: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr().expose_provenance() as u64
        },
        kern_version: 0,
        prog_flags: 0,
        prog_name,
    };
    loop {
        // SAFETY: `attributes` is a valid prefix of `union bpf_attr` of the size that is
        // given, and the buffers that it points to live, with their lengths, until the
        // call returns. The kernel only reads them, but for `log`, which is borrowed mutably.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_LOAD as libc::c_long,
                &raw const attributes,
                size_of::<ProgLoad>(),
            )
        };
        match Errno::result(fd) {
            // SAFETY: on success the call returns a new descriptor that nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            // A signal interrupted the verifier.
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The end of the verifier's log, each line behind a line break.
fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let tail = lines.len().saturating_sub(VERIFIER_LINES);
    lines[tail..]
        .iter()
        .map(|line| format!("\n  {line}"))
        .collect()
}

/// What the user can do about an error of bpf(2).
fn hint(errno: Option<i32>, log: &str) -> String {
    const ANOTHER: &str = "or take another backend with --encap";
    // "unknown func bpf_redirect_neigh#152", in older kernels "unknown func 152"
    let helper = log
        .rsplit_once("unknown func ")
        .and_then(|(_, rest)| rest.split([' ', '\n']).next());
    match (helper, errno.map(Errno::from_raw)) {
        (Some(helper), _) => {
            format!("this kernel lacks the helper {helper}; run Linux 5.10 or later, {ANOTHER}")
        }
        (None, Some(Errno::EPERM)) => format!(
            "run as root outside of any user namespace (CAP_BPF and CAP_NET_ADMIN), {ANOTHER}"
        ),
        (None, Some(Errno::ENOSYS)) => {
            format!("this kernel was built without bpf(2); run another one, {ANOTHER}")
        }
        _ => format!("run Linux 5.10 or later, {ANOTHER}"),
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::{
        ProgramSection,
        generated::{BPF_F_NO_PREALLOC, bpf_map_type},
    };

    use super::*;
    use crate::encap::ebpf::program::allow_list::MAX_PEERS;

    /// The object holds what this module takes out of it, in the sizes that it assumes.
    #[test]
    fn the_object_has_both_programs_and_all_maps() {
        let object = parse().unwrap();
        for name in ["encapsulate", "decapsulate"] {
            let program = &object.programs[name];
            assert!(matches!(program.section, ProgramSection::SchedClassifier));
            assert!(object.functions.contains_key(&program.function_key()));
        }
        let shape = |name: &str| {
            let map = &object.maps[name];
            (map.map_type(), map.key_size(), map.value_size())
        };
        assert_eq!(
            shape("config"),
            (
                bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
                4,
                size_of::<Config>() as u32
            )
        );
        assert_eq!(
            shape("peers"),
            (bpf_map_type::BPF_MAP_TYPE_LPM_TRIE as u32, 8, 1)
        );
        assert_eq!(
            shape("drops"),
            (bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32, 4, 8)
        );
        assert_eq!(object.maps["peers"].max_entries() as usize, MAX_PEERS);
        assert_eq!(object.maps["peers"].map_flags(), BPF_F_NO_PREALLOC);
    }

    /// The kernel compares the licence with its list before it offers the routing helpers.
    #[test]
    fn the_licence_opens_the_helpers() {
        assert_eq!(parse().unwrap().license.as_c_str(), c"Dual MIT/GPL");
    }

    /// Debug sections would carry the paths of whoever built the object, and cost start time.
    #[test]
    fn the_object_has_no_btf() {
        assert!(parse().unwrap().btf.is_none());
    }

    #[test]
    fn a_missing_helper_is_named() {
        let log = "12: (85) call bpf_redirect_neigh#152\nunknown func bpf_redirect_neigh#152\n\
                   processed 12 insns\n";
        let hint = hint(Some(Errno::EINVAL as i32), log);
        assert!(
            hint.contains("lacks the helper bpf_redirect_neigh#152;"),
            "{hint}"
        );
    }

    #[test]
    fn a_missing_privilege_is_named() {
        let hint = hint(Some(Errno::EPERM as i32), "");
        assert!(hint.contains("CAP_BPF"), "{hint}");
    }

    #[test]
    fn the_end_of_a_long_log_is_kept() {
        let log: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let kept = last_lines(&log);
        assert_eq!(
            kept.lines().count(),
            VERIFIER_LINES + 1,
            "and the break before the first"
        );
        assert!(kept.ends_with("\n  line 99"), "{kept}");
        assert_eq!(last_lines(""), "");
    }

    /// What a verifier refuses comes back with its reason, or, without the privilege to
    /// load anything, with that.
    #[test]
    fn a_refused_program_says_why() {
        let mut object = parse().unwrap();
        let key = object.programs["encapsulate"].function_key();
        // Only `exit`: r0 was never written.
        let exit = bpf_insn {
            code: 0x95,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
            off: 0,
            imm: 0,
        };
        object.functions.get_mut(&key).unwrap().instructions = vec![exit];
        let text = load_program(&object, "encapsulate")
            .unwrap_err()
            .to_string();
        let reasons = ["R0 !read_ok", "CAP_BPF", "without bpf(2)"];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
    }
}
