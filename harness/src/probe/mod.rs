//! Probes: ICMP echo, UDP, TCP and HTTP in-process, from any namespace.
//!
//! A socket belongs for ever to the network namespace that its creator's thread was in. So a
//! probe has two steps: a synchronous `open` (or `listen`), which the caller runs on a thread
//! in the namespace, and an asynchronous verb, which runs on any tokio runtime. Nothing here
//! changes namespaces.
//!
//! | to do | open in the namespace | then |
//! |---|---|---|
//! | ping | [`icmp::EchoSocket::open`] | [`icmp::EchoSocket::ping`] |
//! | fetch a page | [`http::HttpProbe::open`] | [`http::HttpProbe::get`] |
//! | serve one | [`server::listen`] | [`server::HttpServer::bind`] |
//! | send bytes there and back | [`tcp::TcpProbe::open`] | [`tcp::TcpProbe::exchange`] |
//! | answer that | [`tcp::listen`] | [`tcp::TcpServer::bind`] |
//! | send a datagram there and back | [`udp::UdpProbe::open`] | [`udp::UdpProbe::ask`] |
//! | answer that | [`udp::listen`] | [`udp::UdpServer::bind`] |
//!
//! The servers tell whom they saw asking ([`Seen`]), and [`Failure`] names in one word how a probe
//! of any protocol failed.
//!
//! All time limits are stretched by the [patience](crate::patience) factor.

mod failure;
pub mod http;
pub mod icmp;
pub(crate) mod pattern;
pub mod refusal;
pub(crate) mod saved_syn;
mod seen;
pub mod server;
pub mod tcp;
pub mod udp;

pub use failure::Failure;
pub use seen::Seen;
