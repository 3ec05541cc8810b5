//! The address pools.

use super::{Check, overlap};
use crate::spec::{ClusterSpec, Encapsulation, PoolPlan, PoolSpec};

impl Check {
    pub(super) fn pools(&mut self, spec: &ClusterSpec) -> Vec<PoolPlan> {
        let default = [PoolSpec {
            name: "default-pool".to_owned(),
            cidr: "192.168.0.0/16".to_owned(),
            block_size: 24,
            encapsulation: Encapsulation::Always,
            nat_outgoing: false,
            tunnel_mtu: None,
        }];
        let specs = if spec.pools.is_empty() {
            &default[..]
        } else {
            &spec.pools[..]
        };
        let mut pools: Vec<PoolPlan> = Vec::new();
        for pool in specs {
            let subject = format!("pool {:?}", pool.name);
            self.name(&subject, &pool.name);
            if let Some(mtu) = pool.tunnel_mtu {
                self.mtu(&subject, mtu);
            }
            let Some(cidr) = self.network(&subject, "cidr", &pool.cidr) else {
                continue;
            };
            if pool.block_size < cidr.prefix_len() || pool.block_size > 32 {
                self.faults.add(
                    &subject,
                    format!("block size /{} does not fit into {cidr}", pool.block_size),
                    format!("choose a prefix length from {} to 32", cidr.prefix_len()),
                );
            }
            for other in &pools {
                if other.name == pool.name {
                    self.faults
                        .add(&subject, "there are two pools of that name", "rename one");
                }
                if overlap(other.cidr, cidr) {
                    self.faults.add(
                        &subject,
                        format!("{cidr} overlaps {} of pool {:?}", other.cidr, other.name),
                        "give every pool a range of its own",
                    );
                }
            }
            pools.push(PoolPlan {
                name: pool.name.clone(),
                cidr,
                block_size: pool.block_size,
                encapsulation: pool.encapsulation,
                nat_outgoing: pool.nat_outgoing,
                tunnel_mtu: pool.tunnel_mtu,
            });
        }
        pools
    }
}
