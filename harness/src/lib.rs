//! Podlab.

pub mod eventually;
pub mod patience;
