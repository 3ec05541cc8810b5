//! Podlab.
