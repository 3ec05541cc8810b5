//! Podlab.

pub mod eventually;
pub mod patience;
pub mod probe;
pub mod route_table;
