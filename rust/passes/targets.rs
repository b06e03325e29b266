//! What the truth costs each row, and what it takes from the softmax to make the gradient.

use std::sync::atomic::Ordering;

use ndarray::{ArrayView2, Axis};

use super::Pass;
use super::answers::{Finished, Sums};
use crate::elements::Format;
use crate::loss::{Aim, BadLabel, Targets, weigh_shares};
use crate::packed::{Found, Tile};
use crate::real::Real;

/// How a row's gradient follows from its softmax.
#[derive(Clone, Copy)]
pub(super) struct Slope {
    /// The row is left out.
    pub(super) left_out: bool,
    /// What softmax is multiplied by.
    pub(super) pull: f64,
    /// What is taken from each element per unit of its class's weight.
    pub(super) each: f64,
    /// What is taken from each element per unit of its share and its class's weight.
    pub(super) share: f64,
    /// Where the largest stands.
    pub(super) top: usize,
    /// What of the pull goes to the others.
    pub(super) others: f64,
}

impl Slope {
    /// The slope at the largest: not p · pull − taken, which cancels where p is near 1.
    fn at_largest<T: Real>(&self, taken: f64, weight: f64) -> T {
        T::from_f64((self.pull - taken - self.each * weight) - self.others)
    }

    pub(super) const NONE: Self =
        Self { left_out: false, pull: 1.0, each: 0.0, share: 0.0, top: 0, others: 0.0 };
}

/// Eight sums side by side, then theirs: one chain of additions would be all waiting.
#[inline(always)]
fn sum<const W: usize>(terms: &[f64; W]) -> f64 {
    let mut lanes = [0.0; 8];
    let (eights, rest) = terms.as_chunks::<8>();
    for eight in eights {
        lanes.iter_mut().zip(eight).for_each(|(lane, term)| *lane += term);
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, term)| *lane += term);
    lanes.iter().sum()
}

impl<F: Format> Pass<'_, F> {
    pub(super) fn unless_bad(&self, sums: Sums) -> Result<Sums, BadLabel> {
        match self.bad.load(Ordering::Relaxed) {
            usize::MAX => Ok(sums),
            row => Err(BadLabel(row)),
        }
    }

    /// The losses of some rows, and what the gradient needs to know of their targets if `slopes`.
    #[inline(always)]
    pub(super) fn lose<const W: usize>(
        &self,
        found: &Found<F::Real, W>,
        first: usize,
        count: usize,
        z: &ArrayView2<'_, F::Store>,
        rows: &mut Finished<W>,
        slopes: bool,
    ) {
        let terms = &self.question.terms;
        match &self.question.targets {
            Targets::None => {}
            // Most of the time nothing but the class counts.
            Targets::Classes(classes) if terms.plain() => {
                // What is read here and there first; then arithmetic over whole vectors.
                let flat = z.to_slice();
                let one = Aim { row: 1.0, hard: 1.0, all: 1.0, ..Aim::default() };
                let (mut target, mut counts) = ([F::Real::ZERO; W], [0.0; W]);
                for (i, &label) in classes[first..first + count].iter().enumerate() {
                    let class = self.class(first + i, label);
                    if let Some(class) = class {
                        let z = flat.map_or_else(|| z[[i, class]], |flat| flat[i * self.classes + class]);
                        (target[i], counts[i]) = (F::number(z), 1.0);
                    }
                    if slopes {
                        rows.aim[i] = class.map_or_else(Aim::default, |_| one);
                    }
                }
                for i in 0..W {
                    let below = (found.max[i].to_f64() - target[i].to_f64()) * self.scale.coolness;
                    rows.loss[i] = if counts[i] == 0.0 { 0.0 } else { below + rows.above[i] };
                }
                rows.sums.weight = sum(&counts);
            }
            _ => {
                for i in 0..count {
                    rows.aim[i] = self.aim(first + i, z, i, found.max[i]);
                    rows.loss[i] = terms.loss(&rows.aim[i], rows.above[i], rows.lse[i]);
                    rows.sums.weight += rows.aim[i].row * rows.aim[i].hard;
                }
            }
        }
        if !matches!(self.question.targets, Targets::None) {
            rows.loss[count..].fill(0.0);
            rows.sums.loss = sum(&rows.loss);
        }
    }

    /// The index that a label is, unless its rows are left out or it is no class.
    #[inline(always)]
    pub(super) fn class(&self, row: usize, label: i64) -> Option<usize> {
        if Some(label) == self.question.terms.ignored {
            return None;
        }
        let class = usize::try_from(label).ok().filter(|&class| class < self.classes);
        if class.is_none() {
            self.bad.fetch_min(row, Ordering::Relaxed);
        }
        class
    }

    /// What a row's target asks for.
    #[inline(always)]
    pub(super) fn aim(&self, row: usize, z: &ArrayView2<'_, F::Store>, i: usize, max: F::Real) -> Aim {
        let terms = &self.question.terms;
        let kept = 1.0 - terms.smoothing;
        let mut aim = Aim { row: terms.row(row), ..Aim::default() };
        // Probabilities are the softmax of z / T, and so depths are divided by T, too.
        let depth = |z: F::Store| (max.to_f64() - F::number(z).to_f64()) * self.scale.coolness;
        let z = z.index_axis(Axis(0), i);
        let shares;
        match &self.question.targets {
            Targets::None => return Aim::default(),
            Targets::Classes(classes) => {
                let Some(class) = self.class(row, classes[row]) else { return Aim::default() };
                aim.hard = terms.class(class);
                shares = 1.0;
                if kept * aim.hard != 0.0 {
                    aim.below = kept * aim.hard * depth(z[class]);
                }
            }
            Targets::Shares(all) => {
                let all = all.index_axis(Axis(0), row);
                let Some((sum, hard)) = weigh_shares::<F>(all.iter().copied(), terms) else {
                    self.bad.fetch_min(row, Ordering::Relaxed);
                    return Aim::default();
                };
                (shares, aim.hard) = (sum, hard);
                for (c, (&share, &z)) in all.iter().zip(z).enumerate() {
                    // 0 · ∞ is 0: a masked class without a share costs nothing.
                    let weighted = kept * F::number(share).to_f64() * terms.class(c);
                    if weighted != 0.0 {
                        aim.below += weighted * depth(z);
                    }
                }
            }
        }
        aim.all = kept * aim.hard;
        if terms.smoothing != 0.0 {
            aim.each = terms.smoothing * shares / self.classes as f64;
            let (mut weights, mut below) = (0.0, 0.0);
            for (c, &z) in z.iter().enumerate() {
                let weight = terms.class(c);
                weights += weight;
                if weight != 0.0 {
                    below += weight * depth(z);
                }
            }
            aim.all += aim.each * weights;
            if aim.each != 0.0 {
                aim.below += aim.each * below;
            }
        }
        aim
    }

    /// How each row's gradient follows from its softmax; nothing where none is asked for.
    #[inline(always)]
    pub(super) fn slopes<const W: usize>(
        &self,
        count: usize,
        found: &Found<F::Real, W>,
        rows: &Finished<W>,
    ) -> [Slope; W] {
        let mut slopes = [Slope::NONE; W];
        if matches!(self.question.targets, Targets::None) {
            return slopes;
        }
        let terms = &self.question.terms;
        let scale = 1.0 / (self.question.norm * self.question.temperature);
        for i in 0..count {
            let (aim, rest) = (&rows.aim[i], found.rest[i]);
            let pull = terms.pull(aim, rows.lse[i]) * scale;
            slopes[i] = Slope {
                // A class without weight leaves its row out, too.
                left_out: aim.row * aim.all == 0.0 && aim.row * aim.hard * terms.z_loss == 0.0,
                pull,
                each: aim.row * aim.each * scale,
                share: aim.row * (1.0 - terms.smoothing) * scale,
                top: found.at[i] as usize,
                others: pull * (rest / (1.0 + rest)),
            };
        }
        slopes
    }

    pub(super) fn plain_classes(&self) -> bool {
        matches!(self.question.targets, Targets::Classes(_)) && self.question.terms.plain()
    }

    /// Softmax becomes the gradient, where nothing but the class counts.
    #[inline(always)]
    pub(super) fn take_classes<const W: usize>(
        &self,
        tile: &mut Tile<F::Real, W>,
        first: usize,
        count: usize,
        found: &Found<F::Real, W>,
    ) {
        let Targets::Classes(labels) = self.question.targets else { return };
        let pull = 1.0 / (self.question.norm * self.question.temperature);
        tile.multiply(self.classes, &[F::Real::from_f64(pull); W]);
        let taken = F::Real::from_f64(pull);
        // At the largest: not p · pull − pull, which cancels where p is near 1.
        let mut at_largest = [F::Real::ZERO; W];
        for i in 0..W {
            at_largest[i] = F::Real::from_f64(-pull * (found.rest[i] / (1.0 + found.rest[i])));
        }
        for (i, &label) in labels[first..first + count].iter().enumerate() {
            match self.class(first + i, label) {
                None => tile.classes_mut(self.classes).for_each(|z| z[i] = F::Real::ZERO),
                Some(class) => {
                    let place = &mut tile.class_mut(class)[i];
                    *place = if class == found.at[i] as usize { at_largest[i] } else { *place - taken };
                }
            }
        }
    }

    /// Take the targets from a part of a row of softmax times pull.
    #[inline(always)]
    pub(super) fn take_target(&self, slope: &Slope, row: usize, begin: usize, slopes: &mut [F::Real]) {
        if slope.left_out {
            slopes.fill(F::Real::ZERO);
            return;
        }
        let terms = &self.question.terms;
        if slope.each != 0.0 {
            match terms.class_weight {
                None => {
                    let each = F::Real::from_f64(slope.each);
                    slopes.iter_mut().for_each(|slope| *slope = *slope - each);
                }
                Some(weights) => {
                    for (place, weight) in slopes.iter_mut().zip(&weights[begin..]) {
                        *place = *place - F::Real::from_f64(slope.each * weight);
                    }
                }
            }
        }
        match &self.question.targets {
            Targets::None => {}
            Targets::Classes(classes) => {
                let class = classes[row] as usize;
                let taken = slope.share * terms.class(class);
                let Some(place) = class.checked_sub(begin).and_then(|i| slopes.get_mut(i)) else { return };
                *place = if class == slope.top {
                    slope.at_largest(taken, terms.class(class))
                } else {
                    *place - F::Real::from_f64(taken)
                };
            }
            Targets::Shares(all) => {
                let shares = all.index_axis(Axis(0), row);
                for (i, (place, &share)) in slopes.iter_mut().zip(shares.iter().skip(begin)).enumerate() {
                    let class = begin + i;
                    let taken = slope.share * terms.class(class) * F::number(share).to_f64();
                    *place = if class == slope.top {
                        slope.at_largest(taken, terms.class(class))
                    } else {
                        *place - F::Real::from_f64(taken)
                    };
                }
            }
        }
    }
}
