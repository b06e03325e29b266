//! Features × weights + bias → logits.
//!
//! A feature's value is (1 + ln count) · (1 + ln((1 + documents) / (1 + df)));
//! each block is divided by its own L2 norm. An n-gram the model does not know
//! counts in the norm as one seen in a single text, so that text the model
//! knows little of moves the logits little.

use crate::count::{SHARDS, TextCounts, cut, sublinear};
use crate::kernel;
use crate::ngrams::{Block, Recipe, Scratch};
use crate::real;
use crate::simd::{Cpu, Level, dispatch, prefetch};
use crate::support::Weights;
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
    let list = |s: usize, row: usize| {
        let at = s * (rows + 1) + row;
        features.indptr[at] as usize..features.indptr[at + 1] as usize
    };
    // What was dropped counts as it will in prediction, where it is unknown.
    let unknown = f64::from(idf.get(1)).powi(2);
    let mut scales = vec![0.0f32; rows];
    let work: Vec<_> = scales.chunks_mut(4096).enumerate().collect();
    share(
        threads,
        work,
        || (),
        |(), (chunk, scales)| {
            for (i, scale) in scales.iter_mut().enumerate() {
                let row = chunk * 4096 + i;
                let squares = (0..SHARDS).flat_map(|s| list(s, row)).map(|i| f64::from(raw(i)).powi(2));
                *scale = inverse_norm(squares.sum::<f64>() + f64::from(features.dropped[row]) * unknown);
            }
        },
    );
    let mut values = vec![0.0f32; features.indices.len()];
    let mut rest = &mut values[..];
    let mut work = Vec::new();
    for s in 0..SHARDS {
        let (begin, end) = (features.indptr[s * (rows + 1)], features.indptr[(s + 1) * (rows + 1) - 1]);
        work.push((s, begin as usize, cut(&mut rest, (end - begin) as usize)));
    }
    share(
        threads,
        work,
        || (),
        |(), (s, begin, own)| {
            for (row, scale) in scales.iter().enumerate() {
                for i in list(s, row) {
                    own[i - begin] = raw(i) * scale;
                }
            }
        },
    );
    values
}

/// [`crate::count::BlockFeatures`] borrowed from whoever owns the arrays.
pub struct Counted<'a> {
    /// In how many texts each feature stands.
    pub document_frequency: &'a [u32],
    /// (SHARDS, texts + 1)
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

/// One n-gram of a text: its hash, its weight row if known, and its value.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// As `ngrams` made it.
    pub hash: u64,
    /// Row of the weights.
    pub row: Option<u32>,
    /// Before the block is brought to norm 1.
    raw: f32,
}

/// What a thread keeps from text to text.
#[derive(Default)]
struct Reader {
    counts: TextCounts,
    scratch: Scratch,
    features: Vec<Feature>,
}

/// `Layer` with what is computed once a call.
struct Prepared<'l, 'a> {
    layer: &'l Layer<'a>,
    idf: Idf,
    sublinear: Sublinear,
}

/// Texts, which of them, memory, and where their logits go.
type Asked<'p, 'l, 'a, 'o> =
    (&'p Prepared<'l, 'a>, Texts<'p>, std::ops::Range<usize>, &'o mut Reader, &'o mut [f32], &'o mut [f32]);

kernel!(Rows<'p, 'l, 'a, 'o; ;>(Asked<'p, 'l, 'a, 'o>) -> () = Prepared::rows);

impl<'l, 'a> Prepared<'l, 'a> {
    /// The n-grams of one block of the text just counted, looked up; their inverse norm.
    ///
    /// In stages over all n-grams of the text, so that many cache misses are
    /// under way at once.
    #[inline(always)]
    fn look_up(&self, which: usize, reader: &mut Reader) -> f32 {
        let (block, table) = &self.layer.tables[which];
        let classes = self.layer.bias.len();
        let first: usize = self.layer.tables[..which].iter().map(|(_, t)| t.hashes.len()).sum();
        let bits = bucket_bits(table.hashes.len());
        let features = &mut reader.features;
        features.clear();
        for (hash, count) in reader.counts.block(*block).entries() {
            prefetch(table.buckets, bucket(hash, bits));
            features.push(Feature { hash, row: None, raw: self.sublinear.get(count) });
        }
        for feature in features.iter() {
            let begin = table.buckets.get(bucket(feature.hash, bits)).copied().unwrap_or(0);
            prefetch(table.hashes, begin as usize);
        }
        for feature in features.iter_mut() {
            feature.row = table.find(feature.hash, bits);
            if let Some(row) = feature.row {
                prefetch(table.document_frequency, row as usize);
                self.layer.weights.ask(first + row as usize, classes, false);
            }
        }
        if let Weights::Kept { .. } = self.layer.weights {
            for row in features.iter().filter_map(|feature| feature.row) {
                self.layer.weights.ask(first + row as usize, classes, true);
            }
        }
        let mut squares = 0.0f64;
        for feature in features.iter_mut() {
            let df = match feature.row {
                Some(row) => table.document_frequency.get(row as usize).copied().unwrap_or(1),
                None => 1,
            };
            feature.raw *= self.idf.get(df);
            squares += f64::from(feature.raw) * f64::from(feature.raw);
            feature.row = feature.row.map(|row| row + first as u32);
        }
        inverse_norm(squares)
    }

    /// Logits of some of the texts.
    #[inline(always)]
    fn rows(_: impl Cpu, (prepared, texts, rows, reader, sums, out): Asked<'_, 'l, 'a, '_>) {
        for (row, out) in rows.zip(out.chunks_exact_mut(sums.len())) {
            prepared.logits_of(texts.row(row), reader, sums, out);
        }
    }

    #[inline(always)]
    fn logits_of(&self, text: &str, reader: &mut Reader, sums: &mut [f32], out: &mut [f32]) {
        let Layer { recipe, tables, weights, bias, .. } = self.layer;
        reader.counts.read(text, recipe, &mut reader.scratch);
        out.copy_from_slice(bias);
        for which in 0..tables.len() {
            let scale = self.look_up(which, reader);
            sums.fill(0.0);
            for feature in &reader.features {
                let Some(row) = feature.row else { continue };
                weights.add(row as usize, feature.raw, sums);
            }
            out.iter_mut().zip(&*sums).for_each(|(out, &sum)| *out += sum * scale);
        }
    }
}

impl Layer<'_> {
    fn prepare(&self, texts: usize) -> Prepared<'_, '_> {
        // The table of logarithms pays only for many texts; the values are the same.
        let small = if texts > 100 { 1 << 12 } else { 16 };
        Prepared { layer: self, idf: Idf::new(self.documents, small), sublinear: Sublinear::new() }
    }

    /// Logits (texts, classes) of all texts.
    pub fn logits(&self, level: Level, texts: Texts, threads: usize) -> Vec<f32> {
        let classes = self.bias.len();
        let mut out = vec![0.0; texts.len() * classes];
        let prepared = self.prepare(texts.len());
        let mut rest = &mut out[..];
        let mut work = Vec::new();
        for range in row_ranges(texts.offsets(), 1 << 16) {
            let own = cut(&mut rest, range.len() * classes);
            work.push((range, own));
        }
        let fresh = || (Reader::default(), vec![0.0; classes]);
        share(threads, work, fresh, |(reader, sums), (range, own)| {
            dispatch(level, Rows((&prepared, texts, range, reader, &mut sums[..], own)));
        });
        out
    }

    /// Each distinct n-gram of one text, with its value after the norm.
    pub fn features(&self, text: &str) -> Vec<(Feature, f32)> {
        let prepared = self.prepare(1);
        let mut reader = Reader::default();
        reader.counts.read(text, &self.recipe, &mut reader.scratch);
        let mut all = Vec::new();
        for which in 0..self.tables.len() {
            let scale = prepared.look_up(which, &mut reader);
            all.extend(reader.features.iter().map(|&feature| (feature, feature.raw * scale)));
        }
        all
    }
}
