//! Weights and rows as words: one float32, two bfloat16, or four whole numbers.

use std::borrow::Cow;

use super::lanes::{Kernel, Lanes, joined};
use super::product::Product;
use super::{Rows, Simd};

/// What weights are kept in and rows are multiplied in; sums, biases and all that follows are float32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    #[default]
    Float32,
    /// Rounded to eight bits of mantissa.
    BFloat16,
    /// Weights as -127 to 127 times a scale for each output, rows as 0 to 255 from their least number to their largest.
    Int8,
}

impl Precision {
    /// How many numbers a word holds.
    pub(super) fn group(self) -> usize {
        match self {
            Self::Float32 => 1,
            Self::BFloat16 => 2,
            Self::Int8 => 4,
        }
    }
}

/// The weights of an output as words.
pub(super) struct Weights {
    pub(super) words: Vec<u32>,
    /// For whole numbers, what 1 is worth.
    pub(super) scale: f32,
    /// And what they add up to.
    pub(super) total: f32,
}

impl Weights {
    /// At least as many words as the row has groups; those behind it are zeros.
    pub(super) fn new(simd: Simd, precision: Precision, row: &[f32], words: usize) -> Self {
        let mut weights = Self { words: vec![0; words], scale: 1.0, total: 0.0 };
        // SAFETY: the kernel asks for nothing but the instructions.
        unsafe { simd.run(Weigh { precision, row, weights: &mut weights }) }
        weights
    }
}

struct Weigh<'a> {
    precision: Precision,
    row: &'a [f32],
    weights: &'a mut Weights,
}

impl Kernel for Weigh<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { precision, row, weights } = self;
        match precision {
            Precision::Float32 => weights.words.iter_mut().zip(row).for_each(|(word, x)| *word = x.to_bits()),
            Precision::BFloat16 => pairs(row, &mut weights.words),
            Precision::Int8 => {
                let mut turned = vec![0.0; row.len()];
                // SAFETY: the caller's promise, and that the vector is as long as the row.
                let (gain, extent) = unsafe { (turn::<V>(row, &mut turned), extent::<V>(&turned)) };
                let Extent { least, most, doubt } = extent;
                let largest = most.max(-least);
                // Weights too small to divide by are zero.
                let inverse = Some(127.0 / largest).filter(|inverse| inverse.is_finite()).unwrap_or(0.0);
                let mut bytes = vec![0u8; 4 * weights.words.len()];
                bytes
                    .iter_mut()
                    .zip(&turned)
                    .for_each(|(byte, x)| *byte = (x * inverse + ROUND).to_bits() as u8);
                fours(&bytes, &mut weights.words);
                weights.scale = largest / 127.0 / gain + doubt;
                weights.total = bytes.iter().map(|byte| i32::from(*byte as i8)).sum::<i32>() as f32;
            }
        }
    }
}

/// Adding it rounds to a whole number, ties to even, and leaves that in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn fours(bytes: &[u8], words: &mut [u32]) {
    words.iter_mut().zip(bytes.as_chunks().0).for_each(|(word, four)| *word = u32::from_le_bytes(*four));
}

#[inline(always)]
fn pairs(row: &[f32], words: &mut [u32]) {
    let (pairs, last) = row.as_chunks::<2>();
    for (word, [low, high]) in words.iter_mut().zip(pairs) {
        *word = rounded(*low) >> 16 | rounded(*high);
    }
    if let ([x], Some(word)) = (last, words.get_mut(pairs.len())) {
        *word = rounded(*x) >> 16;
    }
}

/// The same by an instruction that takes numbers too small to be normal for zeros, as the one does that multiplies them.
///
/// # Safety
/// The instructions exist.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs512(row: &[f32], words: &mut [u32]) {
    use std::arch::x86_64::*;

    let (runs, rest) = row.as_chunks::<32>();
    let (lines, _) = words.as_chunks_mut::<16>();
    for (run, line) in runs.iter().zip(lines) {
        // SAFETY: the run is two registers long, the line one, and the words are the same 64 bytes by another name.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(run.as_ptr()), _mm512_loadu_ps(run.as_ptr().add(16)));
            let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(line.as_mut_ptr().cast(), pairs);
        }
    }
    pairs(rest, &mut words[16 * runs.len()..]);
}

/// Rows as the words that a product multiplies, and for whole numbers what each row's are worth.
pub(super) struct Words<'a> {
    words: Cow<'a, [u32]>,
    /// Where they begin: at a cache line, unless they are the rows themselves.
    start: usize,
    /// Words from one row to the next.
    pub(super) stride: usize,
    /// Of each row the value of 1 and the number that stands for 0.
    pub(super) scales: Vec<(f32, f32)>,
}

impl<'a> Words<'a> {
    /// Both rows and the words of a row are filled up with zeros to a multiple of what the product rounds to.
    pub(super) fn new(product: Product, x: Rows<'a>) -> Self {
        if let Product::Common(_, Precision::Float32) = product {
            let words = bytemuck::cast_slice(x.data).into();
            return Self { words, start: 0, stride: x.stride, scales: Vec::new() };
        }
        let groups = match product {
            // The same numbers as float32, with a zero behind an odd number of them.
            Product::Common(_, Precision::BFloat16) => x.width.next_multiple_of(2),
            #[cfg(target_arch = "x86_64")]
            Product::BfloatTiles | Product::Bfloats512 => x.width.div_ceil(2),
            _ => x.width.div_ceil(4),
        };
        let stride = groups.next_multiple_of(product.round());
        let len = x.count.next_multiple_of(product.round()) * stride;
        let mut words = vec![0; len + LINE - 1];
        let start = words.as_ptr().align_offset(4 * LINE).min(LINE - 1);
        words.truncate(start + len);
        let mut scales = Vec::new();
        let convert = Convert { product, x, stride, words: &mut words[start..], scales: &mut scales };
        // SAFETY: the kernel asks for nothing but the instructions.
        unsafe { product.simd().run(convert) }
        Self { words: words.into(), start, stride, scales }
    }

    /// One row after the other, those of zeros at the end among them.
    pub(super) fn rows(&self) -> &[u32] {
        &self.words[self.start..]
    }
}

/// Words of a cache line.
const LINE: usize = 16;

struct Convert<'a> {
    product: Product,
    x: Rows<'a>,
    stride: usize,
    words: &'a mut [u32],
    scales: &'a mut Vec<(f32, f32)>,
}

impl Kernel for Convert<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { product, x, stride, words, scales } = self;
        let (mut bytes, mut turned) = (vec![0; 4 * stride], vec![0.0; x.width]);
        for (index, words) in words.chunks_exact_mut(stride).take(x.count).enumerate() {
            match product {
                Product::Common(_, Precision::BFloat16) => {
                    words.iter_mut().zip(x.row(index)).for_each(|(word, x)| *word = rounded(*x));
                }
                #[cfg(target_arch = "x86_64")]
                Product::BfloatTiles => pairs(x.row(index), words),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the product is only chosen where the instruction exists.
                Product::Bfloats512 => unsafe { pairs512(x.row(index), words) },
                _ => {
                    // SAFETY: the caller's promise, and that the vector is as long as a row.
                    unsafe {
                        turn::<V>(x.row(index), &mut turned);
                        scales.push(quantize::<V>(&turned, &mut bytes));
                    }
                    fours(&bytes, words);
                }
            }
        }
    }
}

/// The bits of the nearest bfloat16, ties to even, as a float32; NaN stays NaN.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    if x.is_nan() { 0x7fc0_0000 } else { nearest }
}

/// Turns runs of as many numbers as a power of two divides their row into, at most 128, by a Hadamard matrix: all its
/// numbers are 1 or -1, so that a number far larger than the others is shared out among them, and the steps from the
/// least to the largest become small. Weights and rows turned alike have the same products times the size of a run, which
/// is returned: the error of whole numbers is a quarter, for some additions.
///
/// # Safety
/// The instructions of `V` exist; both rows are as long as each other.
#[inline(always)]
unsafe fn turn<V: Lanes>(row: &[f32], turned: &mut [f32]) -> f32 {
    let run = 1 << row.len().trailing_zeros().min(7);
    // Runs that fill no register of any processor are small enough to be left alone.
    if run < 16 {
        turned.copy_from_slice(row);
        return 1.0;
    }
    // SAFETY: the rows are a multiple of a run long, and so whole registers; what is turned in one go is at most a run.
    unsafe {
        let mut part = match run / V::WIDTH {
            1 => turn_registers::<V, 1>(row, turned),
            2 => turn_registers::<V, 2>(row, turned),
            4 => turn_registers::<V, 4>(row, turned),
            _ => turn_registers::<V, 8>(row, turned),
        };
        while part < run {
            part *= match run / part {
                2 => turn_parts::<V, 2>(turned, part),
                4 => turn_parts::<V, 4>(turned, part),
                _ => turn_parts::<V, 8>(turned, part),
            };
        }
    }
    run as f32
}

/// Turns every `N` registers that follow each other, from one row to another; gives how many numbers those hold.
///
/// # Safety
/// The instructions of `V` exist; both rows are as long as each other.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // counted loops are unrolled whole, and the registers stay registers
unsafe fn turn_registers<V: Lanes, const N: usize>(row: &[f32], turned: &mut [f32]) -> usize {
    let all = N * V::WIDTH;
    for (from, to) in row.chunks_exact(all).zip(turned.chunks_exact_mut(all)) {
        // SAFETY: both are `N` registers long.
        unsafe {
            let mut registers = [V::zero(); N];
            for n in 0..N {
                registers[n] = V::load(from.as_ptr().add(n * V::WIDTH)).turned();
            }
            turn_across(&mut registers);
            for n in 0..N {
                registers[n].store(to.as_mut_ptr().add(n * V::WIDTH));
            }
        }
    }
    all
}

/// Turns every `N` parts that follow each other as if each were one number; gives `N`.
///
/// # Safety
/// The instructions of `V` exist; parts are whole registers.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // as above
unsafe fn turn_parts<V: Lanes, const N: usize>(row: &mut [f32], part: usize) -> usize {
    for parts in row.chunks_exact_mut(N * part) {
        for place in (0..part).step_by(V::WIDTH) {
            // SAFETY: each of the parts has a register at this place.
            unsafe {
                let mut registers = [V::zero(); N];
                for n in 0..N {
                    registers[n] = V::load(parts.as_ptr().add(n * part + place));
                }
                turn_across(&mut registers);
                for n in 0..N {
                    registers[n].store(parts.as_mut_ptr().add(n * part + place));
                }
            }
        }
    }
    N
}

/// Turns registers as if each were one number.
///
/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
unsafe fn turn_across<V: Lanes, const N: usize>(registers: &mut [V; N]) {
    for bit in 0..N.ilog2() {
        for n in 0..N {
            let other = n | 1 << bit;
            if other != n {
                let (a, b) = (registers[n], registers[other]);
                // SAFETY: the caller's promise.
                (registers[n], registers[other]) = unsafe { (a.add(b), a.sub(b)) };
            }
        }
    }
}

/// How far the numbers of a row reach to both sides of 0.
struct Extent {
    least: f32,
    most: f32,
    /// NaN if a number is not finite, else 0.
    doubt: f32,
}

/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
unsafe fn extent<V: Lanes>(row: &[f32]) -> Extent {
    let whole = row.len() / V::WIDTH * V::WIDTH;
    // Zeros change nothing; 16 is the widest register.
    let mut rest = [0.0; 16];
    rest[..row.len() - whole].copy_from_slice(&row[whole..]);
    let mut ends = [[0.0; 16]; 3];
    // SAFETY: whole registers are read where there are so many numbers.
    unsafe {
        let see =
            |[least, most, doubt]: [V; 3], x: V| [x.min(least), x.max(most), doubt.add_product(x, V::zero())];
        // Four of each, or every register would wait for the one before.
        let mut seen = [[V::zero(); 3]; 4];
        let fours = whole / (4 * V::WIDTH) * (4 * V::WIDTH);
        for place in (0..fours).step_by(4 * V::WIDTH) {
            for (n, ends) in seen.iter_mut().enumerate() {
                *ends = see(*ends, V::load(row.as_ptr().add(place + n * V::WIDTH)));
            }
        }
        for place in (fours..whole).step_by(V::WIDTH) {
            seen[0] = see(seen[0], V::load(row.as_ptr().add(place)));
        }
        seen[0] = see(seen[0], V::load(rest.as_ptr()));
        let join = |a: [V; 3], b: [V; 3]| [a[0].min(b[0]), a[1].max(b[1]), a[2].add(b[2])];
        let all = join(join(seen[0], seen[1]), join(seen[2], seen[3]));
        all.iter().zip(&mut ends).for_each(|(end, to)| end.store(to.as_mut_ptr()));
    }
    let [least, most, doubt] = ends;
    Extent {
        least: joined(least, |a, b| if a < b { a } else { b }),
        most: joined(most, |a, b| if a > b { a } else { b }),
        doubt: joined(doubt, |a, b| a + b),
    }
}

/// A row as bytes between its least number, or 0, and its largest, or 0; 0 itself is exact. Gives the value of 1 and the
/// byte that stands for 0. A row that is not finite is worth NaN.
///
/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
unsafe fn quantize<V: Lanes>(row: &[f32], bytes: &mut [u8]) -> (f32, f32) {
    // SAFETY: the caller's promise.
    let Extent { least, most, doubt } = unsafe { extent::<V>(row) };
    let scale = (most - least) / 255.0;
    let inverse = 1.0 / scale;
    // Numbers that differ by less than 1e-36 are one number.
    if !inverse.is_finite() {
        bytes.fill(0);
        return (doubt, 0.0);
    }
    let zero = (-least * inverse).round();
    for (byte, x) in bytes.iter_mut().zip(row) {
        // Rounding may have moved the zero, and with it the ends, by a half.
        let place = x * inverse + zero;
        let place = if place > 0.0 { place } else { 0.0 };
        let place = if place < 255.0 { place } else { 255.0 };
        *byte = (place + ROUND).to_bits() as u8;
    }
    (scale + doubt, zero)
}
