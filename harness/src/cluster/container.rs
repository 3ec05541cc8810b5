//! A container: a named group of processes that shares the network of its pod.

use std::ops::Deref;
use std::sync::Arc;

use super::Pod;
use crate::machine::Machine;
use crate::probe::server::HttpServer;

/// A handle on a container. Its verbs are those of its pod: what it sends leaves by the pod's
/// `eth0`, and `127.0.0.1` is the same in all containers of a pod.
#[derive(Debug, Clone)]
pub struct Container {
    pub(super) pod: Pod,
    pub(super) index: usize,
}

impl Container {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.pod.container_plan(self.index).name
    }

    /// The pod it belongs to.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The TCP port on which it answers HTTP, if it does.
    pub fn http_port(&self) -> Option<u16> {
        self.pod.container_plan(self.index).http
    }

    /// Its HTTP server, if it has one: what it was asked, and by whom. Another one answers when
    /// its node has crashed and come back.
    pub fn http_server(&self) -> Option<Arc<HttpServer>> {
        self.pod.server(self.index)
    }
}

impl Deref for Container {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.pod
    }
}
