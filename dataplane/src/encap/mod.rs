//! Backends that put packets into IPIP, and the choice between them.
//!
//! Every backend makes a device `tunl0` into which the routes of [`desired`](crate::desired)
//! lead; nothing outside this module knows how one does its work.

mod ebpf;
mod kernel;
mod userspace;
mod veth;

use std::net::Ipv4Addr;

use crate::compare::Row;
use crate::desired::Peers;
use crate::netlink::events::Event;
use crate::platform::{KernelError, Link, LinkChange, Links, Platform};

/// Name of the tunnel device, Calico's and the one the ipip module itself makes.
pub(crate) const TUNNEL: &str = "tunl0";

/// What a backend is to set up.
pub(crate) struct TunnelSpec<'a> {
    /// MTU of `tunl0` in bytes.
    pub mtu: u32,
    /// The interface that outer packets leave by and arrive at.
    pub underlay: &'a Link,
    /// The node's address there: outer source of what is sent, outer destination of what is
    /// taken.
    pub node_address: Ipv4Addr,
    /// Who packets are taken from and sent to, where it is not the packet filter that decides.
    pub peers: &'a Peers,
    /// Whether to set up again what looks right from here: somebody may have changed what the
    /// kernel does not report.
    pub thorough: bool,
}

/// One way to put packets into IPIP.
pub(crate) trait Encapsulation {
    /// As in `--encap`.
    fn name(&self) -> &'static str;

    /// Whether the backend could work, found out without leaving a trace. Either answer comes
    /// with its reason.
    fn look(&mut self, platform: &mut dyn Platform) -> Result<String, String>;

    /// Makes sure that the backend works, short of touching an interface. Either answer comes
    /// with its reason.
    fn prepare(&mut self, platform: &mut dyn Platform) -> Result<String, String>;

    /// Brings [`TUNNEL`] and what belongs to it to `spec`, in place of what a former life left.
    /// `links` are the interfaces there are now. Returns whether any was changed.
    fn ensure(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError>;

    /// Whether an event tells that somebody may have changed what [`ensure`](Self::ensure) set
    /// up besides interfaces, whose events concern everybody.
    fn concerns(&self, _event: &Event) -> bool {
        false
    }

    /// Whether this is the backend that works here, or that last did, to judge by what it leaves
    /// behind in the kernel.
    fn is_at_work(&mut self, links: &[Link], platform: &mut dyn Platform) -> bool;

    /// What the backend has set up besides [`TUNNEL`]: as it shall be and as it is. Changes
    /// nothing.
    fn compare(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<Vec<Row>, EncapError>;

    /// Another backend was chosen: stops what a former life with this one left behind from
    /// taking packets, and gives up the name [`TUNNEL`] if it cannot be shared. (The veth pair
    /// can: who has no use for it removes it.) Returns whether an interface was changed.
    fn withdraw(
        &mut self,
        underlay: &Link,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError>;
}

/// A backend could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncapError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Program(#[from] ebpf::ProgramError),
    #[error(transparent)]
    Userspace(#[from] userspace::UserspaceError),
    #[error(transparent)]
    NoneWorks(#[from] NoneWorks),
    /// Somebody else has an interface of a name that the backend needs.
    #[error("interface {name} exists and is not ours (it is {kind})\nhint: remove or rename it")]
    Occupied { name: String, kind: String },
}

impl EncapError {
    fn occupied(link: &Link) -> Self {
        let kind = if link.kind.is_empty() {
            "hardware".to_owned()
        } else {
            format!("of type {}", link.kind)
        };
        Self::Occupied {
            name: link.name.clone(),
            kind,
        }
    }
}

/// What `--encap` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// The first that works.
    Auto,
    /// The kernel's ipip device.
    Kernel,
    /// tc programs on a veth pair.
    Ebpf,
    /// The agent itself, at the end of a veth pair.
    Userspace,
}

impl Choice {
    /// The one backend that is wanted; `None` leaves the choice to us.
    fn stated(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Kernel => Some("kernel"),
            Self::Ebpf => Some("ebpf"),
            Self::Userspace => Some("userspace"),
        }
    }
}

/// The backends to try for a choice, best first.
pub(crate) fn candidates(choice: Choice) -> Vec<Box<dyn Encapsulation>> {
    let mut backends: Vec<Box<dyn Encapsulation>> = vec![
        Box::new(kernel::Ipip),
        Box::new(ebpf::Ebpf::default()),
        Box::new(userspace::Userspace::default()),
    ];
    if let Some(wanted) = choice.stated() {
        // Those that are not wanted stay, behind the wanted one, to be withdrawn.
        backends.sort_by_key(|backend| backend.name() != wanted);
    }
    backends
}

/// The backend that is stated, else the one at work here, else the one that would be taken.
/// Leaves no trace.
///
/// # Errors
/// When none works, or the kernel does not tell what is there.
pub(crate) fn present(
    choice: Choice,
    platform: &mut dyn Platform,
) -> Result<Box<dyn Encapsulation>, EncapError> {
    let mut backends = candidates(choice);
    if choice.stated().is_some() {
        return Ok(backends.swap_remove(0));
    }
    let links = platform.links()?;
    let at_work = backends
        .iter_mut()
        .position(|backend| backend.is_at_work(&links, platform));
    if let Some(position) = at_work {
        return Ok(backends.swap_remove(position));
    }
    let selected = select(choice, backends, |b| b.name(), |b| b.look(platform))?;
    Ok(selected.backend)
}

/// What was removed, and whether the kernel let it go.
pub(crate) type Removed = (String, Result<(), KernelError>);

/// Stops what former lives left behind from taking packets, whichever backend they had. The
/// devices stay.
///
/// # Errors
/// When the kernel does not tell what is there.
pub(crate) fn stop(platform: &mut dyn Platform) -> Result<Vec<Removed>, KernelError> {
    // The sockets of the others have gone with their agent.
    ebpf::stop(platform)
}

/// Removes the devices of former lives, whichever backend they had. Returns what was done.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn clean(platform: &mut dyn Platform) -> Result<Vec<String>, EncapError> {
    let mut done = userspace::clean(platform)?;
    done.extend(veth::clean(&veth::TUNNEL_PAIR, platform)?);
    done.extend(kernel::clean(platform)?);
    Ok(done)
}

/// Which backend was taken, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selected<B> {
    pub backend: B,
    /// Those that were not taken.
    pub others: Vec<B>,
    /// One line: why it was taken, and why those before it were not.
    pub why: String,
}

/// No backend works.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("encapsulation: {reasons}\nhint: `podlab-agent doctor` shows what this kernel offers")]
pub(crate) struct NoneWorks {
    reasons: String,
}

/// Takes the first of the candidates for which `works` says yes; of a stated choice there is
/// only the first to try.
pub(crate) fn select<B>(
    choice: Choice,
    candidates: Vec<B>,
    name: impl Fn(&B) -> &'static str,
    mut works: impl FnMut(&mut B) -> Result<String, String>,
) -> Result<Selected<B>, NoneWorks> {
    let mut others = Vec::new();
    let mut reasons = Vec::new();
    let mut candidates = candidates.into_iter();
    let tries = if choice == Choice::Auto {
        usize::MAX
    } else {
        1
    };
    for mut backend in candidates.by_ref().take(tries) {
        match works(&mut backend) {
            Ok(reason) => {
                reasons.push(format!("{}: {reason}", name(&backend)));
                others.extend(candidates);
                return Ok(Selected {
                    backend,
                    others,
                    why: reasons.join("; "),
                });
            }
            Err(reason) => {
                reasons.push(format!("{}: {reason}", name(&backend)));
                others.push(backend);
            }
        }
    }
    Err(NoneWorks {
        reasons: reasons.join("; "),
    })
}

/// The backend that was taken, which first sends away what the others left behind.
impl Encapsulation for Selected<Box<dyn Encapsulation>> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn look(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        self.backend.look(platform)
    }

    fn prepare(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        self.backend.prepare(platform)
    }

    fn ensure(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        if self.withdraw(spec.underlay, links, platform)? {
            let links = platform.links()?;
            self.backend.ensure(spec, &links, platform)?;
            return Ok(true);
        }
        self.backend.ensure(spec, links, platform)
    }

    fn concerns(&self, event: &Event) -> bool {
        self.backend.concerns(event)
    }

    fn is_at_work(&mut self, links: &[Link], platform: &mut dyn Platform) -> bool {
        self.backend.is_at_work(links, platform)
    }

    fn compare(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<Vec<Row>, EncapError> {
        self.backend.compare(spec, links, platform)
    }

    /// Once is enough: the others do nothing in this life.
    fn withdraw(
        &mut self,
        underlay: &Link,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        let mut changed = false;
        while let Some(other) = self.others.last_mut() {
            changed |= other.withdraw(underlay, links, platform)?;
            self.others.pop();
        }
        Ok(changed)
    }
}

/// Gives an interface this MTU, ARP or not, and takes it up, as far as it is not so already.
/// Returns whether anything was changed.
fn shape(link: &Link, mtu: u32, arp: bool, links: &mut dyn Platform) -> Result<bool, KernelError> {
    let change = LinkChange {
        mtu: (link.mtu != mtu).then_some(mtu),
        arp: (link.arp != arp).then_some(arp),
        up: (!link.up).then_some(true),
        name: None,
    };
    if change == LinkChange::default() {
        return Ok(false);
    }
    Links::change(links, link.index, &change)?;
    Ok(true)
}

/// Gives an interface another name. Returns it as it is then: before Linux 6.2 that takes it down.
fn rename(link: &Link, name: &str, platform: &mut dyn Platform) -> Result<Link, KernelError> {
    let name = LinkChange {
        name: Some(name.to_owned()),
        ..LinkChange::default()
    };
    let renamed = match Links::change(platform, link.index, &name) {
        Err(error) if error.source.raw_os_error() == Some(nix::libc::EBUSY) => {
            let down = LinkChange {
                up: Some(false),
                ..LinkChange::default()
            };
            Links::change(platform, link.index, &down)?;
            Links::change(platform, link.index, &name)
        }
        other => other,
    };
    renamed?;
    let links = platform.links()?;
    let link = links.into_iter().find(|other| other.index == link.index);
    link.ok_or_else(|| KernelError {
        operation: "find link",
        object: name.name.unwrap_or_default(),
        message: "it was just renamed".to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

fn named<'a>(links: &'a [Link], name: &str) -> Option<&'a Link> {
    links.iter().find(|link| link.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    type Backend = (&'static str, Result<&'static str, &'static str>);

    fn choose(choice: Choice, backends: &[Backend]) -> Result<Selected<Backend>, NoneWorks> {
        select(
            choice,
            backends.to_vec(),
            |backend| backend.0,
            |backend| backend.1.map(str::to_owned).map_err(str::to_owned),
        )
    }

    const GOOD: Backend = ("kernel", Ok("it is there"));
    const BAD: Backend = ("kernel", Err("no such device"));
    const EBPF: Backend = ("ebpf", Ok("the programs load"));
    const NO_EBPF: Backend = ("ebpf", Err("not permitted"));

    #[rstest]
    #[case::first(Choice::Auto, &[GOOD, EBPF], "kernel", "kernel: it is there")]
    #[case::second(Choice::Auto, &[BAD, EBPF], "ebpf", "kernel: no such device; ebpf: the programs load")]
    #[case::stated(Choice::Ebpf, &[EBPF, GOOD], "ebpf", "ebpf: the programs load")]
    fn the_first_that_works_is_taken_and_the_reason_given(
        #[case] choice: Choice,
        #[case] backends: &[Backend],
        #[case] taken: &str,
        #[case] why: &str,
    ) {
        let selected = choose(choice, backends).unwrap();
        assert_eq!((selected.backend.0, selected.why.as_str()), (taken, why));
        assert_eq!(
            selected.others.len(),
            1,
            "the other one is kept to be withdrawn"
        );
    }

    #[rstest]
    #[case::none(Choice::Auto, &[BAD, NO_EBPF], "encapsulation: kernel: no such device; ebpf: not permitted\nhint: ")]
    #[case::stated(Choice::Kernel, &[BAD, EBPF], "encapsulation: kernel: no such device\nhint: ")]
    fn without_one_that_works_every_reason_is_told(
        #[case] choice: Choice,
        #[case] backends: &[Backend],
        #[case] message: &str,
    ) {
        let error = choose(choice, backends).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }

    #[rstest]
    #[case(Choice::Auto, "kernel")]
    #[case(Choice::Kernel, "kernel")]
    #[case(Choice::Ebpf, "ebpf")]
    #[case(Choice::Userspace, "userspace")]
    fn the_stated_backend_is_tried_first(#[case] choice: Choice, #[case] first: &str) {
        let candidates = candidates(choice);
        assert_eq!(candidates[0].name(), first);
        assert_eq!(candidates.len(), 3, "the others are kept to be withdrawn");
    }
}
