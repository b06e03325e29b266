//! Cross-entropy: what it costs to have given the truth too small a probability, in nats.
//!
//! With targets q (a class, or a share of each), class weights w, label smoothing ε and the
//! penalty λ on lse², a row of weight s costs
//!
//! ```text
//! q' = (1 − ε) q + ε Σq / K
//! loss = s (Σ q' w (lse − z) + λ Σ(q w) lse²)
//! ∂loss/∂z = s ((Σ q' w + 2 λ Σ(q w) lse) softmax − q' w)
//! ```

use ndarray::{ArrayView2, Axis};

use crate::elements::Format;
use crate::real::Real;

/// Which classes are true.
pub enum Targets<'a, S> {
    /// Not known: no loss.
    None,
    /// One class of each row.
    Classes(&'a [i64]),
    /// A share of each class, row by row.
    Shares(ArrayView2<'a, S>),
}

/// How targets become a loss.
pub struct Terms<'a> {
    /// Weight of each class.
    pub class_weight: Option<&'a [f64]>,
    /// Weight of each row.
    pub sample_weight: Option<&'a [f64]>,
    /// Rows of this class are left out.
    pub ignored: Option<i64>,
    /// ε
    pub smoothing: f64,
    /// λ
    pub z_loss: f64,
}

/// The first row whose label is no class, or whose shares are not: below 0, or not 1 together.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLabel(pub usize);

/// How far shares may be from 1 together: those of half precision are rounded.
const SHARES: f64 = 0.01;

/// The sum of some shares and of their classes' weights; none if they are no shares.
#[inline(always)]
pub fn weigh_shares<F: Format>(shares: impl Iterator<Item = F::Store>, terms: &Terms) -> Option<(f64, f64)> {
    let (mut all, mut hard, mut fits) = (0.0, 0.0, true);
    for (c, share) in shares.enumerate() {
        let share = F::number(share).to_f64();
        all += share;
        hard += share * terms.class(c);
        fits &= share >= 0.0;
    }
    (fits && (all - 1.0).abs() <= SHARES).then_some((all, hard))
}

/// The sum of all rows' weights, from the targets alone: to be known before anything is written.
pub fn weigh<F: Format>(targets: &Targets<F::Store>, terms: &Terms, classes: usize) -> Result<f64, BadLabel> {
    let mut sum = 0.0;
    match targets {
        Targets::None => {}
        Targets::Classes(labels) => {
            for (row, &label) in labels.iter().enumerate() {
                if Some(label) != terms.ignored {
                    let class = usize::try_from(label).ok().filter(|&class| class < classes);
                    sum += terms.row(row) * terms.class(class.ok_or(BadLabel(row))?);
                }
            }
        }
        Targets::Shares(all) => {
            for (row, shares) in all.axis_iter(Axis(0)).enumerate() {
                let found = weigh_shares::<F>(shares.iter().copied(), terms);
                sum += terms.row(row) * found.ok_or(BadLabel(row))?.1;
            }
        }
    }
    Ok(sum)
}

/// What is known of a row's target before its logits are.
#[derive(Clone, Copy, Default)]
pub struct Aim {
    /// s; 0 where the row is left out.
    pub row: f64,
    /// Σ q w
    pub hard: f64,
    /// Σ q' w
    pub all: f64,
    /// Σ q' w (ceiling − z): the other part of the loss is Σ q' w (lse − ceiling).
    pub below: f64,
    /// ε Σq / K: what smoothing gives to each class before its weight.
    pub each: f64,
}

impl Terms<'_> {
    /// No weights, no smoothing, no penalty.
    pub const PLAIN: Self =
        Self { class_weight: None, sample_weight: None, ignored: None, smoothing: 0.0, z_loss: 0.0 };

    /// Nothing but the class counts.
    #[inline(always)]
    pub fn plain(&self) -> bool {
        self.class_weight.is_none()
            && self.sample_weight.is_none()
            && self.smoothing == 0.0
            && self.z_loss == 0.0
    }

    /// The weight of a class.
    #[inline(always)]
    pub fn class(&self, c: usize) -> f64 {
        self.class_weight.map_or(1.0, |weights| weights[c])
    }

    /// The weight of a row.
    #[inline(always)]
    pub fn row(&self, row: usize) -> f64 {
        self.sample_weight.map_or(1.0, |weights| weights[row])
    }

    /// A row's loss, given how far its log-sum-exp lies above the ceiling, and itself.
    #[inline(always)]
    pub fn loss(&self, aim: &Aim, above: f64, lse: f64) -> f64 {
        if aim.row == 0.0 {
            return 0.0;
        }
        // A class without a share costs nothing, however impossible: 0 · ∞ is 0 here.
        let cross = if aim.all == 0.0 { 0.0 } else { aim.all * above };
        let penalty = if self.z_loss == 0.0 { 0.0 } else { self.z_loss * aim.hard * lse * lse };
        aim.row * (aim.below + cross + penalty)
    }

    /// What softmax is multiplied by in the gradient.
    #[inline(always)]
    pub fn pull(&self, aim: &Aim, lse: f64) -> f64 {
        let penalty = if self.z_loss == 0.0 { 0.0 } else { 2.0 * self.z_loss * aim.hard * lse };
        aim.row * (aim.all + penalty)
    }
}
