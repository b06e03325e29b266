//! Logits of a row → loss → gradient → step; what there is to learn, and how it behaves.

use crate::binary::sigmoid_in_place;
use crate::lists::Lists;
use crate::logits::softmax_in_place;
use crate::simd::Cpu;

/// What is learned from.
pub struct Examples<'a> {
    /// One or two blocks, in the order of the weight rows.
    pub blocks: &'a [Lists<'a>],
    /// Class of each row.
    pub labels: &'a [u32],
    /// Weight of each row.
    pub row_weights: Option<&'a [f32]>,
    /// (rows, classes): a share of each class, instead of the labels.
    pub shares: Option<&'a [f32]>,
    /// Several labels a row, each by itself, instead of one class.
    pub sets: Option<Sets<'a>>,
    /// Classes.
    pub classes: usize,
}

/// The labels of each row, as lists of their numbers.
#[derive(Clone, Copy)]
pub struct Sets<'a> {
    /// (rows + 1): where each row's list begins.
    pub offsets: &'a [i64],
    /// Labels, each once a row.
    pub ids: &'a [u32],
}

impl Sets<'_> {
    #[inline(always)]
    fn row(&self, row: usize) -> &[u32] {
        &self.ids[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// A step is the gradient times the rate over the factor that stands on all weights.
#[derive(Clone, Copy)]
pub(crate) struct Factor {
    pub(crate) rate: f32,
    pub(crate) scale: f32,
}

impl Examples<'_> {
    /// Logits of a row → what to add to the weights per unit of value. False: it makes no step.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn teach(
        &self,
        cpu: impl Cpu,
        schedule: &Schedule,
        row: usize,
        factor: Factor,
        z: &mut [f32],
        terms: &mut [f32],
        signs: &mut Signs,
    ) -> bool {
        // Loops, not `for_each`: a closure of its own would be compiled for no level of CPU.
        let Schedule { smoothing, z_loss, .. } = *schedule;
        let weight = self.row_weights.map_or(1.0, |weights| weights[row]);
        signs.largest = signs.largest.max(largest(z));
        signs.logits += squares(z);
        signs.weight += f64::from(weight);
        let shares = self.shares.map(|shares| &shares[row * z.len()..][..z.len()]);
        let surprise = if let Some(sets) = self.sets {
            let ids = sets.row(row);
            let mut met = 0.0;
            for &id in ids {
                met += f64::from(z[id as usize]);
            }
            let surprise = (sigmoid_in_place(cpu, z) - met) as f32;
            let mut settled = true;
            for &p in &*z {
                settled &= p.max(1.0 - p) > SATURATED;
            }
            signs.saturated += u64::from(settled);
            signs.loss += f64::from(surprise * weight);
            if smoothing > 0.0 {
                // No label at all is one more class: of few labels the share is not too large.
                let each = smoothing / (z.len() + 1) as f32;
                for z in z.iter_mut() {
                    *z -= each;
                }
            }
            for &id in ids {
                z[id as usize] -= 1.0 - smoothing;
            }
            surprise
        } else {
            let label = if shares.is_some() { 0 } else { self.labels[row] as usize };
            let first = z[label];
            let met =
                shares.map_or(0.0, |shares| z.iter().zip(shares).map(|(z, share)| (z - first) * share).sum());
            let surprise = softmax_in_place(cpu, z, label, terms);
            let mut cost = surprise - met;
            signs.saturated += u64::from(largest(z) > SATURATED);
            if z_loss > 0.0 {
                let lse = surprise + first;
                cost += z_loss * lse * lse;
                for z in z.iter_mut() {
                    *z *= 1.0 + 2.0 * z_loss * lse;
                }
            }
            signs.loss += f64::from(cost * weight);
            if let Some(shares) = shares {
                for (z, &share) in z.iter_mut().zip(shares) {
                    *z -= share;
                }
            } else {
                if smoothing > 0.0 {
                    let each = smoothing / z.len() as f32;
                    for z in z.iter_mut() {
                        *z -= each;
                    }
                }
                z[label] -= 1.0 - smoothing;
            }
            surprise
        };
        signs.gradients += squares(z);
        if shares.is_none() && smoothing == 0.0 && z_loss == 0.0 && surprise < SURE {
            z.fill(0.0); // the bias stays, too
            return false;
        }
        let factor = -factor.rate * weight / factor.scale;
        for z in z.iter_mut() {
            *z *= factor;
        }
        true
    }
}

/// How far along the way, and how large the steps are.
#[derive(Clone, Copy)]
pub struct Schedule {
    /// Step size at the beginning; it falls linearly to 0.
    pub learning_rate: f64,
    /// L2 penalty per row.
    pub l2: f64,
    /// Share of the target that all classes have in equal parts.
    pub smoothing: f32,
    /// Weight of log-sum-exp² in the loss: keeps logits near log-probabilities.
    pub z_loss: f32,
    /// Rows per batch, a multiple of 8.
    pub batch: usize,
    /// Rows seen before this call's `order`, over all epochs.
    pub seen: u64,
    /// Rows to see in all epochs.
    pub total: u64,
    /// What the epoch has come to before this call: carried on, so that where calls end changes no bit.
    pub signs: Signs,
}

/// How losses, logits and gradients behave, over some rows.
#[derive(Debug, Default, Clone, Copy)]
pub struct Signs {
    /// Σ of the weighted losses, in nats, each before its row's step.
    pub loss: f64,
    /// Σ of the weights of the rows.
    pub weight: f64,
    /// The largest absolute logit.
    pub largest: f32,
    /// Σ logit².
    pub logits: f64,
    /// Σ of the squared norm of each row's gradient by its logits.
    pub gradients: f64,
    /// Rows with a probability above `SATURATED`.
    pub saturated: u64,
}

impl Signs {
    pub(crate) fn add(&mut self, other: Signs) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.largest = self.largest.max(other.largest);
        self.logits += other.logits;
        self.gradients += other.gradients;
        self.saturated += other.saturated;
    }
}

/// In 16 lanes: a plain sum would wait for each addition.
#[inline(always)]
fn squares(row: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 16];
    for chunk in row.chunks(16) {
        for (lane, z) in lanes.iter_mut().zip(chunk) {
            *lane += z * z;
        }
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum()
}

#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for chunk in row.chunks(16) {
        for (lane, z) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(z.abs());
        }
    }
    lanes.iter().copied().fold(0.0, f32::max)
}

/// A row with a probability above this is settled; of several labels each must be, for yes or for no.
const SATURATED: f32 = 0.99;

/// A row whose loss, in nats, is below this has been learned: it makes no step, unless
/// targets are smoothed or shares, or there is a z-loss. That saves up to a third of the work and, on held-out rows, a little log loss.
const SURE: f32 = 0.02;
