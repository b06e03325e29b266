//! Training where classes are many and rows kept to their support: see `support`.
//!
//! As in `train`, but what a thread owns differs. Full rows belong by *class*:
//! they stand in tiles of a few hundred classes, tile by tile, and a tile's owner sums its part of
//! each row's logits. So a logit is summed by one thread, in one order, and what crosses
//! between cores is one float a logit, however many features there are. A tile of the rows a batch
//! needs fits in the second-level cache. The weights of other rows belong by
//! *feature*: their owner alone changes them; whoever turns logits into steps reads them all.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::kernel;
use crate::logits::BLOCK;
use crate::real;
use crate::simd::{Cpu, Level, dispatch, prefetch};
use crate::support::Occurrences;
use crate::teach::{Examples, Factor, Schedule, Signs};
use crate::threads::SpinBarrier;
use crate::train::{BIAS_RATE, PIECES, Progress, SMALL, Steps, pieces};

/// What `support` made, borrowed.
pub struct Layout<'a> {
    /// (features + 1, 2): the second of each is where its classes, and weights, begin.
    pub places: &'a [u32],
    /// Class of each weight.
    pub ids: &'a [u32],
    /// First feature of each unit of features, and the end.
    pub begins: &'a [u32],
    /// Of each text.
    pub full: Occurrences<'a>,
    /// Of each unit, of each text.
    pub kept: Occurrences<'a>,
}

impl Layout<'_> {
    /// Whether all sizes fit together, with so many weights in rows that are not full.
    pub fn fits(&self, kept: usize, texts: usize) -> bool {
        let places = |end: &u32| 2 * (*end as usize) + 1 < self.places.len();
        self.begins.len() > 1
            && self.begins.iter().all(places)
            && self.begins.windows(2).all(|ends| self.place(ends[0] as usize) <= self.place(ends[1] as usize))
            && self.place(self.begins[0] as usize) == 0
            && self.place(self.begins[self.units()] as usize) == kept
            && self.ids.len() == kept
            && self.full.indptr.len() == texts + 1
            && self.kept.indptr.len() == self.units() * (texts + 1)
    }

    fn units(&self) -> usize {
        self.begins.len() - 1
    }

    fn place(&self, feature: usize) -> usize {
        self.places[2 * feature + 1] as usize
    }

    /// Occurrences in a unit of a text.
    #[inline(always)]
    fn kept(&self, unit: usize, row: u32) -> (&[u32], &[f32]) {
        self.kept.list(unit * (self.kept.indptr.len() / self.units()) + row as usize)
    }
}

/// Classes of a tile: so many sums stay in registers while a row's features go by, and a tile
/// of all full rows in the cache while a batch's rows do.
pub const TILE: usize = 32;

/// A range of classes: their weights in the full rows, and their bias.
struct Tile<'w> {
    tile: usize,
    /// Of each full row; zero beyond the last class.
    weights: &'w mut [[f32; TILE]],
    bias: &'w mut [f32],
}

/// What threads exchange between phases. The locks are never contended: the
/// barriers keep writers and readers apart.
struct Exchange<'w> {
    /// Of each tile, of each row of the batch.
    sums: Vec<RwLock<Vec<[f32; TILE]>>>,
    /// Weights of each unit's rows that are not full.
    kept: Vec<RwLock<&'w mut [f32]>>,
    steps: [RwLock<Steps>; PIECES],
    barrier: SpinBarrier,
    stop: AtomicBool,
    done: AtomicUsize,
}

/// Train on the rows of `order`, from `begin` until all are done or `budget` is
/// spent: the caller calls again with the rest, to the same result.
#[allow(clippy::too_many_arguments)]
pub fn train(
    level: Level,
    layout: &Layout,
    examples: &Examples,
    order: &[u32],
    schedule: Schedule,
    scale: f64,
    full: &mut [f32],
    kept: &mut [f32],
    bias: &mut [f32],
    threads: usize,
    budget: Duration,
) -> Progress {
    let tiles = examples.classes.div_ceil(TILE);
    let threads = threads.clamp(1, PIECES);
    let mut owners: Vec<Vec<Tile>> = (0..threads).map(|_| Vec::new()).collect();
    let mut rest = full.as_chunks_mut().0;
    let size = rest.len() / tiles;
    for (tile, bias) in bias.chunks_mut(TILE).enumerate() {
        let weights;
        (weights, rest) = rest.split_at_mut(size);
        owners[tile % threads].push(Tile { tile, weights, bias });
    }
    let mut rest = kept;
    let mut units = Vec::new();
    for ends in layout.begins.windows(2) {
        let own;
        (own, rest) = rest.split_at_mut(layout.place(ends[1] as usize) - layout.place(ends[0] as usize));
        units.push(RwLock::new(own));
    }
    let exchange = Exchange {
        sums: (0..tiles).map(|_| RwLock::new(vec![[0.0; TILE]; schedule.batch])).collect(),
        kept: units,
        steps: std::array::from_fn(|_| RwLock::new(Steps::default())),
        barrier: SpinBarrier::new(threads),
        stop: AtomicBool::new(false),
        done: AtomicUsize::new(0),
    };
    let until = Instant::now() + budget;
    let job = |thread: usize, own: Vec<Tile>| {
        let exchange = &exchange;
        let worker = Worker { layout, examples, order, schedule, exchange, threads, thread, until };
        dispatch(level, Run((&worker, own, scale)))
    };
    let mut own = owners.into_iter();
    let first = own.next().unwrap_or_default();
    std::thread::scope(|scope| {
        for (i, own) in own.enumerate() {
            let job = &job;
            scope.spawn(move || job(i + 1, own));
        }
        job(0, first)
    })
}

struct Worker<'e, 'x> {
    layout: &'e Layout<'e>,
    examples: &'e Examples<'e>,
    order: &'e [u32],
    schedule: Schedule,
    exchange: &'e Exchange<'x>,
    threads: usize,
    thread: usize,
    until: Instant,
}

/// One thread's part: which it is, the tiles it owns, the factor on all weights.
type Part<'w, 'e, 'x, 'o> = (&'w Worker<'e, 'x>, Vec<Tile<'o>>, f64);

kernel!(Run<'w, 'e, 'x, 'o; ;>(Part<'w, 'e, 'x, 'o>) -> Progress = Worker::run);

impl<'e, 'x> Worker<'e, 'x> {
    /// All batches, as one of the threads.
    #[inline(always)]
    fn run(cpu: impl Cpu, (worker, mut own, scale): Part<'_, 'e, 'x, '_>) -> Progress {
        let Schedule { batch, l2, learning_rate, seen, total, .. } = worker.schedule;
        let (mut scale, mut finite, mut signs) = (scale, true, worker.schedule.signs);
        let exchange = worker.exchange;
        let _breaks = exchange.barrier.break_on_panic();
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
            worker.apply(&mut own, before, due, due < SMALL);
            own.iter_mut().for_each(|tile| worker.sum(tile, rows, scale as f32));
            if !exchange.barrier.wait() {
                break;
            }
            // Shrinking by L2 is a factor on all weights: steps are divided by it.
            let due = scale;
            scale *= real::exp(-rate * l2 * rows.len() as f64).max(SMALL);
            for piece in (worker.thread..PIECES).step_by(worker.threads) {
                let factor = Factor { rate: rate as f32, scale: scale as f32 };
                worker.step(cpu, &mut terms, piece, rows, due as f32, factor);
            }
            at += rows.len();
            if worker.thread == 0 {
                exchange.done.store(at, Ordering::Relaxed);
                exchange.stop.store(Instant::now() >= worker.until, Ordering::Relaxed);
            }
            if !exchange.barrier.wait() {
                break;
            }
            before = rows;
            if worker.thread == 0 {
                let done = exchange.steps.iter().take(pieces(rows).count());
                for piece in done.filter_map(|piece| piece.read().ok()) {
                    signs.add(piece.signs);
                }
                finite &= f64::is_finite(signs.loss);
            }
            if exchange.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        worker.apply(&mut own, before, scale, false);
        Progress { done: exchange.done.load(Ordering::Relaxed), scale, finite, signs }
    }

    /// Apply the steps of the batch before to all that this thread owns, in row order; multiply
    /// the factor on all weights in where it is due.
    #[inline(always)]
    fn apply(&self, own: &mut [Tile], rows: &[u32], scale: f64, due: bool) {
        let scale = scale as f32;
        for tile in own {
            self.apply_full(tile, rows, scale);
            if due {
                tile.weights.as_flattened_mut().iter_mut().for_each(|w| *w *= scale);
            }
        }
        for unit in (self.thread..self.layout.units()).step_by(self.threads) {
            let Ok(mut weights) = self.exchange.kept[unit].write() else { return };
            self.apply_kept(unit, &mut weights, rows);
            if due {
                weights.iter_mut().for_each(|w| *w *= scale);
            }
        }
    }

    #[inline(always)]
    fn apply_full(&self, tile: &mut Tile, rows: &[u32], scale: f32) {
        for (piece, rows) in self.exchange.steps.iter().zip(pieces(rows)) {
            let Ok(piece) = piece.read() else { return };
            let steps = piece.steps.chunks_exact(self.examples.classes);
            for ((&row, steps), taught) in rows.iter().zip(steps).zip(&piece.taught) {
                if !taught {
                    continue;
                }
                let mut own = [0.0; TILE];
                for (own, &step) in own.iter_mut().zip(&steps[tile.tile * TILE..]) {
                    *own = step;
                }
                for (bias, &step) in tile.bias.iter_mut().zip(&own) {
                    *bias += step * scale * BIAS_RATE;
                }
                let (indices, values) = self.layout.full.list(row as usize);
                for (&index, &value) in indices.iter().zip(values) {
                    let weights = &mut tile.weights[index as usize];
                    for k in 0..TILE {
                        weights[k] += own[k] * value;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn apply_kept(&self, unit: usize, weights: &mut [f32], rows: &[u32]) {
        let first = self.layout.place(self.layout.begins[unit] as usize);
        for (piece, rows) in self.exchange.steps.iter().zip(pieces(rows)) {
            let Ok(piece) = piece.read() else { return };
            let steps = piece.steps.chunks_exact(self.examples.classes);
            for ((&row, steps), taught) in rows.iter().zip(steps).zip(&piece.taught) {
                if !taught {
                    continue;
                }
                let (indices, values) = self.layout.kept(unit, row);
                for (&index, &value) in indices.iter().zip(values) {
                    let range = self.layout.place(index as usize)..self.layout.place(index as usize + 1);
                    let weights = &mut weights[range.start - first..range.end - first];
                    for (w, &id) in weights.iter_mut().zip(&self.layout.ids[range]) {
                        *w += steps[id as usize] * value;
                    }
                }
            }
        }
    }

    /// The bias and what full rows add to the logits of `rows`, of a tile's classes.
    #[inline(always)]
    fn sum(&self, tile: &Tile, rows: &[u32], scale: f32) {
        let Ok(mut sums) = self.exchange.sums[tile.tile].write() else { return };
        let mut bias = [0.0; TILE];
        bias[..tile.bias.len()].copy_from_slice(tile.bias);
        for (&row, sums) in rows.iter().zip(&mut *sums) {
            let mut own = [0.0; TILE];
            let (indices, values) = self.layout.full.list(row as usize);
            for (&index, &value) in indices.iter().zip(values) {
                let weights = &tile.weights[index as usize];
                for k in 0..TILE {
                    own[k] += value * weights[k];
                }
            }
            *sums = std::array::from_fn(|k| own[k] * scale + bias[k]);
        }
    }

    /// Logits of one piece of the batch's rows → what to add to the weights per unit of value.
    #[inline(always)]
    fn step(&self, cpu: impl Cpu, terms: &mut [f32], piece: usize, rows: &[u32], scale: f32, factor: Factor) {
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
        for (tile, sums) in self.exchange.sums.iter().enumerate() {
            let Ok(sums) = sums.read() else { return };
            for (z, sums) in steps.chunks_exact_mut(classes).zip(&sums[first..]) {
                for (z, &sum) in z[tile * TILE..].iter_mut().zip(sums) {
                    *z = sum;
                }
            }
        }
        for unit in 0..self.layout.units() {
            let Ok(weights) = self.exchange.kept[unit].read() else { return };
            let begin = self.layout.place(self.layout.begins[unit] as usize);
            for (i, (&row, z)) in rows_here.iter().zip(steps.chunks_exact_mut(classes)).enumerate() {
                if let Some(&row) = rows_here.get(i + 1) {
                    self.fetch_ahead(unit, row);
                }
                let (indices, values) = self.layout.kept(unit, row);
                for (&index, &value) in indices.iter().zip(values) {
                    let range = self.layout.place(index as usize)..self.layout.place(index as usize + 1);
                    let weights = &weights[range.start - begin..range.end - begin];
                    let value = value * scale;
                    for (&w, &id) in weights.iter().zip(&self.layout.ids[range]) {
                        z[id as usize] += value * w;
                    }
                }
            }
        }
        for ((&row, z), taught) in rows_here.iter().zip(steps.chunks_exact_mut(classes)).zip(taught) {
            *taught = self.examples.teach(cpu, &self.schedule, row as usize, factor, z, terms, signs);
        }
    }

    /// Ask for the places of a row's features.
    #[inline(always)]
    fn fetch_ahead(&self, unit: usize, row: u32) {
        for &index in self.layout.kept(unit, row).0 {
            prefetch(self.layout.places, 2 * index as usize);
        }
    }
}
