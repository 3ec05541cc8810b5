//! What the harness and the agent promise beside the seed's facts: isolation, bad input, life.

mod agent_life;
mod bad_input;
mod isolation;
mod machines;

podlab::suite!();
