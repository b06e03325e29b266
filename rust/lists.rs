//! The counted n-grams of rows, as training reads them, and the logits of rows from those.

use std::ops::Range;

use crate::count::SHARDS;
use crate::lanes::{Lanes, List, Rows, groups};
use crate::simd::{Cpu, Level, dispatch};
use crate::support::{Values, Weights};
use crate::{by_width, kernel};

/// One block of features of all rows: see `count::Listed`.
#[derive(Clone, Copy)]
pub struct Lists<'a> {
    /// Sorted hashes: where shards begin.
    pub hashes: &'a [u64],
    /// (rows × SHARDS + 1)
    pub indptr: &'a [i64],
    /// Feature of each occurrence.
    pub indices: &'a [u32],
    /// Value of each occurrence.
    pub values: &'a [f32],
}

impl Lists<'_> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.indptr.len().saturating_sub(1) / SHARDS
    }

    /// The occurrences of one row in some shards.
    #[inline(always)]
    pub fn list(&self, shards: &Range<usize>, row: usize) -> List<'_> {
        let at = &self.indptr[row * SHARDS..=(row + 1) * SHARDS];
        let range = at[shards.start] as usize..at[shards.end] as usize;
        (&self.indices[range.clone()], &self.values[range])
    }

    /// The first feature of each shard, and the end.
    pub fn shard_begins(&self) -> [usize; SHARDS + 1] {
        let shift = 64 - SHARDS.trailing_zeros();
        std::array::from_fn(|s| match s {
            SHARDS => self.hashes.len(),
            _ => self.hashes.partition_point(|&hash| ((hash >> shift) as usize) < s),
        })
    }
}

/// What a unit should have of a row, in occurrences times classes (and a few more: what each costs at any rate).
const WORTH: usize = 1024;

/// How many units the shards are put together to. Each is a sum of its own and a loop of its own, and bounds the
/// useful threads: short rows are worth few. By the data alone, since sums follow the units.
pub(crate) fn units(blocks: &[Lists], classes: usize) -> usize {
    let occurrences: usize = blocks.iter().map(|lists| lists.indices.len()).sum();
    let rows = blocks.first().map_or(0, Lists::rows).max(1);
    let wanted = (occurrences / rows * (classes + 8) / WORTH).clamp(2, SHARDS);
    1 << wanted.ilog2()
}

/// Logits of chosen rows of counted features, as training computes them.
pub fn logits(
    level: Level,
    blocks: &[Lists],
    rows: &[u32],
    weights: Weights,
    bias: &[f32],
    threads: usize,
) -> Vec<f32> {
    let classes = bias.len();
    let mut out = vec![0.0; rows.len() * classes];
    let work: Vec<_> = rows.chunks(256).zip(out.chunks_mut(256 * classes)).collect();
    crate::threads::share(
        threads,
        work,
        || (),
        |(), (rows, out)| {
            dispatch(level, Counted((blocks, rows, weights, bias, out)));
        },
    );
    out
}

/// Features, which rows, weights, bias, and where their logits go.
type Asked<'a, 'o> = (&'a [Lists<'a>], &'a [u32], Weights<'a>, &'a [f32], &'o mut [f32]);

kernel!(Counted<'a, 'o; ;>(Asked<'a, 'o>) -> () = counted_logits);

#[inline(always)]
fn counted_logits(_: impl Cpu, (blocks, rows, weights, bias, out): Asked<'_, '_>) {
    if let Weights::Dense(Values::Floats(weights)) = weights {
        for columns in groups(bias.len()) {
            by_width!(columns.len(), dense_logits(blocks, rows, weights, bias, &columns, out));
        }
        return;
    }
    for (&row, out) in rows.iter().zip(out.chunks_exact_mut(bias.len())) {
        out.copy_from_slice(bias);
        let mut first = 0;
        for lists in blocks {
            let (indices, values) = lists.list(&(0..SHARDS), row as usize);
            for (&index, &value) in indices.iter().zip(values) {
                weights.add(first + index as usize, value, out);
            }
            first += lists.hashes.len();
        }
    }
}

#[inline(always)]
fn dense_logits<const L: usize, const F: usize, const TAIL: bool>(
    blocks: &[Lists],
    rows: &[u32],
    mut weights: &[f32],
    bias: &[f32],
    columns: &Range<usize>,
    out: &mut [f32],
) {
    let classes = bias.len();
    out.chunks_exact_mut(classes)
        .for_each(|out| out[columns.clone()].copy_from_slice(&bias[columns.clone()]));
    for lists in blocks {
        let (own, others) = weights.split_at(lists.hashes.len() * classes);
        let own = Rows { weights: own, begin: 0, width: classes, columns: columns.clone() };
        weights = others;
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(classes)) {
            let out = &mut out[columns.clone()];
            let sums = Lanes::<L, F, TAIL>::load(out);
            sums.plus_rows(lists.list(&(0..SHARDS), row as usize), &own).store(out);
        }
    }
}
