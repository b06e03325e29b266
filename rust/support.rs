//! Which weights there are, where classes are many: an n-gram has one for each class it was seen with.
//!
//! That is its row's *support*, fixed before training. An n-gram seen with many
//! classes has a *full* row instead, one weight a class: what speaks against a
//! class is in those. So the weights are bounded by the data, not by features × classes.

use crate::count::SHARDS;
use crate::threads::share;
use crate::train::Lists;

/// Class of each weight of the rows that are not full.
#[derive(Clone, Copy)]
pub enum Ids<'a> {
    /// Up to 65,536 classes.
    Short(&'a [u16]),
    /// Any number.
    Long(&'a [u32]),
}

impl Ids<'_> {
    fn len(&self) -> usize {
        match self {
            Ids::Short(ids) => ids.len(),
            Ids::Long(ids) => ids.len(),
        }
    }
}

/// The rows of a layer's weights. Nothing read from `places` and `ids` is trusted.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// (features, classes)
    Dense(&'a [f32]),
    /// Each row as long as its support.
    Kept {
        /// (features + 1, 2): where each row begins among the weights and among the classes. A row
        /// without classes is full.
        places: &'a [u32],
        /// Of each weight of the other rows.
        ids: Ids<'a>,
        /// Of all rows.
        weights: &'a [f32],
    },
}

impl Weights<'_> {
    /// Add `value` times one row to `sums`, one of each class; a row that is not there adds nothing.
    #[inline(always)]
    pub fn add(&self, row: usize, value: f32, sums: &mut [f32]) {
        match *self {
            Weights::Dense(weights) => {
                let begin = row * sums.len();
                if let Some(weights) = weights.get(begin..begin + sums.len()) {
                    add_full(value, weights, sums);
                }
            }
            Weights::Kept { places, ids, weights } => {
                let Some(&[begin, first, end, last]) = places.get(2 * row..2 * row + 4) else { return };
                let Some(weights) = weights.get(begin as usize..end as usize) else { return };
                let range = first as usize..last as usize;
                match ids {
                    _ if range.is_empty() => add_full(value, weights, sums),
                    Ids::Short(ids) => add_kept(value, weights, ids.get(range).unwrap_or(&[]), sums),
                    Ids::Long(ids) => add_kept(value, weights, ids.get(range).unwrap_or(&[]), sums),
                }
            }
        }
    }

    /// One weight of a row, 0 for a class it has none for: what `add` adds times the value.
    #[inline(always)]
    pub fn of(&self, row: usize, class: usize, classes: usize) -> f32 {
        match *self {
            Weights::Dense(weights) => weights.get(row * classes + class).copied().unwrap_or(0.0),
            Weights::Kept { places, ids, weights } => {
                let Some(&[begin, first, end, last]) = places.get(2 * row..2 * row + 4) else { return 0.0 };
                let Some(weights) = weights.get(begin as usize..end as usize) else { return 0.0 };
                let range = first as usize..last as usize;
                let at = match ids {
                    _ if range.is_empty() => Some(class),
                    Ids::Short(ids) => place(ids.get(range).unwrap_or(&[]), class),
                    Ids::Long(ids) => place(ids.get(range).unwrap_or(&[]), class),
                };
                at.and_then(|at| weights.get(at)).copied().unwrap_or(0.0)
            }
        }
    }

    /// Ask for where a row is said to begin, then, later, for the row.
    #[inline(always)]
    pub fn ask(&self, row: usize, classes: usize, later: bool) {
        match *self {
            Weights::Dense(weights) if !later => crate::simd::prefetch(weights, row * classes),
            Weights::Kept { places, .. } if !later => crate::simd::prefetch(places, 2 * row),
            Weights::Kept { places, ids, weights } => {
                let Some(&[begin, first]) = places.get(2 * row..2 * row + 2) else { return };
                crate::simd::prefetch(weights, begin as usize);
                match ids {
                    Ids::Short(ids) => crate::simd::prefetch(ids, first as usize),
                    Ids::Long(ids) => crate::simd::prefetch(ids, first as usize),
                }
            }
            Weights::Dense(_) => {}
        }
    }

    /// Whether there are weights for `features` rows of so many classes, so far as sizes tell.
    pub fn fits(&self, features: usize, classes: usize) -> bool {
        match *self {
            Weights::Dense(weights) => weights.len() == features * classes,
            Weights::Kept { places, ids, weights } => {
                places.len() == 2 * (features + 1) && ids.len() <= weights.len()
            }
        }
    }
}

/// Where a class stands among rising ids.
#[inline(always)]
fn place<I: Copy + Into<u32>>(ids: &[I], class: usize) -> Option<usize> {
    ids.binary_search_by_key(&(class as u32), |&id| id.into()).ok()
}

#[inline(always)]
fn add_full(value: f32, weights: &[f32], sums: &mut [f32]) {
    for (sum, &w) in sums.iter_mut().zip(weights) {
        *sum += value * w;
    }
}

#[inline(always)]
fn add_kept<I: Copy + Into<u32>>(value: f32, weights: &[f32], ids: &[I], sums: &mut [f32]) {
    for (&w, &id) in weights.iter().zip(ids) {
        if let Some(sum) = sums.get_mut(id.into() as usize) {
            *sum += value * w;
        }
    }
}

/// Lists of occurrences: list `i` is `indptr[i]..indptr[i + 1]`.
#[derive(Clone, Copy)]
pub struct Occurrences<'a> {
    /// Where lists begin.
    pub indptr: &'a [i64],
    /// Feature, or number of the full row, of each occurrence.
    pub indices: &'a [u32],
    /// Value of each occurrence.
    pub values: &'a [f32],
}

impl<'a> Occurrences<'a> {
    /// Indices and values of one list.
    #[inline(always)]
    pub fn list(&self, at: usize) -> (&'a [u32], &'a [f32]) {
        let range = self.indptr[at] as usize..self.indptr[at + 1] as usize;
        (&self.indices[range.clone()], &self.values[range])
    }
}

/// [`Occurrences`] that own their arrays.
#[derive(Default)]
pub struct Lots {
    /// Where lists begin.
    pub indptr: Vec<i64>,
    /// Of each occurrence.
    pub indices: Vec<u32>,
    /// Of each occurrence.
    pub values: Vec<f32>,
}

impl Lots {
    fn append(&mut self, more: Lots) {
        let first = *self.indptr.last().unwrap_or(&0);
        let begins = &more.indptr[usize::from(!self.indptr.is_empty())..];
        self.indptr.extend(begins.iter().map(|&begin| first + begin));
        self.indices.extend(more.indices);
        self.values.extend(more.values);
    }
}

/// The support of every n-gram, and the occurrences dealt by the kind of their row.
#[derive(Default)]
pub struct Support {
    /// As in [`Weights::Kept`].
    pub places: Vec<u32>,
    /// Classes of the rows that are not full.
    pub ids: Vec<u32>,
    /// First feature of each shard of each block, and the end.
    pub begins: Vec<u32>,
    /// Of each text, its n-grams with full rows, numbered among those.
    pub full: Lots,
    /// Of each shard of each block, of each text, its other n-grams.
    pub kept: Lots,
}

/// Features of one shard of one block.
struct Unit<'a> {
    lists: Lists<'a>,
    shard: usize,
    /// First in its block, and in all.
    begin: usize,
    first: usize,
    features: usize,
}

fn units<'a>(blocks: &[Lists<'a>]) -> Vec<Unit<'a>> {
    let (mut all, mut first) = (Vec::new(), 0);
    for &lists in blocks {
        let begins = lists.shard_begins();
        for shard in 0..SHARDS {
            let features = begins[shard + 1] - begins[shard];
            all.push(Unit { lists, shard, begin: begins[shard], first: first + begins[shard], features });
        }
        first += lists.hashes.len();
    }
    all
}

impl Unit<'_> {
    /// How many classes each feature was seen with, and which, of those seen with fewer than `full_from`.
    fn seen_with(&self, rows: &[u32], labels: &[u32], full_from: u32) -> (Vec<u32>, Vec<u32>) {
        let mut counts = vec![0u32; self.features];
        self.pairs(rows, labels, |feature, _| counts[feature] += 1);
        let mut ends = Vec::with_capacity(self.features);
        let mut total = 0;
        for &count in &counts {
            ends.push(total);
            total += if count < full_from { count as usize } else { 0 };
        }
        let mut ids = vec![0u32; total];
        self.pairs(rows, labels, |feature, label| {
            if counts[feature] < full_from {
                ids[ends[feature]] = label;
                ends[feature] += 1;
            }
        });
        (counts, ids)
    }

    /// Each feature with each class it was seen with, once: rows come in the order of their labels.
    fn pairs(&self, rows: &[u32], labels: &[u32], mut found: impl FnMut(usize, u32)) {
        let mut last = vec![u32::MAX; self.features];
        for (&row, &label) in rows.iter().zip(labels) {
            for &index in &self.lists.indices[self.lists.row(self.shard, row as usize)] {
                let feature = index as usize - self.begin;
                if last[feature] != label {
                    last[feature] = label;
                    found(feature, label);
                }
            }
        }
    }

    /// Occurrences of features whose rows are not full, or of the others.
    fn occurrences(&self, rows: std::ops::Range<usize>, number: &[u32], full: bool, into: &mut Lots) {
        for row in rows {
            self.list(row, number, full, into);
            into.indptr.push(into.indices.len() as i64);
        }
    }

    fn list(&self, row: usize, number: &[u32], full: bool, into: &mut Lots) {
        let range = self.lists.row(self.shard, row);
        for (&index, &value) in self.lists.indices[range.clone()].iter().zip(&self.lists.values[range]) {
            let feature = index as usize - self.begin + self.first;
            if (number[feature] != NOT_FULL) == full {
                into.indices.push(if full { number[feature] } else { feature as u32 });
                into.values.push(value);
            }
        }
    }
}

const NOT_FULL: u32 = u32::MAX;

/// The support of the n-grams of counted texts, by some of them: `rows`, in the order of their
/// `labels` (a text may stand there with several). A row is full from so many classes on.
///
/// None if the weights are 2³² or more.
pub fn support(
    blocks: &[Lists],
    rows: &[u32],
    labels: &[u32],
    classes: usize,
    full_from: u32,
    threads: usize,
) -> Option<Support> {
    let units = units(blocks);
    let mut found: Vec<(Vec<u32>, Vec<u32>)> = vec![Default::default(); units.len()];
    let work: Vec<_> = units.iter().zip(&mut found).collect();
    share(threads, work, || (), |(), (unit, found)| *found = unit.seen_with(rows, labels, full_from));
    let (mut places, mut ids, mut number) = (vec![0u32, 0], Vec::new(), Vec::new());
    let (mut end, mut last, mut full) = (0u64, 0u64, 0u32);
    for (counts, unit_ids) in found {
        for count in counts {
            if count < full_from {
                (end, last) = (end + u64::from(count), last + u64::from(count));
                number.push(NOT_FULL);
            } else {
                end += classes as u64;
                number.push(full);
                full += 1;
            }
            places.extend([u32::try_from(end).ok()?, last as u32]);
        }
        ids.extend(unit_ids);
    }
    let begins = units.iter().map(|unit| unit.first as u32).chain([number.len() as u32]).collect();
    let texts = (blocks.first()?.indptr.len() / SHARDS).saturating_sub(1);
    let mut kept: Vec<Lots> = units.iter().map(|_| Lots { indptr: vec![0], ..Lots::default() }).collect();
    let work: Vec<_> = units.iter().zip(&mut kept).collect();
    share(threads, work, || (), |(), (unit, kept)| unit.occurrences(0..texts, &number, false, kept));
    let ranges: Vec<_> = (0..texts).step_by(4096).map(|begin| begin..texts.min(begin + 4096)).collect();
    let mut fulls: Vec<Lots> = ranges.iter().map(|_| Lots { indptr: vec![0], ..Lots::default() }).collect();
    let work: Vec<_> = ranges.into_iter().zip(&mut fulls).collect();
    share(
        threads,
        work,
        || (),
        |(), (range, full)| {
            for row in range {
                units.iter().for_each(|unit| unit.list(row, &number, true, full));
                full.indptr.push(full.indices.len() as i64);
            }
        },
    );
    let mut all = Support { places, ids, begins, full: Lots::default(), kept: Lots::default() };
    all.full.indptr.push(0);
    fulls.into_iter().for_each(|full| all.full.append(full));
    kept.into_iter().for_each(|kept| {
        // Each list of lists keeps its own end: the next begins there.
        let first = all.kept.indices.len() as i64;
        all.kept.indptr.extend(kept.indptr.iter().map(|&begin| first + begin));
        all.kept.indices.extend(kept.indices);
        all.kept.values.extend(kept.values);
    });
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(places: &[u32], row: usize) -> [f32; 4] {
        let (ids, weights) = ([0, 3, 9], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let mut sums = [0.0; 4];
        Weights::Kept { places, ids: Ids::Short(&ids), weights: &weights }.add(row, 2.0, &mut sums);
        sums
    }

    #[test]
    fn rows_add_what_they_keep() {
        // Classes 0 and 3; all four; none; one that is not there.
        let places = [0, 0, 2, 2, 6, 2, 6, 2, 7, 3];
        assert_eq!(sums(&places, 0), [2.0, 0.0, 0.0, 4.0]);
        assert_eq!(sums(&places, 1), [6.0, 8.0, 10.0, 12.0]);
        assert_eq!(sums(&places, 2), [0.0; 4]);
        assert_eq!(sums(&places, 3), [0.0; 4]);
    }

    #[test]
    fn places_that_lie_add_nothing() {
        for places in [[7, 0, 2, 2], [0, 0, 99, 2], [0, 2, 2, 1], [0, 90, 2, 99], [u32::MAX; 4]] {
            let _ = sums(&places, 0);
        }
        assert_eq!(sums(&[0, 0, 2, 2], 1), [0.0; 4]);
        assert_eq!(sums(&[], 5), [0.0; 4]);
    }

    #[test]
    fn the_support_by_hand() {
        // Three texts of classes 0, 0 and 2: feature 0 in all, feature 1 in the second, 2 in the last.
        let begins = [0i64, 1, 3, 5];
        let indptr: Vec<i64> = begins.into_iter().chain([5; 4 * (SHARDS - 1)]).collect();
        let lists =
            Lists { hashes: &[1, 2, 3], indptr: &indptr, indices: &[0, 0, 1, 0, 2], values: &[1.0; 5] };
        let found = support(&[lists], &[0, 1, 2], &[0, 0, 2], 4, 2, 2).unwrap_or_default();
        assert_eq!(found.places, [0, 0, 4, 0, 5, 1, 6, 2]);
        assert_eq!(found.ids, [0, 2]);
        assert_eq!(found.full.indices, [0, 0, 0]);
        assert_eq!(found.kept.indices, [1, 2]);
        assert_eq!(found.full.indptr, [0, 1, 2, 3]);
    }
}
