//! Probes: ICMP echo and HTTP in-process, from any namespace.
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
//!
//! All time limits are stretched by the [patience](crate::patience) factor.

pub mod http;
pub mod icmp;
pub mod refusal;
pub mod server;
