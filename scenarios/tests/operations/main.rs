//! What those who run the agent rely on: health, metrics, status, cleanup, and that neither a
//! restart nor a harmless change is noticed. Numbered names follow the list of Felix' own tests.

mod cleanup;
mod harmless_change;
mod health;
mod ownership;
mod program;
mod repair;
mod restart;
mod status;

podlab::suite!();
