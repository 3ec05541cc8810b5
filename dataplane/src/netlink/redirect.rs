//! A tc filter that sends what comes in on one interface out of another.
//!
//! u32 with a key that everything matches, since few kernels lack u32, and mirred as its action.

use std::io;

use nix::libc;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption,
    TcActionOption, TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage,
    TcMirror, TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use super::filter::{INGRESS, PRIORITY, is_absence, prepare};
use super::link::error;
use super::socket::Socket;
use super::{failed, name_of};
use crate::platform::KernelError;

/// Returns whether anything had to be done. Another filter in that place, with our priority, is
/// replaced.
pub(super) fn ensure(socket: &mut Socket, from: u32, to: u32) -> Result<bool, KernelError> {
    let found =
        find(socket, from).map_err(|source| failed("list tc filters of", name_of(from), source))?;
    if found == [Some(to)] {
        return Ok(false);
    }
    let object = || format!("{} to {}", name_of(from), name_of(to));
    prepare(socket, from)?;
    if !found.is_empty() {
        let all = RouteNetlinkMessage::DelTrafficFilter(message(from));
        match socket.request(all, 0) {
            Err((source, _)) if is_absence(&source) => {}
            answer => answer.map_err(|refused| error("replace redirect of", object(), refused))?,
        }
    }
    let filter = RouteNetlinkMessage::NewTrafficFilter(build(from, to));
    socket
        .request(filter, NLM_F_CREATE | NLM_F_EXCL)
        .map_err(|refused| error("redirect", object(), refused))?;
    Ok(true)
}

/// The filters in our place; of those that are redirects, where they lead.
fn find(socket: &mut Socket, from: u32) -> io::Result<Vec<Option<u32>>> {
    let mut question = TcMessage::with_index(from.cast_signed());
    question.header.parent = INGRESS;
    let question = RouteNetlinkMessage::GetTrafficFilter(question);
    let found = socket.dump(question, |message| match message {
        RouteNetlinkMessage::NewTrafficFilter(filter) => parse(&filter),
        _ => None,
    });
    match found {
        Err(error) if is_absence(&error) => Ok(Vec::new()),
        found => found,
    }
}

/// `None` for filters with another priority, and for the parts of one that hold no rule.
fn parse(filter: &TcMessage) -> Option<Option<u32>> {
    if TcHandle::from(filter.header.info).major != PRIORITY {
        return None;
    }
    let options = filter
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
    let is_rule =
        |option: &TcOption| !matches!(option, TcOption::U32(TcFilterU32Option::Divisor(_)));
    if !options.iter().all(is_rule) {
        return None;
    }
    let actions = options.iter().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    let attributes = actions.flatten().flat_map(|action| &action.attributes);
    let mut mirrors = attributes.filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror)) => Some(mirror),
            _ => None,
        }),
        _ => None,
    });
    let mirror = mirrors.next();
    Some(
        mirror
            .filter(|mirror| mirror.eaction == TcMirrorActionType::EgressRedir)
            .map(|mirror| mirror.ifindex),
    )
}

fn message(from: u32) -> TcMessage {
    let mut filter = TcMessage::with_index(from.cast_signed());
    filter.header.parent = INGRESS;
    filter.header.info = u32::from(TcHandle {
        major: PRIORITY,
        minor: (libc::ETH_P_IP as u16).to_be(),
    });
    let kind = TcAttribute::Kind(TcFilterU32::KIND.to_owned());
    filter.attributes.push(kind);
    filter
}

fn build(from: u32, to: u32) -> TcMessage {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    let mut mirror = TcMirror::default();
    mirror.generic = generic;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    let options = [
        TcFilterU32Option::Selector(selector),
        TcFilterU32Option::Action(vec![action]),
    ];
    let mut filter = message(from);
    let options = options.map(TcOption::U32).to_vec();
    filter.attributes.push(TcAttribute::Options(options));
    filter
}
