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
/// Terms that are added together.
const GROUP: usize = 8 * LANES;

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

/// Join lanes, the first half with the second, until one is left.
#[inline(always)]
fn join<T: Copy, const N: usize>(mut lanes: [T; N], join: impl Fn(T, T) -> T) -> T {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest of some logits, −∞ of none. A NaN among them may hide it, or be it.
#[inline(always)]
pub fn largest<T: Real>(block: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    // To and fro between two sets of lanes: in place, it would be compiled to conditional stores.
    let (mut lanes, mut other) = ([T::LOW; 2 * LANES], [T::LOW; 2 * LANES]);
    let (groups, rest) = block.as_chunks::<{ 4 * LANES }>();
    for group in groups {
        for i in 0..2 * LANES {
            other[i] = larger(lanes[i], group[i]);
        }
        for i in 0..2 * LANES {
            lanes[i] = larger(other[i], group[2 * LANES + i]);
        }
    }
    let mut last = [T::LOW; 4 * LANES];
    last[..rest.len()].copy_from_slice(rest);
    for i in 0..2 * LANES {
        other[i] = larger(lanes[i], last[i]);
    }
    for i in 0..2 * LANES {
        lanes[i] = larger(other[i], last[2 * LANES + i]);
    }
    join(lanes, larger)
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

/// The sum of some terms. Eight are added in their own precision, as a tree; from
/// there on it is double precision.
#[inline(always)]
fn sum<T: Real>(terms: &[T]) -> f64 {
    let (mut total, mut lost) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |group: &[T; GROUP]| {
        let [a, b, c, d, e, f, g, h] = group.as_chunks::<LANES>().0 else { return };
        for i in 0..LANES {
            let eight = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]));
            let (more, sum) = (eight.to_f64(), total[i] + eight.to_f64());
            if T::KEEPS_LOST {
                let part = sum - total[i];
                lost[i] += (total[i] - (sum - part)) + (more - part);
            }
            total[i] = sum;
        }
    };
    let (groups, rest) = terms.as_chunks::<GROUP>();
    groups.iter().for_each(&mut add);
    if !rest.is_empty() {
        let mut last = [T::ZERO; GROUP];
        last[..rest.len()].copy_from_slice(rest);
        add(&last);
    }
    join(total, |a, b| a + b) + join(lost, |a, b| a + b)
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
    ///
    /// Leaves its exponentials in `terms`: those of a row of one block, in the unit of the row.
    #[inline(always)]
    pub fn read<const SPREAD: bool>(
        &mut self,
        cpu: impl Cpu,
        scale: &Scale<T>,
        block: &[T],
        terms: &mut [T],
        depths: &mut [T],
    ) {
        let mass = &mut self.mass;
        let max = largest(block);
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
        let terms = &mut terms[..block.len()];
        if SPREAD {
            let depths = &mut depths[..block.len()];
            for ((term, spread), &z) in terms.iter_mut().zip(&mut *depths).zip(block) {
                let (exponential, depth) = unit.exp_and_depth(cpu, scale, max, z);
                (*term, *spread) = (exponential, exponential * depth);
            }
        } else {
            for (term, &z) in terms.iter_mut().zip(block) {
                *term = unit.exp(cpu, scale, z);
            }
        }
        let peak = terms.get_mut(top).map(|top| std::mem::replace(top, T::ZERO));
        mass.add(sum(terms) * self.per_max);
        if let Some(peak) = peak {
            terms[top] = peak;
        }
        if SPREAD {
            mass.spread += sum(&depths[..block.len()]) * self.per_max;
        }
    }
}

/// Replace logits by their softmax, in place; the loss at `target` in nats. `terms` is memory for a block.
#[inline(always)]
pub fn softmax_in_place(cpu: impl Cpu, row: &mut [f32], target: usize, terms: &mut [f32]) -> f32 {
    let scale = Scale::new(1.0);
    let mut scan = Scan::BEGIN;
    for block in row.chunks(BLOCK) {
        scan.read::<false>(cpu, &scale, block, terms, &mut []);
    }
    let mass = scan.mass();
    let loss = f64::from(mass.max - row[target]) + f32::log1p(cpu, &[mass.rest()])[0];
    let unit = Unit::new(cpu, &scale, mass.max);
    let total = f32::divisor(unit.total(cpu, &scale, mass.max, mass.rest()));
    if row.len() > BLOCK {
        // Loops, not `for_each`: a closure of its own would be compiled for no level of CPU.
        for z in row {
            *z = f32::share(cpu, unit.exp(cpu, &scale, *z), total);
        }
    } else if mass.max.finite() {
        for (z, &mut term) in row.iter_mut().zip(terms) {
            *z = f32::share(cpu, term, total);
        }
    } else {
        row.fill(f32::NAN);
    }
    loss as f32
}
