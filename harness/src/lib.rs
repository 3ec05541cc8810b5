//! Podlab.

pub mod eventually;
pub mod patience;
pub mod route_table;
