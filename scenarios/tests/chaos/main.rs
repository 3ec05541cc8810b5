//! Clusters that go through random faults. `make chaos` does it with a hundred seeds.

mod notice;
mod seeds;

podlab::suite!();
