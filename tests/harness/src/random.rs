//! Choices of tests that can be repeated.

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Whether something of this chance, in percent, happens.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The seed that an environment variable gives, or else one of this process. Printed, so that a run can be repeated.
///
/// # Panics
/// When the variable is no number.
pub fn seed(variable: &str) -> u64 {
    let given = std::env::var(variable).ok().map(|text| text.parse().expect("a seed is a number"));
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{variable}={seed}");
    seed
}
