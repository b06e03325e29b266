//! Features × weights + bias → logits.
//!
//! A feature's value is (1 + ln count) · (1 + ln((1 + documents) / (1 + df)));
//! each block is divided by its own L2 norm. An n-gram the model does not know
//! counts in the norm as one seen in a single text, so that text the model
//! knows little of moves the logits little.

use crate::count::{SHARDS, cut, sublinear};
use crate::kernel;
use crate::ngrams::{Block, Recipe};
use crate::reader::{PASSING, Reader, Side};
use crate::real;
use crate::simd::{Cpu, Level, dispatch, prefetch};
use crate::support::{Values, Weights};
use crate::table::{Table, bucket, bucket_bits};
use crate::text::Texts;
use crate::threads::{row_ranges, share};

/// 1 + ln count, from a table for the counts met all the time.
struct Sublinear([f32; 32]);

impl Sublinear {
    fn new() -> Self {
        Self(std::array::from_fn(|count| sublinear(count.max(1) as u32)))
    }

    #[inline(always)]
    fn get(&self, count: u32) -> f32 {
        self.0.get(count as usize).copied().unwrap_or_else(|| sublinear(count))
    }
}

/// 1 + ln((1 + documents) / (1 + df)), from a table for small df.
struct Idf {
    documents: f64,
    small: Vec<f32>,
}

impl Idf {
    fn new(documents: u64, small: usize) -> Self {
        let mut idf = Self { documents: documents as f64, small: Vec::new() };
        idf.small = (0..small as u32).map(|df| idf.of(df)).collect();
        idf
    }

    fn of(&self, df: u32) -> f32 {
        (1.0 + real::ln((1.0 + self.documents) / (1.0 + f64::from(df)))) as f32
    }

    #[inline(always)]
    fn get(&self, df: u32) -> f32 {
        match self.small.get(df as usize) {
            Some(&idf) => idf,
            None => self.of(df),
        }
    }
}

/// Divide by the norm; a block without features has none.
#[inline(always)]
fn inverse_norm(squares: f64) -> f32 {
    if squares > 0.0 { (1.0 / squares.sqrt()) as f32 } else { 0.0 }
}

/// The value of each occurrence in `features`, each row of norm 1.
pub fn values(features: &Counted, documents: u64, threads: usize) -> Vec<f32> {
    let rows = features.dropped.len();
    let (idf, sublinear) = (Idf::new(documents, 1 << 12), Sublinear::new());
    let raw = |i: usize| {
        let df = features.document_frequency[features.indices[i] as usize];
        sublinear.get(features.counts[i].into()) * idf.get(df)
    };
    let begin = |row: usize| features.indptr[row * SHARDS] as usize;
    // What was dropped counts as it will in prediction, where it is unknown.
    let unknown = f64::from(idf.get(1)).powi(2);
    let mut values = vec![0.0f32; features.indices.len()];
    let mut rest = &mut values[..];
    let mut work = Vec::new();
    for first in (0..rows).step_by(1024) {
        let last = rows.min(first + 1024);
        work.push((first..last, cut(&mut rest, begin(last) - begin(first))));
    }
    share(
        threads,
        work,
        || (),
        |(), (rows, mut rest)| {
            for row in rows {
                let list = begin(row)..begin(row + 1);
                let own = cut(&mut rest, list.len());
                let mut squares = f64::from(features.dropped[row]) * unknown;
                for (value, i) in own.iter_mut().zip(list) {
                    *value = raw(i);
                    squares += f64::from(*value).powi(2);
                }
                let scale = inverse_norm(squares);
                own.iter_mut().for_each(|value| *value *= scale);
            }
        },
    );
    values
}

/// [`crate::count::BlockFeatures`] borrowed from whoever owns the arrays.
pub struct Counted<'a> {
    /// In how many texts each feature stands.
    pub document_frequency: &'a [u32],
    /// (texts × SHARDS + 1)
    pub indptr: &'a [i64],
    /// Feature of each occurrence.
    pub indices: &'a [u32],
    /// How often.
    pub counts: &'a [u16],
    /// Of each text, Σ (1 + ln count)² over its dropped n-grams.
    pub dropped: &'a [f32],
}

/// A trained layer, as it stands in the model file.
pub struct Layer<'a> {
    /// How text becomes features.
    pub recipe: Recipe,
    /// The seen n-grams of each block, in the order of the weight rows.
    pub tables: Vec<(Block, Table<'a>)>,
    /// Texts trained on.
    pub documents: u64,
    /// One row a feature.
    pub weights: Weights<'a>,
    /// (classes,)
    pub bias: &'a [f32],
}

/// One n-gram of a text.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// As `ngrams` made it.
    pub hash: u64,
    /// Row of the weights, if it is known.
    pub row: Option<u32>,
    /// After the block was brought to norm 1.
    pub value: f32,
}

/// What a model knows of an n-gram.
#[derive(Clone, Copy)]
struct Known {
    /// Row of the weights, or `UNKNOWN`.
    row: u32,
    idf: f32,
}

const UNKNOWN: u32 = u32::MAX;

/// What a model knows of the n-grams of one block of a [`Reader`], in the same order.
#[derive(Default)]
struct Knowledge {
    kept: Vec<Known>,
    passing: Vec<Known>,
}

/// `Layer` with what is computed once a call.
struct Prepared<'l, 'a> {
    layer: &'l Layer<'a>,
    /// The one class that is asked for.
    class: Option<usize>,
    /// Whether a row ends with how much of the text is known, and how much is not.
    amounts: bool,
    idf: Idf,
    sublinear: Sublinear,
}

/// What a thread keeps from text to text for one layer.
#[derive(Default)]
struct Memory {
    /// The reader's age when `knowledge` was begun.
    age: u64,
    /// Of each table.
    knowledge: Vec<Knowledge>,
    /// Weight row, or `UNKNOWN`, and value before the norm, of each n-gram of a block.
    features: Vec<(u32, f32)>,
    sums: Vec<f32>,
}

/// Layers that one reader serves, by their places in a list of layers.
struct Group {
    recipe: Recipe,
    layers: Vec<usize>,
}

/// What a thread keeps from text to text: a reader of each group, a memory of each layer.
struct Desk {
    readers: Vec<Reader>,
    memories: Vec<Memory>,
}

/// Layers and their groups, texts, which of them, memory, and where the logits of each layer go.
type Asked<'p, 'l, 'a, 'o> = (
    (&'p [Prepared<'l, 'a>], &'p [Group]),
    Texts<'p>,
    std::ops::Range<usize>,
    &'o mut Desk,
    Vec<&'o mut [f32]>,
);

kernel!(Rows<'p, 'l, 'a, 'o; ;>(Asked<'p, 'l, 'a, 'o>) -> () = Prepared::rows);

impl<'l, 'a> Prepared<'l, 'a> {
    fn new(layer: &'l Layer<'a>, class: Option<usize>, amounts: bool, texts: usize) -> Self {
        // The table of logarithms pays only for many texts; the values are the same.
        let small = if texts > 100 { 1 << 12 } else { 16 };
        let (idf, sublinear) = (Idf::new(layer.documents, small), Sublinear::new());
        Self { layer, class, amounts, idf, sublinear }
    }

    /// How many logits a text has.
    fn classes(&self) -> usize {
        if self.class.is_some() { 1 } else { self.layer.bias.len() }
    }

    /// How many numbers are said of a text.
    fn width(&self) -> usize {
        self.classes() + if self.amounts { 2 } else { 0 }
    }

    /// Σ (1 + ln count)² of the n-grams just weighed that are known, and of those that are not.
    fn amounts_of(&self, side: &Side, memory: &Memory) -> [f32; 2] {
        let mut sums = [0.0f64; 2];
        for (entry, &(row, _)) in side.counter.entries().iter().zip(&memory.features) {
            sums[usize::from(row == UNKNOWN)] += f64::from(self.sublinear.get(entry.count)).powi(2);
        }
        sums.map(|sum| sum as f32)
    }

    /// Look n-grams up.
    ///
    /// In stages over all of them, so that many cache misses are under way at once.
    #[inline(always)]
    fn look_up(&self, which: usize, hashes: &[u64], known: &mut Vec<Known>) {
        let (_, table) = &self.layer.tables[which];
        let first: usize = self.layer.tables[..which].iter().map(|(_, t)| t.hashes.len()).sum();
        let bits = bucket_bits(table.hashes.len());
        let new = known.len();
        for &hash in hashes {
            prefetch(table.buckets, bucket(hash, bits));
        }
        for &hash in hashes {
            let begin = table.buckets.get(bucket(hash, bits)).copied().unwrap_or(0);
            prefetch(table.hashes, begin as usize);
            prefetch(table.hashes, begin as usize + 7);
        }
        for &hash in hashes {
            let row = table.find(hash, bits).unwrap_or(UNKNOWN);
            prefetch(table.document_frequency, row as usize);
            known.push(Known { row, idf: 0.0 });
        }
        for known in &mut known[new..] {
            // What is unknown counts as seen in one text.
            let df = table.document_frequency.get(known.row as usize).copied().unwrap_or(1);
            known.idf = self.idf.get(df);
            if known.row != UNKNOWN {
                known.row += first as u32;
            }
        }
    }

    /// The n-grams of one block of the text just read, with their values; their inverse norm.
    #[inline(always)]
    fn weigh(&self, which: usize, side: &Side, memory: &mut Memory) -> f32 {
        let Knowledge { kept, passing } = &mut memory.knowledge[which];
        if kept.len() < side.kept.len() {
            self.look_up(which, &side.kept[kept.len()..], kept);
        }
        passing.clear();
        self.look_up(which, &side.passing, passing);
        let (classes, class) = (self.layer.bias.len(), self.class.unwrap_or(0));
        let lines = self.classes().div_ceil(16).min(4);
        let mut squares = 0.0f64;
        memory.features.clear();
        memory.features.extend(side.counter.entries().iter().map(|entry| {
            let (list, at) = match entry.at & PASSING {
                0 => (&*kept, entry.at),
                _ => (&*passing, entry.at ^ PASSING),
            };
            let Known { row, idf } = list[at as usize];
            self.layer.weights.ask(row as usize, class, classes, lines);
            let raw = self.sublinear.get(entry.count) * idf;
            squares += f64::from(raw) * f64::from(raw);
            (row, raw)
        }));
        inverse_norm(squares)
    }

    /// Logits of some of the texts.
    #[inline(always)]
    fn rows(_: impl Cpu, ((all, groups), texts, rows, desk, mut out): Asked<'_, 'l, 'a, '_>) {
        for row in rows {
            for (group, reader) in groups.iter().zip(&mut desk.readers) {
                reader.read(texts.row(row));
                for &at in &group.layers {
                    let own = cut(&mut out[at], all[at].width());
                    all[at].logits_of(reader, &mut desk.memories[at], own);
                }
            }
        }
    }

    /// Logits of the text just read.
    #[inline(always)]
    fn logits_of(&self, reader: &Reader, memory: &mut Memory, out: &mut [f32]) {
        let Layer { tables, bias, .. } = self.layer;
        memory.follow(reader, tables.len());
        let class = self.class.unwrap_or(0);
        let (out, amounts) = out.split_at_mut(self.classes());
        out.copy_from_slice(&bias[class..class + out.len()]);
        for (which, (block, _)) in tables.iter().enumerate() {
            let scale = self.weigh(which, reader.block(*block), memory);
            if self.amounts && which == 0 {
                amounts.copy_from_slice(&self.amounts_of(reader.block(*block), memory));
            }
            let Memory { features, sums, .. } = &mut *memory;
            self.layer.weights.fold(features);
            match self.layer.weights {
                Weights::Dense(Values::Floats(weights)) if out.len() <= 32 => {
                    add_few(weights, features, scale, (bias.len(), class), out);
                }
                Weights::Dense(Values::Bytes { values, .. }) if out.len() <= 32 => {
                    add_few(values, features, scale, (bias.len(), class), out);
                }
                weights if self.class.is_some() => {
                    let own = |&(row, raw): &(u32, f32)| raw * weights.of(row as usize, class, bias.len());
                    out[0] += features.iter().map(own).sum::<f32>() * scale;
                }
                weights => add_many(weights, features, scale, sums, out),
            }
        }
    }
}

/// Add values × weights of classes from one on, a few at a time.
#[inline(always)]
fn add_few<W: Copy + Into<f32>>(
    weights: &[W],
    features: &[(u32, f32)],
    scale: f32,
    (classes, mut class): (usize, usize),
    mut out: &mut [f32],
) {
    while !out.is_empty() {
        let step = if out.len() >= 16 { 16 } else { out.len().min(8) };
        let own = cut(&mut out, step);
        let place = (classes, class);
        match step {
            1 => add::<1, W>(weights, features, scale, place, own),
            2 => add::<2, W>(weights, features, scale, place, own),
            3 => add::<3, W>(weights, features, scale, place, own),
            4 => add::<4, W>(weights, features, scale, place, own),
            5 => add::<5, W>(weights, features, scale, place, own),
            6 => add::<6, W>(weights, features, scale, place, own),
            7 => add::<7, W>(weights, features, scale, place, own),
            8 => add::<8, W>(weights, features, scale, place, own),
            _ => add::<16, W>(weights, features, scale, place, own),
        }
        class += step;
    }
}

/// Add values × weights, of few classes from one on: sums stay in registers.
#[inline(always)]
fn add<const CLASSES: usize, W: Copy + Into<f32>>(
    weights: &[W],
    features: &[(u32, f32)],
    scale: f32,
    (classes, class): (usize, usize),
    out: &mut [f32],
) {
    let mut sums = [0.0; CLASSES];
    for &(row, raw) in features {
        let rest = weights.get(row as usize * classes + class..);
        if let Some(weights) = rest.and_then(<[W]>::first_chunk::<CLASSES>) {
            for k in 0..CLASSES {
                sums[k] += raw * weights[k].into();
            }
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum * scale);
}

/// The same, of many classes, in any form of weights.
#[inline(always)]
fn add_many(weights: Weights, features: &[(u32, f32)], scale: f32, sums: &mut Vec<f32>, out: &mut [f32]) {
    sums.clear();
    sums.resize(out.len(), 0.0);
    if let Weights::Kept { .. } = weights {
        for &(row, _) in features {
            weights.ask_again(row as usize);
        }
    }
    for &(row, raw) in features {
        weights.add(row as usize, raw, sums);
    }
    for (out, &sum) in out.iter_mut().zip(&*sums) {
        *out += sum * scale;
    }
}

impl Memory {
    /// Void what is known when the reader forgot.
    #[inline(always)]
    fn follow(&mut self, reader: &Reader, tables: usize) {
        if self.age != reader.age() || self.knowledge.len() != tables {
            self.age = reader.age();
            self.knowledge.clear();
            self.knowledge.resize_with(tables, Knowledge::default);
        }
    }
}

/// Logits (texts, classes) of all texts by each of the layers, or of one class of each.
///
/// With `amounts`, a row ends with how much of the text is of known n-grams of the layer's first
/// block, and how much of unknown ones. Layers whose recipes go together share the reading.
pub fn logits(
    level: Level,
    layers: &[(Layer, Option<usize>)],
    texts: Texts,
    amounts: bool,
    threads: usize,
) -> Vec<Vec<f32>> {
    let prepare = |(layer, class)| Prepared::new(layer, class, amounts, texts.len());
    let all: Vec<Prepared> = layers.iter().map(|(layer, class)| prepare((layer, *class))).collect();
    let mut groups: Vec<Group> = Vec::new();
    for (at, (layer, _)) in layers.iter().enumerate() {
        let fits = |group: &&mut Group| group.recipe.and(layer.recipe).is_some();
        match groups.iter_mut().find(fits) {
            Some(group) => {
                group.recipe = group.recipe.and(layer.recipe).unwrap_or(layer.recipe);
                group.layers.push(at);
            }
            None => groups.push(Group { recipe: layer.recipe, layers: vec![at] }),
        }
    }
    let mut out: Vec<Vec<f32>> = all.iter().map(|one| vec![0.0; texts.len() * one.width()]).collect();
    let mut rests: Vec<&mut [f32]> = out.iter_mut().map(|own| &mut own[..]).collect();
    let mut work = Vec::new();
    for range in row_ranges(texts.offsets(), 1 << 16) {
        let own = |(rest, one): (&mut _, &Prepared)| cut(rest, range.len() * one.width());
        let own: Vec<&mut [f32]> = rests.iter_mut().zip(&all).map(own).collect();
        work.push((range, own));
    }
    let fresh = || Desk {
        readers: groups.iter().map(|group| Reader::new(group.recipe, texts.bytes())).collect(),
        memories: all.iter().map(|_| Memory::default()).collect(),
    };
    share(threads, work, fresh, |desk, (range, own)| {
        dispatch(level, Rows(((&all, &groups), texts, range, desk, own)));
    });
    out
}

impl Layer<'_> {
    /// Each distinct n-gram of one text, with its value after the norm.
    pub fn features(&self, text: &str) -> Vec<Feature> {
        let prepared = Prepared::new(self, None, false, 1);
        let (mut reader, mut memory) = (Reader::new(self.recipe, text.len()), Memory::default());
        reader.read(text);
        memory.follow(&reader, self.tables.len());
        let mut all = Vec::new();
        for (which, (block, _)) in self.tables.iter().enumerate() {
            let side = reader.block(*block);
            let scale = prepared.weigh(which, side, &mut memory);
            all.extend(side.counter.entries().iter().zip(&memory.features).map(|(entry, &(row, raw))| {
                let row = (row != UNKNOWN).then_some(row);
                Feature { hash: entry.hash, row, value: raw * scale }
            }));
        }
        all
    }
}
