//! numpy's random numbers: what `numpy.random.default_rng(seed)` draws, bit for bit.
//!
//! `SeedSequence` spreads a seed over a pool of 128 bits (M. E. O'Neill, "Developing a seed_seq alternative", 2015),
//! and PCG64 (the same author's XSL-RR, 128 bits of state) draws from there.

/// The generator behind `numpy.random.default_rng`.
pub(super) struct Pcg64 {
    state: u128,
    increment: u128,
}

impl Pcg64 {
    pub(super) fn new(seed: u128) -> Self {
        let [a, b, c, d] = seed_sequence(seed);
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let increment = wide(c, d) << 1 | 1;
        let mut generator = Self { state: increment.wrapping_add(wide(a, b)), increment };
        generator.step();
        generator
    }

    fn step(&mut self) {
        const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.step();
        let (high, low) = ((self.state >> 64) as u64, self.state as u64);
        (high ^ low).rotate_right((high >> 58) as u32)
    }

    /// A number in `[0, 1)`, a multiple of 2^-53.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (0.5f64).powi(53)
    }

    /// `count` signs, -1 or 1, as `choice([-1, 1], count)` draws them.
    ///
    /// A choice between two is the highest bit of 32 (Lemire's method, which has nothing to reject then), and every
    /// draw of 64 bits gives two of them, the lower half first.
    pub(super) fn signs(&mut self, count: usize) -> Vec<i8> {
        let mut signs = Vec::with_capacity(count + 1);
        while signs.len() < count {
            let bits = self.bits();
            signs.extend([31, 63].map(|place| if bits >> place & 1 == 1 { 1 } else { -1 }));
        }
        signs.truncate(count);
        signs
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_sequence(seed: u128) -> [u64; 4] {
    const POOL: usize = 4;
    // A seed of up to 128 bits fills the pool and no more; zeros stand where it is shorter.
    let entropy = std::array::from_fn::<u32, POOL, _>(|word| (seed >> (32 * word)) as u32);
    let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
    let mut pool = entropy.map(|word| hash.word(word));
    for from in 0..POOL {
        for to in (0..POOL).filter(|&to| to != from) {
            pool[to] = mixed(pool[to], hash.word(pool[from]));
        }
    }
    let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
    std::array::from_fn(|index| {
        let low = hash.word(pool[2 * index % POOL]);
        let high = hash.word(pool[(2 * index + 1) % POOL]);
        u64::from(high) << 32 | u64::from(low)
    })
}

/// A hash whose constant moves on with every word.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn word(&mut self, word: u32) -> u32 {
        let word = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let word = word.wrapping_mul(self.constant);
        word ^ word >> 16
    }
}

fn mixed(x: u32, y: u32) -> u32 {
    let result = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
    result ^ result >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As numpy 2.4 has it; tests/property/test_muvera.py compares long streams of any seed.
    #[test]
    fn streams_begin_as_numpys_do() {
        let draw = |seed| {
            let mut random = Pcg64::new(seed);
            [random.bits(), random.bits()]
        };
        assert_eq!(draw(0), [0xa30f_ebcf_d9c2_825f, 0x4510_bdf8_82d9_d721]);
        assert_eq!(draw(42), [0xc621_fbcd_16d9_2688, 0x705a_5661_a791_ffc1]);
        assert_eq!(draw((1 << 64) - 1), [0xae16_3a7a_8c47_568f, 0xd866_59f5_f338_2359]);
        assert_eq!(draw((1 << 127) + 5), [0xcf4c_b1d5_b20f_b9e4, 0xea51_2b5c_a705_c82c]);
    }

    #[test]
    fn two_signs_come_of_one_draw_and_an_odd_one_leaves_a_half() {
        let (mut whole, mut parts) = (Pcg64::new(7), Pcg64::new(7));
        let signs = whole.signs(9);
        assert_eq!(signs[..8], [parts.signs(4), parts.signs(4)].concat());
        assert_eq!(signs[8], parts.signs(1)[0]);
        assert_eq!(whole.bits(), parts.bits());
        assert!(signs.iter().all(|sign| [-1, 1].contains(sign)));
    }
}
