//! Tries out what a kernel may lack. For namespaces that are thrown away afterwards.

use rtnetlink::LinkMessageBuilder;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::qdisc::OPTIONS;
use super::{Netlink, NetlinkError};

impl Netlink {
    /// Makes a device of `kind` without any options, and leaves it there.
    pub(crate) async fn try_link(&self, kind: &str) -> Result<(), NetlinkError> {
        let kind_of_link = InfoKind::Other(kind.to_owned());
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind_of_link)
            .name("trial")
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(self.error("add link", kind))
    }

    /// Puts a root qdisc of `kind` on the loopback device, and leaves it there. `options` are the
    /// bytes of its `TCA_OPTIONS`.
    pub(crate) async fn try_qdisc(&self, kind: &str, options: &[u8]) -> Result<(), NetlinkError> {
        const LOOPBACK: i32 = 1;
        let mut message = TcMessage::with_index(LOOPBACK);
        message.header.parent = TcHandle::ROOT;
        message.attributes = vec![
            TcAttribute::Kind(kind.to_owned()),
            TcAttribute::Other(DefaultNla::new(OPTIONS, options.to_vec())),
        ];
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.request("add qdisc", kind, message, flags).await
    }
}
