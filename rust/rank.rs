//! The order of logits: decisions, margins and the k largest, without a softmax.
//!
//! Ties go to the lowest class. A NaN counts as the largest, as in NumPy.

use std::cmp::Ordering;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::elements::Format;
use crate::kernel;
use crate::logits::{BLOCK, find, largest};
use crate::packed::{Found, MOST, Tile};
use crate::passes::Blocks;
use crate::real::Real;
use crate::simd::{Cpu, Level, dispatch};
use crate::threads::share;

/// About how many logits make a piece of work.
const PIECE: usize = 1 << 16;
/// Looked through at once: rows of few classes, or lanes of a row of many.
const WIDE: usize = 64;

/// The two largest in each lane, and whether a NaN went by.
#[derive(Clone, Copy)]
struct Lanes<T> {
    first: [T; WIDE],
    second: [T; WIDE],
    odd: [bool; WIDE],
}

impl<T: Real> Lanes<T> {
    const NONE: Self = Self { first: [T::LOW; WIDE], second: [T::LOW; WIDE], odd: [false; WIDE] };

    #[inline(always)]
    fn read(&mut self, z: &[T; WIDE]) {
        for i in 0..WIDE {
            let (z, first) = (z[i], self.first[i]);
            let lower = if z > first { first } else { z };
            self.first[i] = if z > first { z } else { first };
            self.second[i] = if lower > self.second[i] { lower } else { self.second[i] };
            self.odd[i] |= z.is_nan();
        }
    }

    #[inline(always)]
    fn margin(&self, i: usize) -> T {
        if self.odd[i] || !self.first[i].finite() { T::NAN } else { self.first[i] - self.second[i] }
    }
}

/// The largest of a block, and whether it holds NaN.
#[inline(always)]
fn peak<T: Real>(block: &[T]) -> (T, bool) {
    let mut odd = false;
    block.iter().for_each(|&z| odd |= z.is_nan());
    (largest(block), odd)
}

/// Cut rows into pieces of work, each with its part of `out`: (first row, rows, part).
fn pieces<T>(rows: usize, classes: usize, out: &mut [T]) -> Vec<(usize, &mut [T])> {
    let step = (PIECE / classes.max(1)).clamp(1, rows.max(1)).next_multiple_of(if classes > MOST {
        1
    } else {
        WIDE
    });
    out.chunks_mut(step).enumerate().map(|(i, part)| (i * step, part)).collect()
}

/// Memory of one thread: what is gathered, and what it is as numbers.
type Scratch<F> = (Vec<<F as Format>::Store>, Vec<<F as Format>::Real>);

/// Logits, the first row, where the answers go, and memory.
type Given<'z, 's, F, O> = (&'z ArrayView2<'z, <F as Format>::Store>, usize, O, &'s mut Scratch<F>);

kernel!(PackedArgmax<'z, 's, 'o; F: Format;>(Given<'z, 's, F, &'o mut [i64]>) -> () = packed_argmax::<F>);
kernel!(RowArgmax<'z, 's, 'o; F: Format;>(Given<'z, 's, F, &'o mut [i64]>) -> () = row_argmax::<F>);
kernel!(PackedMargin<'z, 's, 'o; F: Format;>(Given<'z, 's, F, &'o mut [F::Store]>) -> () = packed_margin::<F>);
kernel!(RowMargin<'z, 's, 'o; F: Format;>(Given<'z, 's, F, &'o mut [F::Store]>) -> () = row_margin::<F>);
kernel!(RowTopK<'z, 's, 'o; F: Format;>(Given<'z, 's, F, ArrayViewMut2<'o, i64>>) -> () = row_top_k::<F>);

/// The index of each row's largest logit. There is at least one class.
pub fn argmax<F: Format>(level: Level, threads: usize, z: &ArrayView2<'_, F::Store>, out: &mut [i64]) {
    let (rows, classes) = z.dim();
    share(threads, pieces(rows, classes, out), Scratch::<F>::default, |scratch, (first, out)| {
        if classes <= MOST {
            dispatch(level, PackedArgmax::<F>((z, first, out, scratch)));
        } else {
            dispatch(level, RowArgmax::<F>((z, first, out, scratch)));
        }
    });
}

#[inline(always)]
fn packed_argmax<F: Format>(cpu: impl Cpu, (z, first, out, (stored, wide)): Given<'_, '_, F, &mut [i64]>) {
    let classes = z.dim().1;
    let (mut tile, mut found) = (Tile::<F::Real, WIDE>::default(), Found::default());
    wide.resize(WIDE * classes, F::Real::ZERO);
    for (i, out) in out.chunks_mut(WIDE).enumerate() {
        let first = first + i * WIDE;
        let part = z.slice(ndarray::s![first..first + out.len(), ..]);
        tile.take::<F>(cpu, &part, stored, wide);
        tile.peaks(classes, &mut found);
        let nans = tile.nans(classes);
        for (i, out) in out.iter_mut().enumerate() {
            *out = i64::from(if nans[i] < MOST as u32 { nans[i] } else { found.at[i] });
        }
    }
}

#[inline(always)]
fn row_argmax<F: Format>(cpu: impl Cpu, (z, first, out, (stored, wide)): Given<'_, '_, F, &mut [i64]>) {
    wide.resize(BLOCK, F::Real::ZERO);
    // The largest so far of each row; NaN once that is decided.
    let mut best = vec![F::Real::LOW; out.len()];
    out.fill(0);
    let mut blocks = Blocks::new(z, first..first + out.len(), stored);
    while let Some((row, begin, block)) = blocks.next() {
        let (best, out) = (&mut best[row - first], &mut out[row - first]);
        let block = F::widen(cpu, block, wide);
        let (max, odd) = peak(block);
        if best.is_nan() {
        } else if odd {
            *best = F::Real::NAN;
            *out = (begin + block.iter().position(|&z| z.is_nan()).unwrap_or(0)) as i64;
        } else if max > *best {
            *best = max;
            *out = (begin + find(block, max)) as i64;
        }
    }
}

/// The largest minus the second largest logit of each row; NaN where there is no finite largest.
pub fn margin<F: Format>(level: Level, threads: usize, z: &ArrayView2<'_, F::Store>, out: &mut [F::Store]) {
    let (rows, classes) = z.dim();
    share(threads, pieces(rows, classes, out), Scratch::<F>::default, |scratch, (first, out)| {
        if classes <= MOST {
            dispatch(level, PackedMargin::<F>((z, first, out, scratch)));
        } else {
            dispatch(level, RowMargin::<F>((z, first, out, scratch)));
        }
    });
}

#[inline(always)]
fn packed_margin<F: Format>(
    cpu: impl Cpu,
    (z, first, out, (stored, wide)): Given<'_, '_, F, &mut [F::Store]>,
) {
    let classes = z.dim().1;
    let mut tile = Tile::<F::Real, WIDE>::default();
    wide.resize(WIDE * classes, F::Real::ZERO);
    for (i, out) in out.chunks_mut(WIDE).enumerate() {
        let first = first + i * WIDE;
        let part = z.slice(ndarray::s![first..first + out.len(), ..]);
        tile.take::<F>(cpu, &part, stored, wide);
        let mut two = Lanes::NONE;
        tile.classes(classes).for_each(|z| two.read(z));
        let mut margins = [F::Real::ZERO; WIDE];
        for (i, margin) in margins.iter_mut().enumerate() {
            *margin = two.margin(i);
        }
        let mut narrow = [F::Store::default(); WIDE];
        out.copy_from_slice(&F::narrow(cpu, &margins, &mut narrow)[..out.len()]);
    }
}

#[inline(always)]
fn row_margin<F: Format>(cpu: impl Cpu, (z, first, out, (stored, wide)): Given<'_, '_, F, &mut [F::Store]>) {
    wide.resize(BLOCK, F::Real::ZERO);
    let mut others = [F::Real::ZERO; BLOCK];
    // The two largest of each row, NaN where there is one.
    let mut rows = vec![(F::Real::LOW, F::Real::LOW); out.len()];
    let mut blocks = Blocks::new(z, first..first + out.len(), stored);
    while let Some((row, _, block)) = blocks.next() {
        let (one, two) = &mut rows[row - first];
        let block = F::widen(cpu, block, wide);
        let (max, odd) = peak(block);
        let others = &mut others[..block.len()];
        others.copy_from_slice(block);
        others[find(block, max)] = F::Real::LOW;
        let second = largest(others);
        if odd || one.is_nan() {
            *one = F::Real::NAN;
        } else if max > *one {
            *two = if second > *one { second } else { *one };
            *one = max;
        } else if max > *two {
            *two = max;
        }
    }
    for (out, (one, two)) in out.iter_mut().zip(rows) {
        let margin = if one.finite() { one - two } else { F::Real::NAN };
        let mut narrow = [F::Store::default()];
        *out = F::narrow(cpu, &[margin], &mut narrow)[0];
    }
}

/// NaN first, then the larger, then the lower class.
fn order<T: Real>(a: &(T, usize), b: &(T, usize)) -> Ordering {
    let by_value = match (a.0.is_nan(), b.0.is_nan()) {
        (false, false) => b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    };
    by_value.then(a.1.cmp(&b.1))
}

/// The classes of the k largest logits of each row, the largest first. 1 ≤ k ≤ classes.
pub fn top_k<F: Format>(
    level: Level,
    threads: usize,
    z: &ArrayView2<'_, F::Store>,
    mut out: ArrayViewMut2<'_, i64>,
) {
    let step = (PIECE / z.dim().1.max(1)).max(1);
    let work = out.axis_chunks_iter_mut(Axis(0), step).enumerate().map(|(i, out)| (i * step, out)).collect();
    share(threads, work, Scratch::<F>::default, |scratch, (first, out)| {
        dispatch(level, RowTopK::<F>((z, first, out, scratch)));
    });
}

#[inline(always)]
fn row_top_k<F: Format>(
    cpu: impl Cpu,
    (z, first, mut out, (stored, wide)): Given<'_, '_, F, ArrayViewMut2<'_, i64>>,
) {
    let k = out.dim().1;
    wide.resize(BLOCK, F::Real::ZERO);
    // The candidates of a row, and what a logit must exceed to become one.
    let mut found: Vec<(F::Real, usize)> = Vec::with_capacity(2 * k);
    for (i, mut out) in out.rows_mut().into_iter().enumerate() {
        found.clear();
        let (mut floor, mut full) = (F::Real::LOW, false);
        let mut blocks = Blocks::new(z, first + i..first + i + 1, stored);
        while let Some((_, begin, block)) = blocks.next() {
            for (g, group) in F::widen(cpu, block, wide).chunks(WIDE).enumerate() {
                if full {
                    let (max, odd) = peak(group);
                    if !odd && max <= floor {
                        continue;
                    }
                }
                for (i, &z) in group.iter().enumerate() {
                    if !full || z > floor || z.is_nan() {
                        found.push((z, begin + g * WIDE + i));
                        if found.len() == 2 * k {
                            found.select_nth_unstable_by(k - 1, order);
                            found.truncate(k);
                            (floor, full) = (found[k - 1].0, true);
                        }
                    }
                }
            }
        }
        found.sort_unstable_by(order);
        out.iter_mut().zip(&found).for_each(|(out, (_, class))| *out = *class as i64);
    }
}
