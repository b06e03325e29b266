//! Independent labels: each logit by itself, its sigmoid and its cross-entropy.
//!
//! With e = exp(−|z|) nothing overflows: sigmoid is 1 / (1 + e) or e / (1 + e), and
//! the loss of a share y is |z| (1 − y or y) + ln(1 + e), whose parts are not negative.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::elements::Format;
use crate::kernel;
use crate::logits::BLOCK;
use crate::packed::one_nan;
use crate::real::{Real, Scale, Unit, ln};
use crate::simd::{Cpu, Level, dispatch};
use crate::threads::share;

/// About how many logits make a piece of work.
const PIECE: usize = 1 << 16;

/// What is asked of each logit, and where it is written.
pub enum Asked<'a, S> {
    /// 1 / (1 + exp(−z))
    Sigmoid(ArrayViewMut2<'a, S>),
    /// The loss, in nats, where the share of yes is given.
    Loss(ArrayViewMut2<'a, S>),
    /// Nothing but the sum of the losses.
    Sum,
    /// The slope of the loss, times this.
    Gradient(ArrayViewMut2<'a, S>, f64),
}

struct Exponential<T> {
    scale: Scale<T>,
    unit: Unit<T>,
    one: T,
}

impl<T: Real> Exponential<T> {
    #[inline(always)]
    fn new(cpu: impl Cpu) -> Self {
        let scale = Scale::new(1.0);
        let unit = Unit::new(cpu, &scale, T::ZERO);
        Self { scale, unit, one: unit.exp(cpu, &scale, T::ZERO) }
    }

    /// The probability of yes, and of no.
    #[inline(always)]
    fn sigmoid(&self, cpu: impl Cpu, z: T) -> (T, T) {
        let e = self.unit.exp(cpu, &self.scale, -z.abs());
        let all = self.one + e;
        let (larger, smaller) = (self.one / all, e / all);
        if z < T::ZERO { (smaller, larger) } else { (larger, smaller) }
    }

    /// What yes has too much of, given its share: taken from 1 where both are near 1.
    #[inline(always)]
    fn slope(&self, cpu: impl Cpu, z: T, y: T) -> T {
        let (yes, no) = self.sigmoid(cpu, z);
        if y > T::from_f64(0.5) { (T::ONE - y) - no } else { yes - y }
    }

    /// The loss is the first and ln(1 + the second).
    #[inline(always)]
    fn loss(&self, cpu: impl Cpu, z: T, y: T) -> (f64, f64) {
        let e = self.unit.exp(cpu, &self.scale, -z.abs());
        let wrong = if z < T::ZERO { y } else { T::ONE - y };
        // No share of what is impossible costs nothing: 0 · ∞ is 0 here.
        let far = if wrong == T::ZERO { T::ZERO } else { z.abs() * wrong };
        (far.to_f64(), e.to_f64() * T::PER_UNIT)
    }
}

/// Replace logits by their sigmoids, in place; the sum of `ln(1 + exp(z))` in nats, what they all
/// cost where no label holds.
#[inline(always)]
pub fn sigmoid_in_place(cpu: impl Cpu, row: &mut [f32]) -> f64 {
    const LANES: usize = 16;
    let exponential = Exponential::<f32>::new(cpu);
    let mut loss = 0.0;
    // The logarithm of a product, of factors up to 2: so many do not overflow.
    for block in row.chunks_mut(512) {
        let (mut above, mut product) = ([0.0; LANES], [1.0; LANES]);
        for group in block.chunks_mut(LANES) {
            for (i, z) in group.iter_mut().enumerate() {
                let e = exponential.unit.exp(cpu, &exponential.scale, -z.abs());
                above[i] += f64::from(if *z < 0.0 { 0.0 } else { *z });
                product[i] *= 1.0 + e.to_f64() * f32::PER_UNIT;
                let all = exponential.one + e;
                *z = if *z < 0.0 { e } else { exponential.one } / all;
            }
        }
        loss += above.iter().sum::<f64>() + ln(product.iter().product());
    }
    loss
}

/// Answer for each logit; the sum of the losses, where `y` holds the shares of yes.
/// `z` is `None` where the logits stand in what is written to.
pub fn answer<F: Format>(
    level: Level,
    threads: usize,
    z: Option<ArrayView2<'_, F::Store>>,
    y: Option<ArrayView2<'_, F::Store>>,
    asked: Asked<'_, F::Store>,
) -> f64 {
    let (mut out, factor, kind) = match asked {
        Asked::Sigmoid(out) => (Some(out), 1.0, 0),
        Asked::Loss(out) => (Some(out), 1.0, 1),
        Asked::Sum => (None, 1.0, 1),
        Asked::Gradient(out, factor) => (Some(out), factor, 2),
    };
    let Some((rows, width)) = z.as_ref().map(|z| z.dim()).or(out.as_ref().map(|out| out.dim())) else {
        return 0.0;
    };
    // Pieces are cut along the longer side, so that a single long row is shared, too.
    let axis = Axis(usize::from(width > rows));
    let step = (PIECE / rows.min(width).max(1)).max(1);
    let count = rows.max(width).div_ceil(step);
    let mut sums = vec![0.0; count];
    let mut work = Vec::with_capacity(count);
    for (i, sum) in sums.iter_mut().enumerate() {
        let here = step.min(rows.max(width) - i * step);
        let part = out.take().map(|all| {
            let (part, others) = all.split_at(axis, here);
            out = Some(others);
            part
        });
        work.push((i * step..i * step + here, part, sum));
    }
    share(
        threads,
        work,
        || (),
        |(), (range, out, sum)| {
            let (z, y) = (cut(&z, axis, &range), cut(&y, axis, &range));
            *sum = dispatch(level, Part::<F>((z, y, out, kind, factor)));
        },
    );
    sums.iter().sum()
}

fn cut<'v, S>(
    view: &Option<ArrayView2<'v, S>>,
    axis: Axis,
    range: &Range<usize>,
) -> Option<ArrayView2<'v, S>> {
    view.map(|view| view.split_at(axis, range.start).1.split_at(axis, range.len()).0)
}

/// Logits, shares of yes, where the answers go, what they are, and what slopes are multiplied by.
type Given<'a, F> = (
    Option<ArrayView2<'a, <F as Format>::Store>>,
    Option<ArrayView2<'a, <F as Format>::Store>>,
    Option<ArrayViewMut2<'a, <F as Format>::Store>>,
    u8,
    f64,
);

kernel!(Part<'a; F: Format;>(Given<'a, F>) -> f64 = part::<F>);

#[inline(always)]
fn part<F: Format>(cpu: impl Cpu, (z, y, mut out, kind, factor): Given<'_, F>) -> f64 {
    let exponential = Exponential::<F::Real>::new(cpu);
    let factor = F::Real::from_f64(factor);
    let Some((rows, width)) = z.as_ref().map(|z| z.dim()).or(out.as_ref().map(|out| out.dim())) else {
        return 0.0;
    };
    let mut sum = 0.0;
    let (mut z_stored, mut y_stored) = ([F::Store::default(); BLOCK], [F::Store::default(); BLOCK]);
    let (mut z_wide, mut y_wide) = ([F::Real::ZERO; BLOCK], [F::Real::ZERO; BLOCK]);
    let mut result = [F::Real::ZERO; BLOCK];
    for row in 0..rows {
        for begin in (0..width).step_by(BLOCK) {
            let end = width.min(begin + BLOCK);
            let here = end - begin;
            let load = |view: &ArrayView2<'_, F::Store>, to: &mut [F::Store]| {
                let part = view.slice(ndarray::s![row, begin..end]);
                match part.to_slice() {
                    Some(part) => to.copy_from_slice(part),
                    None => to.iter_mut().zip(part).for_each(|(to, &value)| *to = value),
                }
            };
            match (&z, &out) {
                (Some(z), _) => load(z, &mut z_stored[..here]),
                (None, Some(out)) => load(&out.view(), &mut z_stored[..here]),
                (None, None) => {}
            }
            if let Some(y) = &y {
                load(y, &mut y_stored[..here]);
            }
            let z = F::widen(cpu, &z_stored[..here], &mut z_wide);
            let y = F::widen(cpu, &y_stored[..here], &mut y_wide);
            let result = &mut result[..here];
            match kind {
                0 => result.iter_mut().zip(z).for_each(|(to, &z)| *to = exponential.sigmoid(cpu, z).0),
                1 => {
                    let (mut losses, mut others) = ([0.0; BLOCK], [0.0; BLOCK]);
                    for (((loss, other), &z), &y) in losses.iter_mut().zip(&mut others).zip(z).zip(y) {
                        (*loss, *other) = exponential.loss(cpu, z, y);
                    }
                    let others = F::Real::log1p(cpu, &others);
                    losses.iter_mut().zip(&others).for_each(|(loss, other)| *loss += other);
                    sum += losses[..here].iter().sum::<f64>();
                    result.iter_mut().zip(&losses).for_each(|(to, &loss)| *to = F::Real::from_f64(loss));
                }
                _ => {
                    for ((to, &z), &y) in result.iter_mut().zip(z).zip(y) {
                        *to = exponential.slope(cpu, z, y) * factor;
                    }
                }
            }
            one_nan(result);
            if let Some(out) = &mut out {
                let stored = F::narrow(cpu, result, &mut z_stored);
                let mut part = out.slice_mut(ndarray::s![row, begin..end]);
                part.iter_mut().zip(stored).for_each(|(out, &value)| *out = value);
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::level;

    struct Given<'a>(&'a mut [f32]);
    impl crate::simd::Kernel for Given<'_> {
        type Answer = f64;
        fn run(self, cpu: impl Cpu) -> f64 {
            sigmoid_in_place(cpu, self.0)
        }
    }

    #[test]
    fn sigmoids_in_place_and_their_loss() {
        for n in [1, 15, 16, 17, 511, 512, 513, 2000] {
            let z: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.7).collect();
            let mut row = z.clone();
            let loss = dispatch(level(), Given(&mut row));
            let naive: f64 = z.iter().map(|&z| f64::from(z).exp().ln_1p()).sum();
            assert!((loss - naive).abs() <= 1e-6 * naive + 1e-13, "{n}: {loss} for {naive}");
            for (&p, &z) in row.iter().zip(&z) {
                let right = 1.0 / (1.0 + (-f64::from(z)).exp());
                assert!((f64::from(p) - right).abs() <= 1e-6 * right, "{z}: {p} for {right}");
            }
        }
        let mut zeros = vec![0.0; 10_000]; // a product of as many factors 2 would overflow
        assert!((dispatch(level(), Given(&mut zeros)) - 10_000.0 * 2f64.ln()).abs() < 1e-6);
        assert!(dispatch(level(), Given(&mut [f32::NAN])).is_nan());
        assert_eq!(dispatch(level(), Given(&mut [f32::INFINITY])), f64::INFINITY);
    }
}
