//! Features × weights + bias → logits.
//!
//! A feature's value is (1 + ln count) · (1 + ln((1 + documents) / (1 + df)));
//! each block is divided by its own L2 norm. An n-gram the model does not know
//! counts in the norm as one seen in a single text, so that text the model
//! knows little of moves the logits little.

use crate::count::{Entry, SHARDS, cut, sublinear};
use crate::lanes::{Lanes, List, Rows, groups};
use crate::ngrams::{Block, Recipe};
use crate::pool::{Lent, Pool};
use crate::reader::{PASSING, Reader, Side};
use crate::real;
use crate::simd::{Cpu, Level, dispatch, prefetch};
use crate::support::{Values, Weights};
use crate::table::{Table, bucket, bucket_bits};
use crate::text::Texts;
use crate::threads::{row_ranges, share};
use crate::{by_width, kernel};

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
    /// What was read in earlier calls, if that is kept.
    pub desks: Option<&'a Pool<Desk>>,
}

/// Longest text in bytes after which anything is kept for the next call: memory is as large as the largest.
const LONG: usize = 1 << 16;

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

/// What a model knows of the n-grams of one [`Side`], in the same order.
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
    /// Weight row of each known n-gram of a block, and its value before the norm.
    rows: Vec<u32>,
    values: Vec<f32>,
    sums: Vec<f32>,
}

/// Layers that one reader serves, by their places in a list of layers.
struct Group {
    recipe: Recipe,
    layers: Vec<usize>,
}

/// What a thread keeps from text to text: a reader of each group, a memory of each layer.
#[derive(Default)]
pub struct Desk {
    /// The layer whose call it may outlive.
    of: Option<Identity>,
    readers: Vec<Reader>,
    memories: Vec<Memory>,
}

/// What a memory of a layer depends on: how text is read, documents, and where hashes and document frequencies are.
type Identity = (Recipe, u64, Vec<(usize, usize, usize)>);

/// Layers and their groups, texts, which of them, memory, and where the logits of each layer go.
type Asked<'p, 'l, 'a, 'o> = (
    (&'p [Prepared<'l, 'a>], &'p [Group]),
    Texts<'p>,
    std::ops::Range<usize>,
    &'o mut Desk,
    Vec<&'o mut [f32]>,
);

kernel!(Reading<'p, 'l, 'a, 'o; ;>(Asked<'p, 'l, 'a, 'o>) -> () = Prepared::rows);

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

    /// Σ (1 + ln count)² of the n-grams of a text that are known, and of those that are not.
    fn amounts_of(&self, side: &Side, knowledge: &Knowledge) -> [f32; 2] {
        let mut sums = [0.0f64; 2];
        for &Entry { at, count, .. } in side.counter.entries() {
            let unknown = knowledge.of(at).row == UNKNOWN;
            sums[usize::from(unknown)] += f64::from(self.sublinear.get(count)).powi(2);
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
        let Memory { knowledge, rows, values, .. } = memory;
        let knowledge = &mut knowledge[which];
        if knowledge.kept.len() < side.kept.len() {
            self.look_up(which, &side.kept[knowledge.kept.len()..], &mut knowledge.kept);
        }
        knowledge.passing.clear();
        self.look_up(which, &side.passing, &mut knowledge.passing);
        let (classes, class) = (self.layer.bias.len(), self.class.unwrap_or(0));
        let lines = self.classes().div_ceil(16).min(4);
        let entries = side.counter.entries();
        rows.resize(entries.len(), 0);
        values.resize(entries.len(), 0.0);
        let (mut squares, mut length) = (0.0f64, 0);
        for &Entry { at, count, .. } in entries {
            let Known { row, idf } = knowledge.of(at);
            self.layer.weights.ask(row as usize, class, classes, lines);
            let raw = self.sublinear.get(count) * idf;
            squares += f64::from(raw) * f64::from(raw);
            // What is unknown is overwritten: whether it is cannot be foreseen.
            (rows[length], values[length]) = (row, raw);
            length += usize::from(row != UNKNOWN);
        }
        rows.truncate(length);
        values.truncate(length);
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
                amounts.copy_from_slice(&self.amounts_of(reader.block(*block), &memory.knowledge[which]));
            }
            let Memory { rows, values, sums, .. } = &mut *memory;
            self.layer.weights.fold(rows, values);
            let list = (&rows[..], &values[..]);
            match self.layer.weights {
                Weights::Dense(Values::Floats(weights)) => {
                    add_rows(weights, list, scale, (bias.len(), class), out);
                }
                Weights::Dense(Values::Bytes { values: weights, .. }) => {
                    add_rows(weights, list, scale, (bias.len(), class), out);
                }
                weights if self.class.is_some() => {
                    let own =
                        |(&row, &value): (&u32, &f32)| value * weights.of(row as usize, class, bias.len());
                    out[0] += rows.iter().zip(&*values).map(own).sum::<f32>() * scale;
                }
                weights => add_kept(weights, list, scale, sums, out),
            }
        }
    }
}

/// Add values × weights of classes from one on.
#[inline(always)]
fn add_rows<W: Copy + Into<f32>>(
    weights: &[W],
    list: List,
    scale: f32,
    (classes, class): (usize, usize),
    out: &mut [f32],
) {
    for columns in groups(out.len()) {
        let own = &mut out[columns.clone()];
        let columns = class + columns.start..class + columns.end;
        let rows = Rows { weights, begin: 0, width: classes, columns };
        by_width!(own.len(), add(list, rows, scale, own));
    }
}

#[inline(always)]
fn add<const L: usize, const F: usize, const TAIL: bool>(
    list: List,
    rows: Rows<impl Copy + Into<f32>>,
    scale: f32,
    out: &mut [f32],
) {
    let sums = Lanes::<L, F, TAIL>::ZERO.plus_rows(list, &rows);
    Lanes::<L, F, TAIL>::load(out).plus(scale, sums).store(out);
}

/// The same, of rows kept to some of the classes.
#[inline(always)]
fn add_kept(weights: Weights, (rows, values): List, scale: f32, sums: &mut Vec<f32>, out: &mut [f32]) {
    sums.clear();
    sums.resize(out.len(), 0.0);
    for &row in rows {
        weights.ask_again(row as usize);
    }
    for (&row, &value) in rows.iter().zip(values) {
        weights.add(row as usize, value, sums);
    }
    for (out, &sum) in out.iter_mut().zip(&*sums) {
        *out += sum * scale;
    }
}

impl Knowledge {
    /// What is known of the n-gram of an [`Entry`].
    #[inline(always)]
    fn of(&self, at: u32) -> Known {
        // One way for both: which it is cannot be foreseen.
        let list = if at & PASSING == 0 { &self.kept } else { &self.passing };
        list[(at & !PASSING) as usize]
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
    let alone = if let [(layer, _)] = layers { Some(layer) } else { None };
    let home = alone.and_then(|layer| layer.desks).filter(|_| texts.longest() <= LONG);
    let mut rests: Vec<&mut [f32]> = out.iter_mut().map(|own| &mut own[..]).collect();
    let mut work = Vec::new();
    for range in row_ranges(texts.offsets(), 1 << 16) {
        let own = |(rest, one): (&mut _, &Prepared)| cut(rest, range.len() * one.width());
        let own: Vec<&mut [f32]> = rests.iter_mut().zip(&all).map(own).collect();
        work.push((range, own));
    }
    let fresh = || Desk {
        of: alone.map(Layer::identity),
        readers: groups.iter().map(|group| Reader::new(group.recipe, 0)).collect(),
        memories: all.iter().map(|_| Memory::default()).collect(),
    };
    let lend = || {
        let mut desk = Lent::new(home, |desk: &Desk| desk.of == alone.map(Layer::identity), fresh);
        desk.readers.iter_mut().for_each(|reader| reader.expect(texts.bytes()));
        desk
    };
    share(threads, work, lend, |desk, (range, own)| {
        dispatch(level, Reading(((&all, &groups), texts, range, desk, own)));
    });
    out
}

impl Layer<'_> {
    fn identity(&self) -> Identity {
        let place = |(_, table): &(Block, Table)| {
            (table.hashes.as_ptr().addr(), table.document_frequency.as_ptr().addr(), table.hashes.len())
        };
        (self.recipe, self.documents, self.tables.iter().map(place).collect())
    }

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
            all.extend(side.counter.entries().iter().map(|&Entry { hash, count, at }| {
                let Known { row, idf } = memory.knowledge[which].of(at);
                let row = (row != UNKNOWN).then_some(row);
                let value = prepared.sublinear.get(count) * idf * scale;
                Feature { hash, row, value }
            }));
        }
        all
    }
}
