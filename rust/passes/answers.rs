//! What can be asked of whole arrays of logits, and where the answers go.

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::elements::Format;
use crate::loss::{Aim, Targets, Terms};
use crate::packed::{Found, one_nan};
use crate::real::Real;
use crate::simd::Cpu;

/// What each logit becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// Probabilities.
    Softmax,
    /// Their logarithms, in nats.
    LogSoftmax,
    /// The slope of the loss.
    Gradient,
}

/// What is asked, of which logits.
pub struct Question<'a, F: Format> {
    /// The logits; none: they stand where the map is written to.
    pub z: Option<ArrayView2<'a, F::Store>>,
    /// T
    pub temperature: f64,
    /// The truth.
    pub targets: Targets<'a, F::Store>,
    /// How it becomes a loss.
    pub terms: Terms<'a>,
    /// What the gradient is divided by.
    pub norm: f64,
}

/// Where the answers are written.
pub struct Answers<'a, S> {
    /// One place per row.
    pub numbers: Numbers<'a, S>,
    /// One place per logit.
    pub map: Option<(Map, ArrayViewMut2<'a, S>)>,
}

/// Numbers of each row that are asked for.
pub struct Numbers<'a, S> {
    /// Log-sum-exp.
    pub lse: Option<&'a mut [S]>,
    /// Index of the largest.
    pub at: Option<&'a mut [i64]>,
    /// The largest.
    pub max: Option<&'a mut [S]>,
    /// In nats.
    pub entropy: Option<&'a mut [S]>,
    /// In nats.
    pub loss: Option<&'a mut [S]>,
}

impl<'a, S> Numbers<'a, S> {
    /// Nothing asked.
    pub const NONE: Self = Self { lse: None, at: None, max: None, entropy: None, loss: None };

    /// Those of the first `rows` rows, and the others.
    pub(super) fn split(self, rows: usize) -> (Self, Self) {
        fn cut<T>(all: Option<&mut [T]>, rows: usize) -> (Option<&mut [T]>, Option<&mut [T]>) {
            all.map(|all| all.split_at_mut(rows)).unzip()
        }
        let (lse, lse2) = cut(self.lse, rows);
        let (at, at2) = cut(self.at, rows);
        let (max, max2) = cut(self.max, rows);
        let (entropy, entropy2) = cut(self.entropy, rows);
        let (loss, loss2) = cut(self.loss, rows);
        let first = Self { lse, at, max, entropy, loss };
        (first, Self { lse: lse2, at: at2, max: max2, entropy: entropy2, loss: loss2 })
    }
}

impl<'a, S> Answers<'a, S> {
    pub(super) fn split(self, rows: usize) -> (Self, Self) {
        let (numbers, numbers2) = self.numbers.split(rows);
        let (map, map2) = match self.map {
            Some((map, out)) => {
                let (a, b) = out.split_at(Axis(0), rows);
                (Some((map, a)), Some((map, b)))
            }
            None => (None, None),
        };
        (Self { numbers, map }, Self { numbers: numbers2, map: map2 })
    }
}

/// Sums over rows.
#[derive(Clone, Copy, Default)]
pub struct Sums {
    /// Of the losses.
    pub loss: f64,
    /// Of the weights.
    pub weight: f64,
}

impl Sums {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { loss: self.loss + other.loss, weight: self.weight + other.weight }
    }
}

/// What is finished of some rows before their logits are read again.
pub(super) struct Finished<const W: usize> {
    /// ln(1 + rest)
    pub(super) above: [f64; W],
    pub(super) lse: [f64; W],
    pub(super) aim: [Aim; W],
    pub(super) loss: [f64; W],
    pub(super) sums: Sums,
}

impl<const W: usize> Finished<W> {
    pub(super) fn new() -> Self {
        let (above, lse, loss) = ([0.0; W], [0.0; W], [0.0; W]);
        Self { above, lse, aim: [Aim::default(); W], loss, sums: Sums::default() }
    }
}

/// Write the numbers of each row.
#[inline(always)]
pub(super) fn write_numbers<F: Format, const SPREAD: bool, const W: usize>(
    cpu: impl Cpu,
    numbers: &mut Numbers<'_, F::Store>,
    first: usize,
    count: usize,
    z: &ArrayView2<'_, F::Store>,
    found: &Found<F::Real, W>,
    rows: &Finished<W>,
) {
    let here = first..first + count;
    if let Some(out) = &mut numbers.lse {
        put::<F, W>(cpu, &mut out[here.clone()], |i| F::Real::from_f64(rows.lse[i]));
    }
    if let Some(out) = &mut numbers.loss {
        put::<F, W>(cpu, &mut out[here.clone()], |i| F::Real::from_f64(rows.loss[i]));
    }
    if let (true, Some(out)) = (SPREAD, &mut numbers.entropy) {
        put::<F, W>(cpu, &mut out[here.clone()], |i| {
            F::Real::from_f64(rows.above[i] + found.spread[i] / (1.0 + found.rest[i]))
        });
    }
    if numbers.at.is_none() && numbers.max.is_none() {
        return;
    }
    let (mut at, mut max) = (found.at.map(i64::from), found.max);
    for i in (0..count).filter(|&i| found.rest[i].is_nan()) {
        // The largest of a row with NaN is NaN, as NumPy has it.
        let nan = z.index_axis(Axis(0), i).iter().position(|&z| F::number(z).is_nan());
        if let Some(nan) = nan {
            (at[i], max[i]) = (nan as i64, F::Real::NAN);
        }
    }
    if let Some(out) = &mut numbers.at {
        out[here.clone()].copy_from_slice(&at[..count]);
    }
    if let Some(out) = &mut numbers.max {
        put::<F, W>(cpu, &mut out[here], |i| max[i]);
    }
}

#[inline(always)]
fn put<F: Format, const W: usize>(cpu: impl Cpu, out: &mut [F::Store], value: impl Fn(usize) -> F::Real) {
    let (mut values, mut stored) = ([F::Real::ZERO; W], [F::Store::default(); W]);
    for (i, to) in values.iter_mut().enumerate() {
        *to = value(i);
    }
    one_nan(&mut values);
    let count = out.len();
    out.copy_from_slice(&F::narrow(cpu, &values, &mut stored)[..count]);
}
