//! Counting n-grams: of one text, and of all texts.

use crate::ngrams::{Block, Recipe};
use crate::reader::Reader;
use crate::real;
use crate::text::Texts;
use crate::threads::{row_ranges, share};

/// Features are dealt to this many shards by their top bits: the units of
/// parallel work in training. It bounds the useful threads, not the result.
pub const SHARDS: usize = 8;

/// The shard of an n-gram.
#[inline(always)]
pub fn shard(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

/// Occurrences of one n-gram in one text are counted up to this.
pub const MOST: u32 = u16::MAX as u32;

/// One distinct n-gram of a text.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Of the n-gram.
    pub hash: u64,
    /// How often.
    pub count: u32,
    /// Where the reader has more of it; kept from the first occurrence.
    pub at: u32,
}

/// The distinct n-grams of one text with their counts, in order of first occurrence.
pub struct Counter {
    entries: Vec<Entry>,
    /// `base` and the place of an entry, from 1; up to `base` a slot is free. To forget a
    /// text, only `base` moves.
    slots: Vec<u32>,
    base: u32,
}

impl Default for Counter {
    fn default() -> Self {
        Self { entries: Vec::new(), slots: vec![0; 1024], base: 0 }
    }
}

impl Counter {
    /// Count one occurrence; whether it is the first.
    #[inline(always)]
    pub fn add(&mut self, hash: u64, at: u32) -> bool {
        let (entry, new) = self.place(hash, at);
        entry.count = (entry.count + 1).min(MOST);
        new
    }

    /// The entry of an n-gram, and whether it is new, with a count of 0.
    #[inline(always)]
    fn place(&mut self, hash: u64, at: u32) -> (&mut Entry, bool) {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while self.slots[slot] > self.base {
            let rank = (self.slots[slot] - self.base - 1) as usize;
            if self.entries[rank].hash == hash {
                return (&mut self.entries[rank], false);
            }
            slot = (slot + 1) & mask;
        }
        let rank = self.entries.len();
        self.entries.push(Entry { hash, count: 0, at });
        self.slots[slot] = self.base + self.entries.len() as u32;
        if self.entries.len() * 2 > self.slots.len() {
            self.grow();
        }
        (&mut self.entries[rank], true)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let size = self.slots.len() * 4;
        self.slots.clear();
        self.slots.resize(size, 0);
        self.base = 0;
        for (rank, entry) in self.entries.iter().enumerate() {
            let mut slot = entry.hash as usize & (size - 1);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (size - 1);
            }
            self.slots[slot] = rank as u32 + 1;
        }
    }

    /// Each distinct n-gram.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Distinct n-grams so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forget all, keep the memory unless it is more than fits a cache.
    pub fn clear(&mut self) {
        if self.slots.len() > 1 << 16 || self.base > u32::MAX / 2 {
            *self = Self::default();
            return;
        }
        self.base += self.entries.len() as u32;
        self.entries.clear();
    }
}

/// One block of the features of all training texts.
#[derive(Default)]
pub struct BlockFeatures {
    /// Sorted, distinct.
    pub hashes: Vec<u64>,
    /// In how many texts each stands.
    pub document_frequency: Vec<u32>,
    /// The first text it stands in.
    pub first_row: Vec<u32>,
    /// Of all texts.
    pub lists: Listed,
    /// n-grams that stand in fewer texts than this were dropped.
    pub least: u32,
}

/// What one range of rows adds to one shard.
#[derive(Default)]
struct Part {
    hashes: Vec<u64>,
    counts: Vec<u16>,
    /// Features per row.
    lengths: Vec<u32>,
}

type Parts = [Part; SHARDS];

/// How much is kept of n-grams: each has a size, and all together no more than `most`.
#[derive(Clone, Copy)]
pub struct Room {
    /// Of all n-grams together.
    pub most: usize,
    /// Of an n-gram in so many texts or more.
    pub full: usize,
    /// Rarer ones have twice their document frequency as size, at most.
    pub full_from: u32,
}

impl Room {
    /// Room for any number.
    pub const ALL: Self = Self { most: usize::MAX, full: 1, full_from: 0 };

    fn size(&self, df: u32) -> usize {
        if df >= self.full_from { self.full } else { (2 * df as usize).min(self.full) }
    }
}

/// Count the n-grams of all texts of one block; keep those that stand in at
/// least `least` texts, and more than that if there is no room for all.
pub fn count(
    texts: Texts,
    recipe: &Recipe,
    block: Block,
    least: u32,
    room: Room,
    threads: usize,
) -> BlockFeatures {
    let recipe = &recipe.only(block);
    let ranges = row_ranges(texts.offsets(), 1 << 18);
    let mut parts: Vec<Parts> = ranges.iter().map(|_| Parts::default()).collect();
    let work: Vec<_> = ranges.into_iter().zip(parts.iter_mut()).collect();
    let fresh = || Reader::new(*recipe, texts.bytes());
    share(threads, work, fresh, |reader, (range, parts)| {
        for row in range {
            reader.read(texts.row(row));
            let before: [usize; SHARDS] = std::array::from_fn(|s| parts[s].hashes.len());
            for &Entry { hash, count, .. } in reader.block(block).counter.entries() {
                let part = &mut parts[shard(hash)];
                part.hashes.push(hash);
                part.counts.push(count as u16);
            }
            for (part, before) in parts.iter_mut().zip(before) {
                part.lengths.push((part.hashes.len() - before) as u32);
            }
        }
    });
    let mut shards: Vec<Shard> = (0..SHARDS).map(|s| Shard { s, ..Shard::default() }).collect();
    share(threads, shards.iter_mut().collect(), || (), |(), shard| shard.rank(&parts));
    let least = frequency_to_keep(&shards, least, room);
    join(&parts, shards, least, threads)
}

/// The smallest document frequency, from `least` up, from which on there is room for all n-grams.
fn frequency_to_keep(shards: &[Shard], least: u32, room: Room) -> u32 {
    let entries = shards.iter().flat_map(|shard| &shard.seen.entries).map(|entry| entry.count);
    let least = least.max(1);
    let mut kept: Vec<u32> = entries.filter(|&df| df >= least).collect();
    kept.sort_unstable_by_key(|&df| std::cmp::Reverse(df));
    let mut left = room.most;
    for &df in &kept {
        match left.checked_sub(room.size(df)) {
            Some(rest) => left = rest,
            // One n-gram too many: it and all as rare as it go.
            None => return df + 1,
        }
    }
    least
}

/// One shard's n-grams, in order of first occurrence.
#[derive(Default)]
struct Shard {
    s: usize,
    /// Their counts are document frequencies.
    seen: Counter,
    first_row: Vec<u32>,
    /// Of each occurrence, which n-gram it is.
    ranks: Vec<u32>,
    /// Of each n-gram, its rank by hash in the block, or `DROPPED`.
    sorted: Vec<u32>,
}

const DROPPED: u32 = u32::MAX;

/// Where the n-grams of one shard go when they are brought in order.
struct Place<'f> {
    hashes: &'f mut [u64],
    document_frequency: &'f mut [u32],
    first_row: &'f mut [u32],
    /// Rank of the shard's first n-gram in the block.
    first: u32,
}

/// The n-grams of rows.
///
/// Of row `i`, shard `s` holds `indices[indptr[SHARDS * i + s]..indptr[SHARDS * i + s + 1]]`: what
/// belongs to one row is one run, and so is what belongs there to some neighbouring shards.
#[derive(Default)]
pub struct Listed {
    /// (rows × `SHARDS` + 1); of a part that is to be joined without the 0 it begins with.
    pub indptr: Vec<i64>,
    /// Ranks in `hashes`.
    pub indices: Vec<u32>,
    /// Occurrences.
    pub counts: Vec<u16>,
    /// Of each row, Σ (1 + ln count)² over its n-grams that are not listed.
    pub dropped: Vec<f32>,
}

impl Shard {
    fn rank(&mut self, parts: &[Parts]) {
        let (mut row, total) = (0, parts.iter().map(|part| part[self.s].hashes.len()).sum());
        self.ranks.reserve_exact(total);
        for part in parts.iter().map(|part| &part[self.s]) {
            let mut hashes = part.hashes.iter();
            for &length in &part.lengths {
                for &hash in hashes.by_ref().take(length as usize) {
                    let next = self.seen.len() as u32;
                    let (entry, new) = self.seen.place(hash, next);
                    entry.count += 1;
                    self.ranks.push(entry.at);
                    if new {
                        self.first_row.push(row);
                    }
                }
                row += 1;
            }
        }
    }

    fn kept(&self, least: u32) -> impl Iterator<Item = u32> + '_ {
        let kept = move |&rank: &u32| self.seen.entries[rank as usize].count >= least;
        (0..self.seen.len() as u32).filter(kept)
    }

    /// Bring the n-grams that are kept in the order of their hashes.
    fn sort(&mut self, least: u32, place: Place) {
        let entry = |rank: u32| self.seen.entries[rank as usize];
        let mut order: Vec<u32> = self.kept(least).collect();
        order.sort_unstable_by_key(|&rank| entry(rank).hash);
        let mut sorted = vec![DROPPED; self.seen.len()];
        for (at, &rank) in order.iter().enumerate() {
            sorted[rank as usize] = place.first + at as u32;
            (place.hashes[at], place.document_frequency[at]) = (entry(rank).hash, entry(rank).count);
            place.first_row[at] = self.first_row[rank as usize];
        }
        self.sorted = sorted;
    }
}

/// The lists of one part's rows without what is dropped; `begins`: where its occurrences begin in each shard.
fn list(part: &Parts, shards: &[Shard], begins: [usize; SHARDS]) -> Listed {
    let mut listed = Listed::default();
    let mut at = [0; SHARDS];
    for row in 0..part[0].lengths.len() {
        let mut dropped = 0.0;
        for (s, (part, shard)) in part.iter().zip(shards).enumerate() {
            let own = at[s]..at[s] + part.lengths[row] as usize;
            at[s] = own.end;
            let ranks = &shard.ranks[begins[s] + own.start..begins[s] + own.end];
            for (&rank, &count) in ranks.iter().zip(&part.counts[own]) {
                match shard.sorted[rank as usize] {
                    DROPPED => dropped += sublinear(count.into()) * sublinear(count.into()),
                    index => {
                        listed.indices.push(index);
                        listed.counts.push(count);
                    }
                }
            }
            listed.indptr.push(listed.indices.len() as i64);
        }
        listed.dropped.push(dropped);
    }
    listed
}

/// 1 + ln count
pub fn sublinear(count: u32) -> f32 {
    (1.0 + real::ln(f64::from(count))) as f32
}

/// All shards in order, then all rows.
fn join(parts: &[Parts], mut shards: Vec<Shard>, least: u32, threads: usize) -> BlockFeatures {
    let sizes: Vec<usize> = shards.iter().map(|shard| shard.kept(least).count()).collect();
    let features = sizes.iter().sum();
    let mut all = BlockFeatures {
        hashes: vec![0; features],
        document_frequency: vec![0; features],
        first_row: vec![0; features],
        least,
        ..BlockFeatures::default()
    };
    let mut rest = (&mut all.hashes[..], &mut all.document_frequency[..], &mut all.first_row[..]);
    let mut first = 0;
    let mut work = Vec::new();
    for (shard, size) in shards.iter_mut().zip(sizes) {
        let place = Place {
            hashes: cut(&mut rest.0, size),
            document_frequency: cut(&mut rest.1, size),
            first_row: cut(&mut rest.2, size),
            first,
        };
        first += size as u32;
        work.push((shard, place));
    }
    share(threads, work, || (), |(), (shard, place)| shard.sort(least, place));
    let mut begins = [0; SHARDS];
    let mut lists: Vec<Listed> = parts.iter().map(|_| Listed::default()).collect();
    let mut work = Vec::new();
    for (part, listed) in parts.iter().zip(&mut lists) {
        work.push((part, begins, listed));
        begins = std::array::from_fn(|s| begins[s] + part[s].hashes.len());
    }
    share(threads, work, || (), |(), (part, begins, listed)| *listed = list(part, &shards, begins));
    drop(shards);
    all.lists = Listed::joined(lists, threads);
    all
}

impl Listed {
    /// One after the other.
    pub fn joined(parts: Vec<Listed>, threads: usize) -> Listed {
        let rows: usize = parts.iter().map(|part| part.dropped.len()).sum();
        let occurrences: usize = parts.iter().map(|part| part.indices.len()).sum();
        let mut all = Listed {
            indptr: vec![0; rows * SHARDS + 1],
            indices: vec![0; occurrences],
            counts: vec![0; occurrences],
            dropped: vec![0.0; rows],
        };
        let mut rest =
            (&mut all.indptr[1..], &mut all.indices[..], &mut all.counts[..], &mut all.dropped[..]);
        let mut first = 0;
        let mut work = Vec::new();
        for part in parts {
            let rows = cut(&mut rest.0, part.indptr.len());
            let lists = (cut(&mut rest.1, part.indices.len()), cut(&mut rest.2, part.indices.len()));
            let dropped = cut(&mut rest.3, part.dropped.len());
            let begin = first;
            first += part.indices.len() as i64;
            work.push((part, begin, rows, lists, dropped));
        }
        share(
            threads,
            work,
            || (),
            |(), (part, first, ends, lists, dropped)| {
                ends.iter_mut().zip(&part.indptr).for_each(|(to, &end)| *to = first + end);
                lists.0.copy_from_slice(&part.indices);
                lists.1.copy_from_slice(&part.counts);
                dropped.copy_from_slice(&part.dropped);
            },
        );
        all
    }
}

/// Take the first `size` items off a slice.
pub fn cut<'a, T>(rest: &mut &'a mut [T], size: usize) -> &'a mut [T] {
    let (own, others) = std::mem::take(rest).split_at_mut(size);
    *rest = others;
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngrams::{Sink, ngrams};
    use crate::text::Rule;
    use std::collections::BTreeMap;

    struct Add<'a>(Block, &'a mut BTreeMap<u64, u32>);
    impl Sink for Add<'_> {
        fn ngram(&mut self, block: Block, hash: u64, _: impl FnOnce() -> String) {
            if block == self.0 {
                *self.1.entry(hash).or_default() += 1;
            }
        }
    }

    const TEXTS: [&str; 5] = ["a b a", "", "b c", "a a a a", "the cat, the dog 新手机"];
    const RECIPE: Recipe = Recipe { rule: Rule::Unicode, words: Some((1, 2)), chars: Some((2, 4)) };

    fn offsets() -> Vec<i64> {
        let mut at = 0;
        let ends = TEXTS.iter().map(|t| {
            at += t.len() as i64;
            at
        });
        std::iter::once(0).chain(ends).collect()
    }

    #[test]
    fn counts_agree_with_a_naive_count_for_any_number_of_threads() {
        for block in [Block::Words, Block::Chars] {
            let mut naive: BTreeMap<u64, Vec<(usize, u32)>> = BTreeMap::new();
            for (row, text) in TEXTS.iter().enumerate() {
                let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
                ngrams(text, &RECIPE, &mut Add(block, &mut counts));
                for (hash, count) in counts {
                    naive.entry(hash).or_default().push((row, count));
                }
            }
            for threads in [1, 3] {
                let (offsets, data) = (offsets(), TEXTS.concat());
                let texts = Texts::new(&offsets, data.as_bytes()).unwrap();
                let found = count(texts, &RECIPE, block, 1, Room::ALL, threads);
                assert!(found.hashes.iter().eq(naive.keys()));
                let mut got: BTreeMap<u64, Vec<(usize, u32)>> = BTreeMap::new();
                for row in 0..TEXTS.len() {
                    for s in 0..SHARDS {
                        let at = row * SHARDS + s;
                        for i in found.lists.indptr[at] as usize..found.lists.indptr[at + 1] as usize {
                            let hash = found.hashes[found.lists.indices[i] as usize];
                            assert_eq!(shard(hash), s);
                            got.entry(hash).or_default().push((row, u32::from(found.lists.counts[i])));
                        }
                    }
                }
                assert_eq!(got, naive);
                for (i, rows) in naive.values().enumerate() {
                    assert_eq!(found.document_frequency[i] as usize, rows.len());
                    assert_eq!(found.first_row[i] as usize, rows[0].0);
                }
            }
        }
    }

    #[test]
    fn the_rarest_go_first() {
        let data = "a a bc a bc x";
        let texts = Texts::new(&[0, 2, 7, 13], data.as_bytes()).unwrap();
        let recipe = Recipe { words: Some((1, 1)), ..RECIPE };
        let keep = |least, most| count(texts, &recipe, Block::Words, least, Room { most, ..Room::ALL }, 2);
        let frequencies = |f: &BlockFeatures| {
            let mut all = f.document_frequency.clone();
            all.sort_unstable();
            all
        };
        assert_eq!(frequencies(&keep(1, 9)), [1, 2, 3]);
        assert_eq!(frequencies(&keep(2, 9)), [2, 3]);
        let one = keep(1, 1);
        assert_eq!((frequencies(&one), one.least), (vec![3], 3));
        assert_eq!((one.lists.indices, one.lists.counts), (vec![0, 0, 0], vec![1, 1, 1]));
        assert_eq!(one.lists.dropped, [0.0, 1.0, 2.0]);
    }

    #[test]
    fn counter_grows_saturates_and_forgets() {
        let mut counter = Counter::default();
        for round in 0..3u64 {
            for hash in 0..10_000u64 {
                assert!(counter.add(hash * 1024 + round, 0));
            }
            assert_eq!(counter.len(), 10_000);
            counter.clear();
        }
        (0..100_000).for_each(|at| assert_eq!(counter.add(7, at + 5), at == 0));
        let entry = counter.entries()[0];
        assert_eq!((counter.len(), entry.hash, entry.count, entry.at), (1, 7, MOST, 5));
    }
}
