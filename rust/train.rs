//! Softmax regression, or one logistic regression per label, by mini-batch SGD: the same bits for any number of threads.
//!
//! Features belong to `SHARDS` shards by the top bits of their hash, neighbouring shards to
//! units, and a unit's weights are touched by one thread alone. A batch goes in two phases:
//!
//! 1. each owner first applies the steps of the batch before to its weights,
//!    then sums its units' shares of each row's logits;
//! 2. rows are dealt out: shares are added in the order of the units, softmax
//!    turns them into gradients, gradients into steps.
//!
//! A barrier stands after each phase. Nothing depends on which thread owns what.

use std::ops::Range;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::count::{SHARDS, cut};
use crate::lanes::{Lanes, Rows, groups};
use crate::lists::units;
use crate::logits::BLOCK;
use crate::real;
use crate::simd::{Cpu, Level, dispatch, prefetch};
use crate::teach::{Examples, Factor, Schedule, Signs};
use crate::threads::SpinBarrier;
use crate::{by_width, kernel};

/// Rows of a batch are dealt to threads in this many pieces.
pub(crate) const PIECES: usize = 8;

/// Steps of one piece of the batch's rows: (rows, classes).
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) steps: Vec<f32>,
    /// Of each row, whether it makes a step: see `SURE`.
    pub(crate) taught: Vec<bool>,
    pub(crate) signs: Signs,
}

/// What a thread owns: some neighbouring units, and of each block their first feature and their rows.
struct Own<'w> {
    units: Range<usize>,
    weights: Vec<(u32, &'w mut [f32])>,
}

impl Own<'_> {
    fn multiply(&mut self, factor: f32) {
        self.weights.iter_mut().flat_map(|(_, run)| run.iter_mut()).for_each(|w| *w *= factor);
    }
}

/// What threads exchange between phases. The locks are never contended: the
/// barriers keep writers and readers apart.
struct Exchange {
    shares: Vec<RwLock<Vec<f32>>>,
    steps: [RwLock<Steps>; PIECES],
    barrier: SpinBarrier,
    stop: AtomicBool,
    done: AtomicUsize,
}

/// Where training stands after a call.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Rows of `order` done.
    pub done: usize,
    /// Factor the weights stand to be multiplied by (L2).
    pub scale: f64,
    /// Whether every logit and step was finite.
    pub finite: bool,
    /// How the rows behaved, with what went before.
    pub signs: Signs,
}

/// Train on the rows of `order`, from `begin` until all are done or `budget` is
/// spent: the caller calls again with the rest, to the same result.
#[allow(clippy::too_many_arguments)]
pub fn train(
    level: Level,
    examples: &Examples,
    order: &[u32],
    schedule: Schedule,
    scale: f64,
    weights: &mut [f32],
    bias: &mut [f32],
    threads: usize,
    budget: Duration,
) -> Progress {
    let units = units(examples.blocks, examples.classes);
    let threads = threads.clamp(1, units);
    let owners = deal(examples, weights, units, threads);
    let Schedule { batch, .. } = schedule;
    let exchange = Exchange {
        shares: owners
            .iter()
            .map(|own| RwLock::new(vec![0.0; batch * own.units.len() * examples.classes]))
            .collect(),
        steps: std::array::from_fn(|_| RwLock::new(Steps::default())),
        barrier: SpinBarrier::new(threads),
        stop: AtomicBool::new(false),
        done: AtomicUsize::new(0),
    };
    let until = Instant::now() + budget;
    let job = |thread: usize, own: Own, bias: Option<&mut [f32]>| {
        let worker = Worker { examples, order, schedule, exchange: &exchange, units, threads, thread, until };
        dispatch(level, Run((&worker, own, bias, scale)))
    };
    let mut own = owners.into_iter();
    let first = own.next().unwrap_or(Own { units: 0..0, weights: Vec::new() });
    std::thread::scope(|scope| {
        for (i, own) in own.enumerate() {
            let job = &job;
            scope.spawn(move || job(i + 1, own, None));
        }
        job(0, first, Some(bias))
    })
}

/// Cut units and their weights into parts for so many threads.
fn deal<'w>(examples: &Examples, weights: &'w mut [f32], units: usize, threads: usize) -> Vec<Own<'w>> {
    let part = |thread| thread * units / threads;
    let own = |thread| Own { units: part(thread)..part(thread + 1), weights: Vec::new() };
    let mut all: Vec<Own> = (0..threads).map(own).collect();
    let mut rest = weights;
    for lists in examples.blocks {
        let begins = lists.shard_begins().map(|begin| begin as u32);
        let begin = |unit| begins[unit * (SHARDS / units)];
        for own in &mut all {
            let (first, end) = (begin(own.units.start), begin(own.units.end));
            own.weights.push((first, cut(&mut rest, (end - first) as usize * examples.classes)));
        }
    }
    all
}

struct Worker<'e> {
    examples: &'e Examples<'e>,
    order: &'e [u32],
    schedule: Schedule,
    exchange: &'e Exchange,
    units: usize,
    threads: usize,
    thread: usize,
    until: Instant,
}

/// One thread's part: which it is, the weights and perhaps the bias it owns, the factor on all weights.
type Part<'w, 'e, 'o> = (&'w Worker<'e>, Own<'o>, Option<&'o mut [f32]>, f64);

kernel!(Run<'w, 'e, 'o; ;>(Part<'w, 'e, 'o>) -> Progress = Worker::run);

impl<'e> Worker<'e> {
    /// All batches, as one of the threads; the one that is given the bias owns it.
    #[inline(always)]
    fn run(cpu: impl Cpu, (worker, mut own, mut bias, scale): Part<'_, 'e, '_>) -> Progress {
        let Schedule { batch, l2, learning_rate, seen, total, .. } = worker.schedule;
        let (mut scale, mut finite, mut signs) = (scale, true, worker.schedule.signs);
        let _breaks = worker.exchange.barrier.break_on_panic();
        let mut terms = [0.0; BLOCK];
        let mut before: &[u32] = &[];
        let mut at = 0;
        for rows in worker.order.chunks(batch) {
            let left = 1.0 - (seen + at as u64) as f64 / total as f64;
            let rate = learning_rate * left.max(0.0);
            let due = scale;
            if due < SMALL {
                scale = 1.0;
            }
            worker.apply(&mut own, before);
            if due < SMALL {
                own.multiply(due as f32);
            }
            worker.share(&own, rows, scale as f32);
            if let Some(bias) = bias.as_deref_mut() {
                worker.apply_bias(bias, before, due as f32);
                worker.add_bias(bias, &own, rows.len());
            }
            if !worker.exchange.barrier.wait() {
                break;
            }
            // Shrinking by L2 is a factor on all weights: steps are divided by it.
            scale *= real::exp(-rate * l2 * rows.len() as f64).max(SMALL);
            for piece in (worker.thread..PIECES).step_by(worker.threads) {
                worker.step(cpu, &mut terms, piece, rows, rate as f32, scale as f32);
            }
            at += rows.len();
            if worker.thread == 0 {
                worker.exchange.done.store(at, Ordering::Relaxed);
                worker.exchange.stop.store(Instant::now() >= worker.until, Ordering::Relaxed);
            }
            if !worker.exchange.barrier.wait() {
                break;
            }
            before = rows;
            if worker.thread == 0 {
                let done = worker.exchange.steps.iter().take(pieces(rows).count());
                for piece in done.filter_map(|piece| piece.read().ok()) {
                    signs.add(piece.signs);
                }
                finite &= f64::is_finite(signs.loss);
            }
            if worker.exchange.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        worker.apply(&mut own, before);
        if let Some(bias) = bias {
            worker.apply_bias(bias, before, scale as f32);
        }
        Progress { done: worker.exchange.done.load(Ordering::Relaxed), scale, finite, signs }
    }

    /// The shards of some units.
    #[inline(always)]
    fn shards(&self, units: Range<usize>) -> Range<usize> {
        let each = SHARDS / self.units;
        units.start * each..units.end * each
    }

    /// What the units of this thread add to the logits of `rows`, unit by unit.
    #[inline(always)]
    fn share(&self, own: &Own, rows: &[u32], scale: f32) {
        let Ok(mut shares) = self.exchange.shares[self.thread].write() else { return };
        for columns in groups(self.examples.classes) {
            let shares = &mut *shares;
            by_width!(columns.len(), self.share_columns(own, rows, scale, &columns, shares));
        }
    }

    #[inline(always)]
    fn share_columns<const L: usize, const F: usize, const TAIL: bool>(
        &self,
        own: &Own,
        rows: &[u32],
        scale: f32,
        columns: &Range<usize>,
        shares: &mut [f32],
    ) {
        let classes = self.examples.classes;
        let mut shares = shares.chunks_exact_mut(classes);
        for (i, &row) in rows.iter().enumerate() {
            self.fetch_ahead(own, rows, i);
            for (unit, shares) in own.units.clone().zip(&mut shares) {
                let mut sums = Lanes::<L, F, TAIL>::ZERO;
                for (lists, (begin, weights)) in self.examples.blocks.iter().zip(&own.weights) {
                    let rows = Rows { weights, begin: *begin, width: classes, columns: columns.clone() };
                    sums = sums.plus_rows(lists.list(&self.shards(unit..unit + 1), row as usize), &rows);
                }
                sums.times(scale).store(&mut shares[columns.clone()]);
            }
        }
    }

    /// Rows come in random order: ask for where a later one's lists begin, and for the lists of the next.
    #[inline(always)]
    fn fetch_ahead(&self, own: &Own, rows: &[u32], at: usize) {
        let shard = self.shards(own.units.clone()).start;
        for lists in self.examples.blocks {
            if let Some(&row) = rows.get(at + 6) {
                prefetch(lists.indptr, row as usize * SHARDS + shard);
            }
            if let Some(&row) = rows.get(at + 2) {
                let begin = lists.indptr[row as usize * SHARDS + shard] as usize;
                for line in 0..3 {
                    prefetch(lists.indices, begin + 16 * line);
                    prefetch(lists.values, begin + 16 * line);
                }
            }
        }
    }

    /// Apply the steps of the batch before to what this thread owns, in row order.
    #[inline(always)]
    fn apply(&self, own: &mut Own, rows: &[u32]) {
        for columns in groups(self.examples.classes) {
            by_width!(columns.len(), self.apply_columns(own, rows, &columns));
        }
    }

    #[inline(always)]
    fn apply_columns<const L: usize, const F: usize, const TAIL: bool>(
        &self,
        own: &mut Own,
        rows: &[u32],
        columns: &Range<usize>,
    ) {
        let (classes, shards) = (self.examples.classes, self.shards(own.units.clone()));
        for (piece, rows) in pieces(rows).enumerate() {
            let Ok(piece) = self.exchange.steps[piece].read() else { return };
            let steps = piece.steps.chunks_exact(classes);
            for ((&row, steps), _) in rows.iter().zip(steps).zip(&piece.taught).filter(|(_, taught)| **taught)
            {
                let step = Lanes::<L, F, TAIL>::load(&steps[columns.clone()]);
                for (lists, (begin, weights)) in self.examples.blocks.iter().zip(&mut own.weights) {
                    let (indices, values) = lists.list(&shards, row as usize);
                    for (&index, &value) in indices.iter().zip(values) {
                        let at = (index - *begin) as usize * classes;
                        let row = &mut weights[at + columns.start..at + columns.end];
                        Lanes::load(row).plus(value, step).store(row);
                    }
                }
            }
        }
    }

    fn apply_bias(&self, bias: &mut [f32], rows: &[u32], scale: f32) {
        for piece in self.exchange.steps.iter().take(pieces(rows).count()) {
            let Ok(piece) = piece.read() else { return };
            for steps in piece.steps.chunks_exact(bias.len()) {
                bias.iter_mut().zip(steps).for_each(|(bias, &step)| *bias += step * scale * BIAS_RATE);
            }
        }
    }

    /// The bias joins what the first unit adds: its owner is thread 0, too.
    fn add_bias(&self, bias: &[f32], own: &Own, rows: usize) {
        let Ok(mut shares) = self.exchange.shares[0].write() else { return };
        for sums in shares.chunks_exact_mut(bias.len()).step_by(own.units.len()).take(rows) {
            sums.iter_mut().zip(bias).for_each(|(sum, &bias)| *sum += bias);
        }
    }

    /// Logits of one piece of the batch's rows → what to add to the weights per unit of value.
    #[inline(always)]
    fn step(&self, cpu: impl Cpu, terms: &mut [f32], piece: usize, rows: &[u32], rate: f32, scale: f32) {
        let classes = self.examples.classes;
        let Some(rows_here) = pieces(rows).nth(piece) else { return };
        let first = piece * rows.len().div_ceil(PIECES);
        let Ok(mut own) = self.exchange.steps[piece].write() else { return };
        let Steps { steps, taught, signs } = &mut *own;
        taught.clear();
        taught.resize(rows_here.len(), true);
        steps.clear();
        steps.resize(rows_here.len() * classes, 0.0);
        *signs = Signs::default();
        // Thread by thread is unit by unit: the sum is the same for any number of threads.
        for shares in self.exchange.shares.iter().filter_map(|shares| shares.read().ok()) {
            let width = shares.len() / self.schedule.batch;
            for (sums, shares) in
                steps.chunks_exact_mut(classes).zip(shares[first * width..].chunks_exact(width))
            {
                for share in shares.chunks_exact(classes) {
                    sums.iter_mut().zip(share).for_each(|(sum, &share)| *sum += share);
                }
            }
        }
        let factor = Factor { rate, scale };
        for ((&row, z), taught) in rows_here.iter().zip(steps.chunks_exact_mut(classes)).zip(taught) {
            *taught = self.examples.teach(cpu, &self.schedule, row as usize, factor, z, terms, signs);
        }
    }
}

/// Below this the factor on all weights is multiplied in: what is divided by it must not overflow.
pub(crate) const SMALL: f64 = 1e-6;

/// The bias moves by about a batch's mean gradient: as a feature of value 1 it
/// would stand in every row, and a batch of steps would overshoot.
pub(crate) const BIAS_RATE: f32 = 1.0 / 32.0;

/// Rows of a batch in up to `PIECES` runs.
pub(crate) fn pieces(rows: &[u32]) -> std::slice::Chunks<'_, u32> {
    rows.chunks(rows.len().div_ceil(PIECES).max(1))
}

/// A permutation of 0..n: Fisher and Yates' shuffle on splitmix64, ours so
/// that no library's change of generator changes a model.
pub fn shuffle(n: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    let mut state = seed;
    for last in (1..order.len()).rev() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        // The high half of a product is uniform enough below 2³² (bias < 2⁻³²).
        let other = (u128::from(bits) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}
