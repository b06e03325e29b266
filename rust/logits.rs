//! A row of many logits, read once: its largest, and the mass of the others.
//!
//! With `a = max z` and `s = Σ exp((z − a) / T)` over the others,
//! `lse = a / T + ln(1 + s)`, `log_softmax = (z − a) / T − ln(1 + s)`,
//! `softmax = exp((z − a) / T) / (1 + s)` (Blanchard, Higham & Higham 2021).
//! Keeping the largest out of the sum makes a tiny `s` as precise as a large one.
//!
//! The row comes in blocks that stay in the first cache: a block's largest is
//! found first, then its exponentials are summed in a unit that fits the largest so
//! far (Milakov & Gimelshein 2018). Few classes: see `packed`.

use crate::real::{Real, Scale, Unit, exp};
use crate::simd::Cpu;

/// Virtual lanes of every sum, whatever the CPU has.
const LANES: usize = 16;
/// What is looked through for its largest before it is summed: 4 KiB.
pub const BLOCK: usize = 1024;

/// What one pass over a row, or a part of it, finds.
#[derive(Clone, Copy, Debug)]
pub struct Mass<T> {
    /// The largest logit; −∞ if all are, or if there are none.
    pub max: T,
    /// Where it stands first.
    pub at: usize,
    /// Σ exp((z − max) / T) over the others; NaN if the row holds NaN or +∞.
    rest: f64,
    /// What rounding took from `rest`.
    lost: f64,
    /// Σ exp((z − max) / T) (max − z) / T
    pub spread: f64,
}

impl<T: Real> Mass<T> {
    /// Of no logits.
    pub const NONE: Self = Self { max: T::LOW, at: 0, rest: 0.0, lost: 0.0, spread: 0.0 };

    /// Σ exp((z − max) / T) over all but the first largest; NaN if there is no finite largest.
    #[inline(always)]
    pub fn rest(&self) -> f64 {
        if self.max.finite() { self.rest + self.lost } else { f64::NAN }
    }

    #[inline(always)]
    fn add(&mut self, rest: f64) {
        // Knuth's two-sum: thousands of equal parts add up without a drift.
        let sum = self.rest + rest;
        let part = sum - self.rest;
        self.lost += (self.rest - (sum - part)) + (rest - part);
        self.rest = sum;
    }

    /// Count from a larger `max`: the largest so far becomes one of the others.
    fn raise(&mut self, scale: &Scale<T>, max: T) {
        if self.max > T::LOW {
            let (from, to) = (self.max.to_f64(), max.to_f64());
            let depth = to - from;
            let part = depth - to;
            let lost = (to - (depth - part)) - (from + part);
            let factor = exp(-depth * scale.coolness) * (1.0 - lost * scale.coolness);
            self.spread = (self.spread + (self.rest() + 1.0) * (depth * scale.coolness)) * factor;
            self.add(1.0);
            self.rest *= factor;
            self.lost *= factor;
        }
        self.max = max;
    }

    /// Join what was found `offset` classes further on in the same row.
    pub fn join(&mut self, scale: &Scale<T>, mut other: Self, offset: usize) {
        if other.max > self.max {
            self.raise(scale, other.max);
            self.at = offset + other.at;
        } else if other.max > T::LOW {
            other.raise(scale, self.max);
        }
        self.add(other.rest);
        self.lost += other.lost;
        self.spread += other.spread;
    }
}

/// Join each number of the first half with its partner in the second; how many are left.
///
/// Loops over memory, from one place to another, vectorise whatever the CPU's width, and
/// the tree they build depends on the number of terms alone.
#[inline(always)]
fn join_halves<A: Copy, B>(
    from: &[A],
    to: &mut [B],
    widen: impl Fn(A) -> B,
    join: impl Fn(A, A) -> B,
) -> usize {
    let half = from.len().div_ceil(2).next_multiple_of(LANES).min(from.len());
    let (low, high) = from.split_at(half);
    let (pairs, alone) = to[..half].split_at_mut(high.len());
    for ((to, &a), &b) in pairs.iter_mut().zip(low).zip(high) {
        *to = join(a, b);
    }
    for (to, &a) in alone.iter_mut().zip(&low[high.len()..]) {
        *to = widen(a);
    }
    half
}

/// Join what is left of a tree, up to `LANES`; `none` changes nothing.
#[inline(always)]
fn join_last<T: Copy>(left: &[T], none: T, join: impl Fn(T, T) -> T) -> T {
    let mut lanes = [none; LANES];
    lanes[..left.len()].copy_from_slice(left);
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Memory for the trees of one block.
pub struct Trees<T> {
    terms: [T; BLOCK],
    depths: [T; BLOCK],
    /// Each level of a tree stands after the one before.
    narrow: [T; BLOCK + 4 * LANES],
    wide: [f64; BLOCK],
}

impl<T: Real> Default for Trees<T> {
    /// Of zeros.
    fn default() -> Self {
        let (terms, depths, narrow) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK], [T::ZERO; BLOCK + 4 * LANES]);
        Self { terms, depths, narrow, wide: [0.0; BLOCK] }
    }
}

impl<T: Real> Trees<T> {
    /// The largest of up to `BLOCK` logits, −∞ of none. A NaN among them may hide it, or be it.
    #[inline(always)]
    pub fn largest(&mut self, block: &[T]) -> T {
        let larger = |a: T, b: T| if b > a { b } else { a };
        let tree = &mut self.narrow;
        let (mut begin, mut n) = (0, join_halves(block, tree, |z| z, larger));
        while n > LANES {
            let (done, free) = tree.split_at_mut(begin + n);
            (begin, n) = (begin + n, join_halves(&done[begin..], free, |z| z, larger));
        }
        join_last(&tree[begin..begin + n], T::LOW, larger)
    }
}

/// Where a logit stands first in a block that holds it.
#[inline(always)]
pub fn find<T: Real>(block: &[T], z: T) -> usize {
    for (i, group) in block.chunks(4 * LANES).enumerate() {
        let mut found = false;
        group.iter().for_each(|&other| found |= other == z);
        if found {
            return i * 4 * LANES + group.iter().position(|&other| other == z).unwrap_or(0);
        }
    }
    0
}

/// The sum of some terms. Up to eight are added in their own precision, as a tree; from
/// there on it is double precision.
#[inline(always)]
fn sum<T: Real>(terms: &[T], narrow: &mut [T], tree: &mut [f64]) -> f64 {
    let (pairs, fours) = narrow.split_at_mut(BLOCK / 2);
    let n = join_halves(terms, pairs, |a| a, |a, b| a + b);
    let n = join_halves(&pairs[..n], fours, |a| a, |a, b| a + b);
    let (mut begin, mut n) = (0, join_halves(&fours[..n], tree, T::to_f64, |a, b| (a + b).to_f64()));
    while n > LANES {
        let (done, free) = tree.split_at_mut(begin + n);
        (begin, n) = (begin + n, join_halves(&done[begin..], free, |a| a, |a, b| a + b));
    }
    join_last(&tree[begin..begin + n], 0.0, |a, b| a + b)
}

/// Reads a row block by block.
#[derive(Clone, Copy)]
pub struct Scan<T> {
    mass: Mass<T>,
    unit: Unit<T>,
    per_max: f64,
    seen: usize,
}

impl<T: Real> Scan<T> {
    /// Before the first block.
    pub const BEGIN: Self = Self { mass: Mass::NONE, unit: Unit::NONE, per_max: 1.0, seen: 0 };

    /// What was found.
    pub fn mass(&self) -> Mass<T> {
        self.mass
    }

    /// Read the next block, of `BLOCK` logits unless it is the last. `SPREAD`: that sum is wanted, too.
    #[inline(always)]
    pub fn read<const SPREAD: bool>(
        &mut self,
        cpu: impl Cpu,
        scale: &Scale<T>,
        block: &[T],
        trees: &mut Trees<T>,
    ) {
        let mass = &mut self.mass;
        let max = trees.largest(block);
        let mut top = usize::MAX;
        if max > mass.max {
            top = find(block, max);
            mass.raise(scale, max);
            mass.at = self.seen + top;
            self.unit = Unit::new(cpu, scale, max);
            self.per_max = self.unit.per_max(cpu, scale, max);
        }
        self.seen += block.len();
        if !mass.max.finite() {
            // Nothing but −∞ so far, and perhaps NaN; or a +∞.
            if mass.max > T::LOW || block.iter().any(|z| z.is_nan()) {
                mass.rest = f64::NAN;
            }
            return;
        }
        let (unit, max) = (self.unit, mass.max);
        let Trees { terms, depths, narrow, wide } = trees;
        let terms = &mut terms[..block.len()];
        let depths = &mut depths[..block.len()];
        if SPREAD {
            for ((term, spread), &z) in terms.iter_mut().zip(&mut *depths).zip(block) {
                let (exponential, depth) = unit.exp_and_depth(cpu, scale, max, z);
                (*term, *spread) = (exponential, exponential * depth);
            }
        } else {
            for (term, &z) in terms.iter_mut().zip(block) {
                *term = unit.exp(cpu, scale, z);
            }
        }
        if let Some(top) = terms.get_mut(top) {
            *top = T::ZERO;
        }
        mass.add(sum(terms, narrow, wide) * self.per_max);
        if SPREAD {
            mass.spread += sum(depths, narrow, wide) * self.per_max;
        }
    }
}

/// Replace logits by their softmax, in place; the loss at `target` in nats.
#[inline(always)]
pub fn softmax_in_place(cpu: impl Cpu, row: &mut [f32], target: usize, trees: &mut Trees<f32>) -> f32 {
    let scale = Scale::new(1.0);
    let mut scan = Scan::BEGIN;
    for block in row.chunks(BLOCK) {
        scan.read::<false>(cpu, &scale, block, trees);
    }
    let mass = scan.mass();
    let loss = f64::from(mass.max - row[target]) + f32::log1p(cpu, &[mass.rest()])[0];
    let unit = Unit::new(cpu, &scale, mass.max);
    let total = f32::divisor(unit.total(cpu, &scale, mass.max, mass.rest()));
    for z in row {
        *z = f32::share(cpu, unit.exp(cpu, &scale, *z), total);
    }
    loss as f32
}
