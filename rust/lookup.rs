//! The n-grams of texts found in a table that is already there: lists as `count` makes them.
//!
//! For rows that must not decide what is known: a validation set, later chunks of a stream, texts a
//! model goes on learning from.

use crate::count::{Entry, SHARDS, cut, sublinear};
use crate::ngrams::{Block, Recipe};
use crate::reader::Reader;
use crate::table::{Table, bucket_bits};
use crate::text::Texts;
use crate::threads::{row_ranges, share};

/// Lists of one block: see [`crate::count::BlockFeatures`].
pub struct Found {
    /// `SHARDS` × (texts + 1).
    pub indptr: Vec<i64>,
    /// Rank in the table of each occurrence.
    pub indices: Vec<u32>,
    /// How often.
    pub counts: Vec<u16>,
    /// Of each text, Σ (1 + ln count)² over the n-grams that are not in the table.
    pub dropped: Vec<f32>,
}

/// What one range of rows adds to one shard.
#[derive(Default)]
struct Part {
    indices: Vec<u32>,
    counts: Vec<u16>,
    /// Features per row.
    lengths: Vec<u32>,
}

type Parts = ([Part; SHARDS], Vec<f32>);

/// Look the n-grams of one block up in a table of that block.
pub fn look_up(texts: Texts, recipe: &Recipe, block: Block, table: Table, threads: usize) -> Found {
    let recipe = &recipe.only(block);
    let bits = bucket_bits(table.hashes.len());
    let ranges = row_ranges(texts.offsets(), 1 << 18);
    let mut parts: Vec<Parts> = ranges.iter().map(|_| Parts::default()).collect();
    let work: Vec<_> = ranges.into_iter().zip(parts.iter_mut()).collect();
    let fresh = || Reader::new(*recipe, texts.bytes());
    share(threads, work, fresh, |reader, (range, (parts, dropped))| {
        for row in range {
            reader.read(texts.row(row));
            let before: [usize; SHARDS] = std::array::from_fn(|s| parts[s].indices.len());
            let mut unknown = 0.0;
            for &Entry { hash, count, .. } in reader.block(block).counter.entries() {
                match table.find(hash, bits) {
                    Some(index) => {
                        let part = &mut parts[(hash >> (64 - SHARDS.trailing_zeros())) as usize];
                        part.indices.push(index);
                        part.counts.push(count as u16);
                    }
                    None => unknown += sublinear(count) * sublinear(count),
                }
            }
            dropped.push(unknown);
            for (part, before) in parts.iter_mut().zip(before) {
                part.lengths.push((part.indices.len() - before) as u32);
            }
        }
    });
    join(&parts, texts.len(), threads)
}

/// All ranges, shard by shard.
fn join(parts: &[Parts], rows: usize, threads: usize) -> Found {
    let sizes: [usize; SHARDS] =
        std::array::from_fn(|s| parts.iter().map(|(parts, _)| parts[s].indices.len()).sum());
    let occurrences = sizes.iter().sum();
    let mut found = Found {
        indptr: vec![0; SHARDS * (rows + 1)],
        indices: vec![0; occurrences],
        counts: vec![0; occurrences],
        dropped: parts.iter().flat_map(|(_, dropped)| dropped).copied().collect(),
    };
    let (mut indices, mut counts) = (&mut found.indices[..], &mut found.counts[..]);
    let mut first = 0;
    let mut work = Vec::new();
    for (s, indptr) in found.indptr.chunks_mut(rows + 1).enumerate() {
        work.push((s, first, indptr, cut(&mut indices, sizes[s]), cut(&mut counts, sizes[s])));
        first += sizes[s];
    }
    share(
        threads,
        work,
        || (),
        |(), (s, first, indptr, indices, counts)| {
            let (mut row, mut at) = (0, 0);
            for part in parts.iter().map(|(parts, _)| &parts[s]) {
                indices[at..at + part.indices.len()].copy_from_slice(&part.indices);
                counts[at..at + part.counts.len()].copy_from_slice(&part.counts);
                for &length in &part.lengths {
                    indptr[row] = (first + at) as i64;
                    row += 1;
                    at += length as usize;
                }
            }
            indptr[rows] = (first + at) as i64;
        },
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::count;
    use crate::table::buckets;
    use crate::text::Rule;

    #[test]
    fn texts_looked_up_in_their_own_table_give_their_own_lists() {
        let all = ["a b a", "", "b c", "a a a a", "the cat, the dog 新手机"];
        let recipe = Recipe { rule: Rule::Unicode, words: Some((1, 2)), chars: Some((2, 4)) };
        let mut offsets = vec![0i64];
        all.iter().for_each(|text| offsets.push(offsets[offsets.len() - 1] + text.len() as i64));
        let data = all.concat();
        let texts = Texts::new(&offsets, data.as_bytes()).unwrap();
        for (block, least, threads) in [(Block::Words, 1, 1), (Block::Chars, 1, 3), (Block::Words, 2, 2)] {
            let counted = count(texts, &recipe, block, least, crate::count::Room::ALL, 1);
            let begins = buckets(&counted.hashes);
            let table = Table {
                hashes: &counted.hashes,
                buckets: &begins,
                document_frequency: &counted.document_frequency,
            };
            let found = look_up(texts, &recipe, block, table, threads);
            assert_eq!(found.indptr, counted.indptr);
            assert_eq!(found.indices, counted.indices);
            assert_eq!(found.counts, counted.counts);
            for (a, b) in found.dropped.iter().zip(&counted.dropped) {
                assert!((a - b).abs() <= 1e-5 * b.abs());
            }
        }
    }
}
