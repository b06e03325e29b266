//! Which weights there are, where classes are many: an n-gram has one for each class it was seen with.
//!
//! That is its row's *support*, fixed before training. An n-gram seen with many
//! classes has a *full* row instead, one weight a class: what speaks against a
//! class is in those. So the weights are bounded by the data, not by features × classes.

use std::ops::Range;

use crate::count::SHARDS;
use crate::lanes::List;
use crate::lists::{self, Lists};
use crate::threads::share;

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

/// The weights themselves, row after row.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// As they were trained.
    Floats(&'a [f32]),
    /// Of a compressed model: times two to the power of the exponent of their row.
    Bytes {
        /// One byte each.
        values: &'a [i8],
        /// (features,)
        exponents: &'a [i8],
    },
}

/// The rows of a layer's weights. Nothing read from `places`, `ids` and `exponents` is trusted.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// (features, classes)
    Dense(Values<'a>),
    /// Each row as long as its support.
    Kept {
        /// (features + 1, 2): where each row begins among the weights and among the classes. A row
        /// without classes is full.
        places: &'a [u32],
        /// Of each weight of the other rows.
        ids: Ids<'a>,
        /// Of all rows.
        weights: Values<'a>,
    },
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Values::Floats(values) => values.len(),
            Values::Bytes { values, .. } => values.len(),
        }
    }

    #[inline(always)]
    fn ask(&self, at: usize) {
        match *self {
            Values::Floats(values) => crate::simd::prefetch(values, at),
            Values::Bytes { values, .. } => crate::simd::prefetch(values, at),
        }
    }

    #[inline(always)]
    fn get(&self, at: usize) -> f32 {
        match *self {
            Values::Floats(values) => values.get(at).copied().unwrap_or(0.0),
            Values::Bytes { values, .. } => values.get(at).map_or(0.0, |&w| w.into()),
        }
    }
}

impl<'a> Weights<'a> {
    fn values(&self) -> Values<'a> {
        match *self {
            Weights::Dense(values) | Weights::Kept { weights: values, .. } => values,
        }
    }

    /// Multiply values by the powers of two of their rows, once for all classes: exact, so that bytes
    /// give the same bits as the floats they stand for.
    #[inline(always)]
    pub fn fold(&self, rows: &[u32], factors: &mut [f32]) {
        if let Values::Bytes { exponents, .. } = self.values() {
            for (row, value) in rows.iter().zip(factors) {
                let exponent = exponents.get(*row as usize).map_or(0, |&e| i32::from(e).max(-126));
                *value *= f32::from_bits(((exponent + 127) as u32) << 23);
            }
        }
    }

    /// Where a row stands among the weights and among the classes: nowhere among these if it is full.
    #[inline(always)]
    fn place(&self, row: usize, classes: usize) -> Option<[std::ops::Range<usize>; 2]> {
        match *self {
            Weights::Dense(_) => Some([row * classes..(row + 1) * classes, 0..0]),
            Weights::Kept { places, .. } => match places.get(2 * row..2 * row + 4) {
                Some(&[begin, first, end, last]) => {
                    Some([begin as usize..end as usize, first as usize..last as usize])
                }
                _ => None,
            },
        }
    }

    /// Add `value` times one row, as it is stored (see `fold`), to `sums`, one of each class; a row that
    /// is not there adds nothing.
    #[inline(always)]
    pub fn add(&self, row: usize, value: f32, sums: &mut [f32]) {
        let Some([own, of_ids]) = self.place(row, sums.len()) else { return };
        match self.values() {
            Values::Floats(values) => self.add_row(value, values.get(own).unwrap_or(&[]), of_ids, sums),
            Values::Bytes { values, .. } => {
                self.add_row(value, values.get(own).unwrap_or(&[]), of_ids, sums);
            }
        }
    }

    #[inline(always)]
    fn add_row<W: Copy + Into<f32>>(
        &self,
        value: f32,
        weights: &[W],
        of_ids: std::ops::Range<usize>,
        sums: &mut [f32],
    ) {
        match *self {
            Weights::Kept { ids: Ids::Short(ids), .. } if !of_ids.is_empty() => {
                add_kept(value, weights, ids.get(of_ids).unwrap_or(&[]), sums);
            }
            Weights::Kept { ids: Ids::Long(ids), .. } if !of_ids.is_empty() => {
                add_kept(value, weights, ids.get(of_ids).unwrap_or(&[]), sums);
            }
            _ => add_full(value, weights, sums),
        }
    }

    /// One weight of a row as it is stored, 0 for a class it has none for: what `add` adds times the value.
    #[inline(always)]
    pub fn of(&self, row: usize, class: usize, classes: usize) -> f32 {
        let Some([own, of_ids]) = self.place(row, classes) else { return 0.0 };
        let at = match *self {
            Weights::Kept { ids: Ids::Short(ids), .. } if !of_ids.is_empty() => {
                place(ids.get(of_ids).unwrap_or(&[]), class)
            }
            Weights::Kept { ids: Ids::Long(ids), .. } if !of_ids.is_empty() => {
                place(ids.get(of_ids).unwrap_or(&[]), class)
            }
            _ => Some(class),
        };
        at.filter(|&at| at < own.len()).map_or(0.0, |at| self.values().get(own.start + at))
    }

    /// Ask for where a row is said to begin, or, of a matrix, for the weights from one class on.
    #[inline(always)]
    pub fn ask(&self, row: usize, class: usize, classes: usize, lines: usize) {
        if let Values::Bytes { exponents, .. } = self.values() {
            crate::simd::prefetch(exponents, row);
        }
        match *self {
            Weights::Dense(values) => {
                for line in 0..lines {
                    values.ask(row * classes + class + 16 * line);
                }
            }
            Weights::Kept { places, .. } => crate::simd::prefetch(places, 2 * row),
        }
    }

    /// Ask for a row that stands where `ask` asked for.
    #[inline(always)]
    pub fn ask_again(&self, row: usize) {
        let Weights::Kept { places, ids, weights } = *self else { return };
        let Some(&[begin, first]) = places.get(2 * row..2 * row + 2) else { return };
        weights.ask(begin as usize);
        match ids {
            Ids::Short(ids) => crate::simd::prefetch(ids, first as usize),
            Ids::Long(ids) => crate::simd::prefetch(ids, first as usize),
        }
    }

    /// Whether there are weights for `features` rows of so many classes, so far as sizes tell.
    pub fn fits(&self, features: usize, classes: usize) -> bool {
        let enough = match self.values() {
            Values::Floats(_) => true,
            Values::Bytes { exponents, .. } => exponents.len() == features,
        };
        enough
            && match *self {
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
fn add_full<W: Copy + Into<f32>>(value: f32, weights: &[W], sums: &mut [f32]) {
    for (sum, &w) in sums.iter_mut().zip(weights) {
        *sum += value * w.into();
    }
}

#[inline(always)]
fn add_kept<W: Copy + Into<f32>, I: Copy + Into<u32>>(
    value: f32,
    weights: &[W],
    ids: &[I],
    sums: &mut [f32],
) {
    for (&w, &id) in weights.iter().zip(ids) {
        if let Some(sum) = sums.get_mut(id.into() as usize) {
            *sum += value * w.into();
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
    /// First feature of each unit, some shards of one block, and the end.
    pub begins: Vec<u32>,
    /// Of each text, its n-grams with full rows, numbered among those.
    pub full: Lots,
    /// Of each unit, of each text, its other n-grams.
    pub kept: Lots,
}

/// Classes of a row that is not full, about.
const FEW: usize = 8;

/// Features of some neighbouring shards of one block.
struct Unit<'a> {
    lists: Lists<'a>,
    shards: Range<usize>,
    /// First in its block, and in all.
    begin: usize,
    first: usize,
    features: usize,
}

fn units<'a>(blocks: &[Lists<'a>]) -> Vec<Unit<'a>> {
    let (mut all, mut first) = (Vec::new(), 0);
    for &lists in blocks {
        let begins = lists.shard_begins();
        // An n-gram's own classes are few, whatever the number of classes.
        let each = SHARDS / lists::units(&[lists], FEW);
        for start in (0..SHARDS).step_by(each) {
            let (begin, end) = (begins[start], begins[start + each]);
            let shards = start..start + each;
            all.push(Unit { lists, shards, begin, first: first + begin, features: end - begin });
        }
        first += lists.hashes.len();
    }
    all
}

impl Unit<'_> {
    fn list_of(&self, row: usize) -> List<'_> {
        self.lists.list(&self.shards, row)
    }

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
            for &index in self.list_of(row as usize).0 {
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
        let (indices, values) = self.list_of(row);
        for (&index, &value) in indices.iter().zip(values) {
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
    let texts = blocks.first()?.rows();
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
        let floats = Weights::Kept { places, ids: Ids::Short(&ids), weights: Values::Floats(&weights) };
        floats.add(row, 2.0, &mut sums);
        // The same in bytes, times 2⁻¹ or 2³.
        for exponent in [-1, 3] {
            let (bytes, exponents) = ([1, 2, 3, 4, 5, 6, 7], [exponent; 4]);
            let values = Values::Bytes { values: &bytes, exponents: &exponents };
            let weights = Weights::Kept { places, ids: Ids::Short(&ids), weights: values };
            let mut own = [0.0; 4];
            let mut value = [2.0 * 2f32.powi(-i32::from(exponent))];
            weights.fold(&[row as u32], &mut value);
            weights.add(row, if row < 4 { value[0] } else { 2.0 }, &mut own);
            assert_eq!(own, sums);
            let of = |weights: Weights, class| weights.of(row, class, 4);
            (0..4).for_each(|class| assert_eq!(of(weights, class), of(floats, class)));
        }
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
        let ends = [1i64, 3, 5].into_iter().flat_map(|end| [end; SHARDS]);
        let indptr: Vec<i64> = [0].into_iter().chain(ends).collect();
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
