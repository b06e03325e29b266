//! The n-grams of texts found in a table that is already there: lists as `count` makes them.
//!
//! For rows that must not decide what is known: a validation set, later chunks of a stream, texts a
//! model goes on learning from.

use crate::count::{Entry, Listed, SHARDS, shard, sublinear};
use crate::ngrams::{Block, Recipe};
use crate::reader::Reader;
use crate::table::{Table, bucket_bits};
use crate::text::Texts;
use crate::threads::{row_ranges, share};

/// Look the n-grams of one block up in a table of that block; a text's n-grams that are not in it are dropped.
pub fn look_up(texts: Texts, recipe: &Recipe, block: Block, table: Table, threads: usize) -> Listed {
    let recipe = &recipe.only(block);
    let bits = bucket_bits(table.hashes.len());
    let ranges = row_ranges(texts.offsets(), 1 << 18);
    let mut parts: Vec<Listed> = ranges.iter().map(|_| Listed::default()).collect();
    let work: Vec<_> = ranges.into_iter().zip(parts.iter_mut()).collect();
    let fresh = || (Reader::new(*recipe, texts.bytes()), Default::default());
    share(threads, work, fresh, |(reader, shards), (range, listed)| {
        let shards: &mut [Vec<(u32, u16)>; SHARDS] = shards;
        for row in range {
            reader.read(texts.row(row));
            let mut unknown = 0.0;
            for &Entry { hash, count, .. } in reader.block(block).counter.entries() {
                match table.find(hash, bits) {
                    Some(index) => shards[shard(hash)].push((index, count as u16)),
                    None => unknown += sublinear(count) * sublinear(count),
                }
            }
            listed.dropped.push(unknown);
            for shard in &mut *shards {
                listed.indices.extend(shard.iter().map(|&(index, _)| index));
                listed.counts.extend(shard.drain(..).map(|(_, count)| count));
                listed.indptr.push(listed.indices.len() as i64);
            }
        }
    });
    Listed::joined(parts, threads)
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
            let lists = counted.lists;
            assert_eq!(found.indptr, lists.indptr);
            assert_eq!(found.indices, lists.indices);
            assert_eq!(found.counts, lists.counts);
            for (a, b) in found.dropped.iter().zip(&lists.dropped) {
                assert!((a - b).abs() <= 1e-5 * b.abs());
            }
        }
    }
}
