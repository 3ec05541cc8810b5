//! Numbers from a seed: the same ones in every run, on every machine, in every version of the
//! harness. That is why they come from here and not from a crate, whose algorithms may change.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when there is none below.
    pub fn below(&mut self, bound: u32) -> u32 {
        // By multiplication: the bias of 2^-32 is nothing to a test.
        let number = (self.next_u64() >> 32) * u64::from(bound);
        u32::try_from(number >> 32).unwrap_or(0)
    }

    /// One of several; `None` of none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let count = u32::try_from(of.len()).unwrap_or(u32::MAX);
        of.get(self.below(count) as usize)
    }

    /// `count` different numbers below `bound`, or all of them, in a random order.
    pub fn choose(&mut self, bound: u32, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..bound).collect();
        let count = count.min(bound) as usize;
        for at in 0..count {
            let left = u32::try_from(all.len() - at).unwrap_or(u32::MAX);
            let other = at + self.below(left) as usize;
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the published algorithm for the seed 1234567: a change of it would
    /// make every printed seed worthless.
    #[test]
    fn the_numbers_are_those_of_the_published_algorithm() {
        let mut random = Random::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn a_choice_has_no_number_twice() {
        let mut random = Random::new(3);
        for bound in [1, 2, 10, 100] {
            let mut all = random.choose(bound, bound + 5);
            all.sort_unstable();
            assert!(all.into_iter().eq(0..bound));
        }
        assert!(random.choose(0, 3).is_empty());
        assert_eq!(random.below(0), 0);
        assert_eq!(random.pick::<u8>(&[]), None);
    }
}
