//! Rows of few logits, side by side: a lane is a row, and nothing is added across lanes.
//!
//! A row of four logits cannot fill a vector; sixty-four of them fill many. The rows of
//! a tile are transposed, and from there on every step runs over whole vectors.

use ndarray::ArrayView2;

use crate::elements::Format;
use crate::kernel;
use crate::logits::Mass;
use crate::passes::gather;
use crate::real::{Divisor, Real, Scale, Unit};
use crate::simd::{Cpu, Level, dispatch};

/// Rows are packed up to this many classes; from there on one row fills vectors enough.
pub const MOST: usize = 256;

/// What one pass over up to `W` rows finds: see `logits::Mass`, row by row.
pub struct Found<T, const W: usize> {
    /// The largest logit.
    pub max: [T; W],
    /// Where it stands first.
    pub at: [u32; W],
    /// Σ exp((z − max) / T) over the others; NaN if the row holds NaN or +∞, or has no finite logit.
    pub rest: [f64; W],
    /// Σ exp((z − max) / T) (max − z) / T
    pub spread: [f64; W],
    /// What kept exponentials are multiplied by to become shares, in two parts.
    shares: [[T; W]; 2],
}

impl<T: Real, const W: usize> Default for Found<T, W> {
    /// Of rows without logits.
    fn default() -> Self {
        let (max, shares) = ([T::LOW; W], [[T::ZERO; W]; 2]);
        Self { max, at: [0; W], rest: [0.0; W], spread: [0.0; W], shares }
    }
}

impl<T: Real, const W: usize> Found<T, W> {
    /// What a pass over a whole row found.
    pub fn set(&mut self, i: usize, mass: &Mass<T>) {
        (self.max[i], self.at[i]) = (mass.max, mass.at as u32);
        (self.rest[i], self.spread[i]) = (mass.rest(), mass.spread);
    }
}

/// The larger of each pair, and the class if that is the second.
#[inline(always)]
fn raise<T: Real, const W: usize>(
    from: &[T; W],
    z: &[T; W],
    to: &mut [T; W],
    at: &mut [u32; W],
    class: usize,
) {
    for i in 0..W {
        let new = z[i] > from[i];
        to[i] = if new { z[i] } else { from[i] };
        at[i] = if new { class as u32 } else { at[i] };
    }
}

/// Up to `W` rows of up to `C` logits, class by class.
///
/// Nothing else: beside what is indexed by class, a compiler would not know what is overwritten.
pub struct Tile<T, const W: usize, const C: usize = MOST> {
    z: [[T; W]; C],
}

impl<T: Real, const W: usize, const C: usize> Default for Tile<T, W, C> {
    /// Of zeros.
    fn default() -> Self {
        Self { z: [[T::ZERO; W]; C] }
    }
}

impl<T: Real, const W: usize, const C: usize> Tile<T, W, C> {
    /// Take rows of logits out of a view.
    #[inline(always)]
    pub fn take<F: Format<Real = T>>(
        &mut self,
        cpu: impl Cpu,
        part: &ArrayView2<'_, F::Store>,
        stored: &mut Vec<F::Store>,
        wide: &mut [T],
    ) {
        let (rows, classes) = part.dim();
        let stored = part.to_slice().unwrap_or_else(|| {
            gather(part, 0..rows, 0, classes, stored);
            stored
        });
        self.fill(F::widen(cpu, stored, wide), classes);
    }

    /// Take rows of `classes` logits, one after the other.
    #[inline(always)]
    fn fill(&mut self, rows: &[T], classes: usize) {
        let (fours, others) = rows.split_at(rows.len() / (4 * classes) * (4 * classes));
        for (g, four) in fours.chunks_exact(4 * classes).enumerate() {
            let (a, rest) = four.split_at(classes);
            let (b, rest) = rest.split_at(classes);
            let (c, d) = rest.split_at(classes);
            let columns = self.z.as_chunks_mut::<4>().0;
            let blocks =
                a.as_chunks().0.iter().zip(b.as_chunks().0).zip(c.as_chunks().0).zip(d.as_chunks().0);
            for ((((a, b), c), d), lanes) in blocks.zip(columns) {
                for (column, lanes) in T::transpose([*a, *b, *c, *d]).iter().zip(lanes) {
                    lanes.as_chunks_mut::<4>().0[g] = *column;
                }
            }
            for c in classes / 4 * 4..classes {
                (0..4).for_each(|i| self.z[c][4 * g + i] = four[i * classes + c]);
            }
        }
        let done = fours.len() / classes;
        for (i, row) in others.chunks_exact(classes).enumerate() {
            row.iter().zip(&mut self.z).for_each(|(&z, lanes)| lanes[done + i] = z);
        }
    }

    /// Give back what stands in the lanes, row after row.
    #[inline(always)]
    pub fn spill(&self, rows: &mut [T], classes: usize) {
        let done = rows.len() / (4 * classes) * 4;
        let (fours, others) = rows.split_at_mut(done * classes);
        for (g, four) in fours.chunks_exact_mut(4 * classes).enumerate() {
            for (q, lanes) in self.z[..classes].as_chunks::<4>().0.iter().enumerate() {
                let block = T::transpose(lanes.each_ref().map(|lanes| lanes.as_chunks::<4>().0[g]));
                for (row, values) in four.chunks_exact_mut(classes).zip(block) {
                    row.as_chunks_mut::<4>().0[q] = values;
                }
            }
            for c in classes / 4 * 4..classes {
                (0..4).for_each(|i| four[i * classes + c] = self.z[c][4 * g + i]);
            }
        }
        for (i, row) in others.chunks_exact_mut(classes).enumerate() {
            row.iter_mut().zip(&self.z).for_each(|(z, lanes)| *z = lanes[done + i]);
        }
    }

    /// The largest of each row and where it stands first. A NaN in front stays the largest.
    #[inline(always)]
    pub fn peaks(&self, classes: usize, found: &mut Found<T, W>) {
        let mut other = [T::ZERO; W];
        found.max = self.z[0];
        found.at = [0; W];
        // To and fro between two arrays: in place, it would be compiled to conditional stores.
        for c in (1..classes).step_by(2) {
            raise(&found.max, &self.z[c], &mut other, &mut found.at, c);
            if c + 1 < classes {
                raise(&other, &self.z[c + 1], &mut found.max, &mut found.at, c + 1);
            } else {
                found.max = other;
            }
        }
    }

    /// The first NaN of each row, or `MOST`.
    #[inline(always)]
    pub fn nans(&self, classes: usize) -> [u32; W] {
        let mut first = [MOST as u32; W];
        for (c, z) in self.z[..classes].iter().enumerate().rev() {
            for i in 0..W {
                first[i] = if z[i].is_nan() { c as u32 } else { first[i] };
            }
        }
        first
    }

    /// The logits of each class.
    pub fn classes(&self, classes: usize) -> impl Iterator<Item = &[T; W]> {
        self.z[..classes].iter()
    }

    /// What stands in the lanes of each class.
    pub fn classes_mut(&mut self, classes: usize) -> impl Iterator<Item = &mut [T; W]> {
        self.z[..classes].iter_mut()
    }

    /// What stands in the lanes of one class.
    #[inline(always)]
    pub fn class_mut(&mut self, class: usize) -> &mut [T; W] {
        &mut self.z[class]
    }

    /// All of `found`. `KEEP` leaves the exponentials where the logits stood, for `softmax`.
    #[inline(always)]
    pub fn masses<const SPREAD: bool, const KEEP: bool>(
        &mut self,
        cpu: impl Cpu,
        scale: &Scale<T>,
        classes: usize,
        found: &mut Found<T, W>,
    ) {
        self.peaks(classes, found);
        let (mut base, mut magic, mut low) = ([T::ZERO; W], [T::ZERO; W], [T::ZERO; W]);
        for i in 0..W {
            let unit = Unit::new(cpu, scale, found.max[i]);
            (base[i], magic[i], low[i]) = (unit.base, unit.magic, unit.low);
        }
        let unit = |i: usize| Unit { base: base[i], magic: magic[i], low: low[i] };
        let (mut rest, mut lost) = ([0.0; W], [0.0; W]);
        let (mut spread, mut top) = ([0.0; W], [T::ZERO; W]);
        for first in (0..classes).step_by(4) {
            // Each exponential is a power of two and a part that is rounded less than their sum
            // would be: with few classes errors do not even out. Four are added before that is widened.
            let (mut powers, mut parts) = ([[T::ZERO; W]; 2], [[T::ZERO; W]; 2]);
            let mut depths = [T::ZERO; W];
            for c in first..classes.min(first + 4) {
                let z = &mut self.z[c];
                let (powers, parts) = (&mut powers[(c - first) / 2], &mut parts[(c - first) / 2]);
                for i in 0..W {
                    let (power, part, depth) = unit(i).exp_in_parts(cpu, scale, found.max[i], z[i]);
                    let is_top = found.at[i] == c as u32;
                    powers[i] = powers[i] + if is_top { T::ZERO } else { power };
                    parts[i] = parts[i] + if is_top { T::ZERO } else { part };
                    let term = power + part;
                    if SPREAD {
                        depths[i] = depths[i] + if is_top { T::ZERO } else { term * depth };
                    }
                    if KEEP {
                        top[i] = top[i] + if is_top { term } else { T::ZERO };
                        z[i] = term;
                    }
                }
            }
            for i in 0..W {
                let more = (powers[0][i] + powers[1][i]).to_f64() + (parts[0][i] + parts[1][i]).to_f64();
                let sum = rest[i] + more;
                if T::KEEPS_LOST {
                    let part = sum - rest[i];
                    lost[i] += (rest[i] - (sum - part)) + (more - part);
                }
                rest[i] = sum;
                if SPREAD {
                    spread[i] += depths[i].to_f64();
                }
            }
        }
        if T::KEEPS_LOST {
            for i in 0..W {
                rest[i] += lost[i];
            }
        }
        if KEEP {
            for i in 0..W {
                let share = T::divisor(top[i].to_f64() + rest[i]);
                (found.shares[0][i], found.shares[1][i]) = (share.0, share.1);
            }
        }
        let mut parts = [[T::ZERO; W]; 2];
        for i in 0..W {
            (parts[0][i], parts[1][i]) = unit(i).per_max_parts(cpu, scale, found.max[i]);
        }
        for i in 0..W {
            let per_max = T::join_inverse((parts[0][i], parts[1][i]), scale) * T::PER_UNIT;
            found.rest[i] = rest[i] * per_max;
            found.spread[i] = spread[i] * per_max;
        }
    }

    /// Kept exponentials become probabilities.
    #[inline(always)]
    pub fn softmax(&mut self, cpu: impl Cpu, classes: usize, found: &Found<T, W>) {
        for z in &mut self.z[..classes] {
            for i in 0..W {
                z[i] = T::share(cpu, z[i], Divisor(found.shares[0][i], found.shares[1][i]));
            }
        }
    }

    /// Multiply each row by a factor.
    #[inline(always)]
    pub fn multiply(&mut self, classes: usize, factors: &[T; W]) {
        for z in &mut self.z[..classes] {
            for i in 0..W {
                z[i] = z[i] * factors[i];
            }
        }
    }

    /// Logits become log-probabilities; `above` is ln(1 + rest).
    #[inline(always)]
    pub fn log_softmax(&mut self, scale: &Scale<T>, classes: usize, max: &[T; W], above: &[T; W]) {
        for z in &mut self.z[..classes] {
            for i in 0..W {
                z[i] = scale.below(z[i], max[i], Scale::far(max[i])) - above[i];
            }
        }
    }
}

/// Rows and classes of a small array.
const FEW: usize = 8;
const SHORT: usize = 16;

/// Softmax or log-softmax in place of up to 8 rows of up to 16 logits; false if there are more.
///
/// What `passes` does, to the bit, without what only larger arrays need: a call for a
/// handful of logits takes as long as finding out what they are.
pub fn small_softmax<T: Real>(level: Level, z: &mut [T], classes: usize, log: bool) -> bool {
    let fits = (1..=SHORT).contains(&classes) && z.len() <= FEW * classes;
    if fits {
        dispatch(level, Small((z, classes, log)));
    }
    fits
}

type Given<'z, T> = (&'z mut [T], usize, bool);

kernel!(Small<'z; T: Real;>(Given<'z, T>) -> () = small);

#[inline(always)]
fn small<T: Real>(cpu: impl Cpu, (z, classes, log): Given<'_, T>) {
    let scale = Scale::new(1.0);
    let (mut tile, mut found) = (Tile::<T, FEW, SHORT>::default(), Found::default());
    tile.fill(z, classes);
    if log {
        tile.masses::<false, false>(cpu, &scale, classes, &mut found);
        let above = T::log1p(cpu, &found.rest).map(T::from_f64);
        tile.log_softmax(&scale, classes, &found.max, &above);
    } else {
        tile.masses::<false, true>(cpu, &scale, classes, &mut found);
        tile.softmax(cpu, classes, &found);
    }
    tile.spill(z, classes);
    one_nan(z);
}

/// One NaN for all: which one arithmetic makes depends on the CPU.
#[inline(always)]
pub fn one_nan<T: Real>(numbers: &mut [T]) {
    for x in numbers {
        *x = x.with_one_nan();
    }
}
