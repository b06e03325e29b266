//! One text at a time: its label and the probability of it, for a server that answers thousands a second.
//!
//! The numbers, to the last bit, of the long way through arrays: logits, the calibration of a model,
//! softmax. Where that takes more than lines (a decision that has to be kept, a logit that is not
//! finite) there is no answer, and the long way gives it.

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::dense::{self, Layer};
use crate::elements::Single;
use crate::loss::{Targets, Terms};
use crate::passes::{self, Answers, Map, Numbers, Question};
use crate::simd::Level;
use crate::text::Texts;

/// Least logarithm of a probability that lines work with: `LEAST` of ``scalings.py``.
const LEAST: f32 = -87.0;

/// What makes logits calibrated.
pub struct Calm<'a> {
    /// They are divided by it.
    pub temperature: f64,
    /// Scale and bias of each class, of the logarithm of its probability then.
    pub lines: Option<(&'a [f32], &'a [f32])>,
}

/// Index of the label, and its probability.
pub fn answer(level: Level, layer: Layer, text: &str, calm: &Calm) -> Option<(usize, f32)> {
    let offsets = [0, text.len() as i64];
    let texts = Texts::new(&offsets, text.as_bytes()).ok()?;
    let z = dense::logits(level, &[(layer, None)], texts, false, 1).pop()?;
    if !z.iter().all(|z| z.is_finite()) {
        return None;
    }
    let decided = largest(&z);
    let mut shares = vec![0.0; z.len()];
    let Some((scale, bias)) = calm.lines else {
        map(level, Some(&z), &mut shares, calm.temperature, Map::Softmax)?;
        return Some((decided, shares[decided]));
    };
    map(level, Some(&z), &mut shares, calm.temperature, Map::LogSoftmax)?;
    for ((x, scale), bias) in shares.iter_mut().zip(scale).zip(bias) {
        *x = x.max(LEAST) * scale + bias;
    }
    let ahead = largest(&shares);
    map(level, None, &mut shares, 1.0, Map::Softmax)?;
    (ahead == decided && largest(&shares) == decided).then(|| (decided, shares[decided]))
}

/// Softmax or its logarithm of one row, in place if there is no `z`.
fn map(level: Level, z: Option<&[f32]>, out: &mut [f32], temperature: f64, map: Map) -> Option<()> {
    let shape = (1, out.len());
    let z = z.map(|z| ArrayView2::from_shape(shape, z)).transpose().ok()?;
    let out = ArrayViewMut2::from_shape(shape, out).ok()?;
    let question =
        Question::<Single> { z, temperature, targets: Targets::None, terms: Terms::PLAIN, norm: 1.0 };
    let answers = Answers { numbers: Numbers::NONE, map: Some((map, out)) };
    passes::answer::<Single, false>(level, 1, &question, answers).ok().map(|_| ())
}

/// Index of the largest, of equal ones the first.
fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (at, &value) in row.iter().enumerate() {
        if value > row[best] {
            best = at;
        }
    }
    best
}
