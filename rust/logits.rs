//! Row kernels on logits: what stands between scores and probabilities.
//!
//! With `a = max z` and `s = Σ exp(z − a)` over the others,
//! `lse = a + log1p(s)`, `log_softmax = (z − a) − log1p(s)`,
//! `softmax = exp(z − a) / (1 + s)` (Blanchard, Higham & Higham 2021).
//! A row that holds NaN or +∞, or nothing but −∞, is NaN in that row alone.

use crate::simd::{LANES, Level, Real, dispatch};

/// What one pass over a row finds.
#[derive(Clone, Copy)]
struct Row<T> {
    /// Largest logit; NaN if the row is not a row of logits.
    max: T,
    /// Σ exp(z − max) over all but the first largest.
    rest: T,
}

#[inline(always)]
fn tree<T: Real>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn largest<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

#[inline(always)]
fn summary<T: Real>(row: &[T]) -> Row<T> {
    let mut lanes = [T::LOW; LANES];
    let mut blocks = row.chunks_exact(LANES);
    for block in &mut blocks {
        for i in 0..LANES {
            lanes[i] = largest(lanes[i], block[i]);
        }
    }
    for (lane, &z) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane = largest(*lane, z);
    }
    let max = tree(lanes, largest);
    if !max.finite() {
        return Row { max: T::NAN, rest: T::NAN };
    }
    let top = row.iter().position(|&z| z == max).unwrap_or(0);
    let mut lanes = [T::ZERO; LANES];
    for (b, block) in row.chunks(LANES).enumerate() {
        if block.len() == LANES && top / LANES != b {
            for i in 0..LANES {
                lanes[i] = lanes[i].plus(block[i].minus(max).exp());
            }
        } else {
            for (i, &z) in block.iter().enumerate() {
                if b * LANES + i != top {
                    lanes[i] = lanes[i].plus(z.minus(max).exp());
                }
            }
        }
    }
    Row { max, rest: tree(lanes, T::plus) }
}

/// What to make of each row of logits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// Probabilities.
    Softmax,
    /// Their logarithms, in nats.
    LogSoftmax,
}

#[inline(always)]
fn map_row<T: Real>(map: Map, row: &[T], out: &mut [T]) {
    let Row { max, rest } = summary(row);
    // Both are NaN, or neither; a logit that is NaN makes `rest` so.
    if !rest.finite() {
        out.fill(T::NAN);
        return;
    }
    match map {
        Map::Softmax => {
            let total = T::ONE.plus(rest);
            out.iter_mut().zip(row).for_each(|(out, &z)| *out = z.minus(max).exp().over(total));
        }
        Map::LogSoftmax => {
            let share = rest.ln_1p();
            out.iter_mut().zip(row).for_each(|(out, &z)| *out = z.minus(max).minus(share));
        }
    }
}

/// Softmax or log-softmax of each row of `classes` logits.
pub fn map<T: Real>(level: Level, map: Map, z: &[T], classes: usize, out: &mut [T]) {
    if classes == 0 {
        return;
    }
    dispatch(level, || {
        for (row, out) in z.chunks_exact(classes).zip(out.chunks_exact_mut(classes)) {
            map_row(map, row, out);
        }
    });
}

/// Log-sum-exp of each row.
pub fn logsumexp<T: Real>(level: Level, z: &[T], classes: usize, out: &mut [T]) {
    dispatch(level, || {
        for (row, out) in z.chunks_exact(classes.max(1)).zip(out) {
            let Row { max, rest } = summary(row);
            *out = max.plus(rest.ln_1p());
        }
    });
}

/// −log softmax of each row at its target: (a − z_target) + log1p(s), in nats.
/// Targets are below `classes`.
pub fn cross_entropy<T: Real>(level: Level, z: &[T], classes: usize, targets: &[i64], out: &mut [T]) {
    dispatch(level, || {
        for ((row, out), &target) in z.chunks_exact(classes.max(1)).zip(out).zip(targets) {
            let Row { max, rest } = summary(row);
            *out = max.minus(row[target as usize]).plus(rest.ln_1p());
        }
    });
}

/// Replace logits by their softmax, in place; the loss at `target` in nats.
#[inline(always)]
pub fn softmax_in_place(row: &mut [f32], target: usize) -> f32 {
    let Row { max, rest } = summary(row);
    let loss = (max - row[target]) + rest.ln_1p();
    let total = 1.0 + rest;
    row.iter_mut().for_each(|z| *z = (*z - max).exp() / total);
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level::{Avx2, Avx512, Portable};

    #[test]
    fn the_worked_example() {
        let mut p = [0.0f32; 3];
        map(Portable, Map::Softmax, &[2.0, 1.0, 0.1], 3, &mut p);
        // e² = 7.389, e¹ = 2.718, e^0.1 = 1.105; sum 11.212
        for (got, want) in p.iter().zip([0.659_001, 0.242_433, 0.098_566]) {
            assert!((got - want).abs() < 1e-6);
        }
        let mut loss = [0.0f32];
        cross_entropy(Portable, &[2.0, 1.0, 0.1], 3, &[0], &mut loss);
        assert!((loss[0] - 0.417_030).abs() < 1e-6);
    }

    #[test]
    fn rows_that_are_no_rows_are_nan_alone() {
        let inf = f64::INFINITY;
        let z = [0.0, -inf, -inf, -inf, inf, 0.0, f64::NAN, 0.0, 1.0, 1.0];
        let mut p = [0.0; 10];
        map(Portable, Map::Softmax, &z, 2, &mut p);
        assert_eq!(p[..2], [1.0, 0.0]);
        assert!(p[2..8].iter().all(|p| p.is_nan()));
        assert_eq!(p[8..], [0.5, 0.5]);
    }

    #[test]
    fn levels_agree_to_the_bit() {
        for classes in [1, 2, 15, 16, 17, 100, 1000] {
            let z: Vec<f32> = (0..classes * 3).map(|i| ((i * 7919) % 613) as f32 / 10.0 - 30.0).collect();
            let run = |level| {
                let mut out = vec![0.0; z.len()];
                map(level, Map::LogSoftmax, &z, classes, &mut out);
                out.iter().map(|x: &f32| x.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(run(Portable), run(Avx2));
            assert_eq!(run(Portable), run(Avx512));
        }
    }
}
