//! What is found by its bytes or its number: words, labels, n-grams that were kept.

use super::text::hash;
use crate::simd::prefetch;

/// A chain of collisions longer than this is made on purpose.
const LONGEST_CHAIN: usize = 512;
/// An empty slot of the n-grams that were kept.
pub const PRUNED_AWAY: u32 = u32::MAX;

/// Where the search for a kept n-gram begins; `count` is a power of two.
#[inline(always)]
pub fn place_of_key(key: u32, count: usize) -> usize {
    ((u64::from(key.wrapping_mul(0x9E37_79B9)) * count as u64) >> 32) as usize
}

/// Words and labels, found by their bytes.
#[derive(Clone, Copy, Debug)]
pub struct Dictionary<'a> {
    /// All, one after another.
    pub text: &'a [u8],
    /// Where each begins in `text`; one more for the end.
    pub offsets: &'a [u64],
    /// Entries by their hash, the next free slot where two meet; `u32::MAX` is none.
    pub slots: &'a [u32],
    /// How many words stand before the labels.
    pub words: usize,
    /// Where n-grams were pruned, how those that were kept are found.
    pub kept: Option<Kept<'a>>,
}

/// N-grams that were kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Keys and rows, side by side, found like words; `PRUNED_AWAY` is no key.
    pub slots: &'a [u32],
    /// Eight bits for each slot, see `filter`: most n-grams of a text were pruned, and this is in the cache.
    pub filter: &'a [u64],
}

/// Set a bit for each key of kept n-grams.
pub fn filter(slots: &[u32]) -> Vec<u64> {
    let bits = slots.len() / 2 * FILTER;
    let mut filter = vec![0; bits.div_ceil(64)];
    for &[key, _] in slots.as_chunks::<2>().0 {
        if key != PRUNED_AWAY {
            let place = place_of_key(key, bits);
            filter[place / 64] |= 1 << (place % 64);
        }
    }
    filter
}

/// Bits of the filter for each slot.
const FILTER: usize = 8;

impl Dictionary<'_> {
    #[inline(always)]
    fn place(&self, hash: u32) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    /// Where `find` will look first is on its way.
    #[inline(always)]
    pub fn ask(&self, hash: u32) {
        prefetch(self.slots, self.place(hash));
    }

    /// And where it will look next, once that is there.
    #[inline(always)]
    pub fn ask_offset(&self, hash: u32) {
        if let Some(&id) = self.slots.get(self.place(hash)) {
            prefetch(self.offsets, id as usize);
        }
    }

    /// And where it will look last.
    #[inline(always)]
    pub fn ask_text(&self, hash: u32) {
        if let Some(&id) = self.slots.get(self.place(hash))
            && let Some(&begin) = self.offsets.get(id as usize)
        {
            prefetch(self.text, begin as usize);
        }
    }

    /// The number of an entry.
    #[inline(always)]
    pub fn find(&self, word: &[u8], hash: u32) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = self.place(hash);
        for _ in 0..=LONGEST_CHAIN {
            let id = *self.slots.get(at)?;
            let (begin, end) = (*self.offsets.get(id as usize)?, *self.offsets.get(id as usize + 1)?);
            if same(self.text.get(begin as usize..end as usize)?, word) {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Whether an n-gram may have a row; hardly ever true if it has none.
    #[inline(always)]
    pub fn may_have(&self, key: u32) -> bool {
        let Some(Kept { filter, slots }) = self.kept else { return true };
        let place = place_of_key(key, slots.len() / 2 * FILTER);
        filter.get(place / 64).is_none_or(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// The row of an n-gram.
    #[inline(always)]
    pub fn row(&self, key: u32) -> Option<u32> {
        let words = self.words as u32;
        let Some(Kept { slots, .. }) = self.kept else { return words.checked_add(key) };
        let count = slots.len() / 2;
        let mut at = place_of_key(key, count);
        for _ in 0..=LONGEST_CHAIN {
            let &[found, row] = slots.get(2 * at..)?.first_chunk()?;
            if found == key {
                return words.checked_add(row);
            }
            if found == PRUNED_AWAY {
                return None;
            }
            at = (at + 1) & (count - 1);
        }
        None
    }
}

/// A power of two that leaves at least half of the slots empty.
fn slots_for(count: usize) -> usize {
    (2 * count.max(1)).next_power_of_two()
}

/// The slots of `Dictionary`. Of equal words the last is found, as fastText does.
///
/// # Errors
///
/// A clause, if words collide that were made to.
pub fn slots(text: &[u8], offsets: &[u64]) -> Result<Vec<u32>, String> {
    let count = offsets.len() - 1;
    let mut slots = vec![u32::MAX; slots_for(count)];
    let word = |id: usize| &text[offsets[id] as usize..offsets[id + 1] as usize];
    for id in 0..count {
        let mut at = hash(word(id)) as usize & (slots.len() - 1);
        let mut tried = 0;
        while slots[at] != u32::MAX && word(slots[at] as usize) != word(id) {
            at = (at + 1) & (slots.len() - 1);
            tried += 1;
            if tried == LONGEST_CHAIN {
                return Err("it was edited: its words collide more than words do".into());
            }
        }
        slots[at] = id as u32;
    }
    Ok(slots)
}

/// The slots of `Kept`: key and row, side by side.
///
/// # Errors
///
/// A clause, if a row is none of so many, or n-grams collide that were made to.
pub fn pruned(pairs: Vec<(u32, u32)>, rows: usize) -> Result<Vec<u32>, String> {
    let count = slots_for(pairs.len());
    let mut slots = vec![PRUNED_AWAY; 2 * count];
    for (key, row) in pairs {
        if key > i32::MAX as u32 || row as usize >= rows {
            return Err(format!("it was edited: n-gram {key} is said to be in row {row} of {rows}"));
        }
        let mut at = place_of_key(key, count);
        let mut tried = 0;
        while slots[2 * at] != PRUNED_AWAY && slots[2 * at] != key {
            at = (at + 1) & (count - 1);
            tried += 1;
            if tried == LONGEST_CHAIN {
                return Err("it was edited: its n-grams collide more than n-grams do".into());
            }
        }
        slots[2 * at] = key;
        slots[2 * at + 1] = row;
    }
    Ok(slots)
}

/// Whether two words are one: most are too short for a call to be worth it.
#[inline(always)]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.len() > 16 {
        return a == b;
    }
    if let (Some(a), Some(b), Some(y), Some(z)) =
        (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>())
    {
        return a == b && y == z;
    }
    if let (Some(a), Some(b), Some(y), Some(z)) =
        (a.first_chunk::<4>(), b.first_chunk::<4>(), a.last_chunk::<4>(), b.last_chunk::<4>())
    {
        return a == b && y == z;
    }
    a.iter().eq(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_byte_for_byte() {
        let word: Vec<u8> = (0..40).collect();
        for length in 0..word.len() {
            assert!(same(&word[..length], &word.clone()[..length]));
            assert!(!same(&word[..length], &word[..length + 1]));
            for at in 0..length {
                let mut other = word[..length].to_vec();
                other[at] ^= 1;
                assert!(!same(&word[..length], &other), "{length} {at}");
            }
        }
    }

    #[test]
    fn kept_n_grams_are_found_and_others_are_not() {
        let mut slots = [PRUNED_AWAY; 16];
        for (key, row) in [(5, 0), (9, 1), (1_000_000, 2)] {
            let mut at = place_of_key(key, 8);
            while slots[2 * at] != PRUNED_AWAY {
                at = (at + 1) % 8;
            }
            (slots[2 * at], slots[2 * at + 1]) = (key, row);
        }
        let filter = filter(&slots);
        let kept = Some(Kept { slots: &slots, filter: &filter });
        let dictionary = Dictionary { text: b"", offsets: &[0], slots: &[u32::MAX; 2], words: 10, kept };
        for (key, row) in [(5, Some(10)), (9, Some(11)), (1_000_000, Some(12)), (6, None), (0, None)] {
            assert_eq!(dictionary.row(key), row);
            assert!(row.is_none() || dictionary.may_have(key));
        }
    }
}
