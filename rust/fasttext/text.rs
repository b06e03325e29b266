//! A text as fastText reads it: words between white space, and the rows of the input matrix that
//! words, runs of their characters and runs of words stand for.

use super::format::{LONGEST_CHAIN, Settings};

/// The end of a line, which is a word of every text.
pub const END: &[u8] = b"</s>";
/// What a label begins with.
const LABEL: &[u8] = b"__label__";
/// An empty slot of the n-grams that were kept.
pub const PRUNED_AWAY: u32 = u32::MAX;

/// FNV-1a of bytes that are signed: those from 128 on reach all of the hash, as released models need it.
#[inline(always)]
pub fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(FNV, |h, &byte| step(h, byte))
}

const FNV: u32 = 2_166_136_261;

#[inline(always)]
fn step(h: u32, byte: u8) -> u32 {
    (h ^ byte as i8 as u32).wrapping_mul(16_777_619)
}

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
    /// The number of an entry.
    #[inline(always)]
    pub fn find(&self, word: &[u8], hash: u32) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        for _ in 0..=LONGEST_CHAIN {
            let id = *self.slots.get(at)?;
            let (begin, end) = (*self.offsets.get(id as usize)?, *self.offsets.get(id as usize + 1)?);
            if self.text.get(begin as usize..end as usize)? == word {
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

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A word of the dictionary, and its row.
    Word(u32),
    /// Another word.
    Unknown,
    /// To be dropped.
    Label,
}

/// A remainder by a number that is known beforehand (Lemire, Kaser & Kurz 2019).
#[derive(Clone, Copy, Debug)]
pub struct Remainder {
    by: u32,
    inverse: u64,
}

impl Remainder {
    /// By `by`; by 0 it is always 0.
    pub fn new(by: usize) -> Self {
        let by = by as u32;
        Self { by, inverse: if by == 0 { 0 } else { (u64::MAX / u64::from(by)).wrapping_add(1) } }
    }

    #[inline(always)]
    fn of(self, value: u32) -> u32 {
        let low = self.inverse.wrapping_mul(u64::from(value));
        ((u128::from(low) * u128::from(self.by)) >> 64) as u32
    }
}

/// How texts become rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Lengths of runs, and the bucket.
    pub settings: Settings,
    /// What words are found in.
    pub dictionary: Dictionary<'a>,
    /// As fastText does it, also where that is a mistake: a word that begins as a label does is dropped,
    /// and a text ends at its first line feed or `</s>`. Else the one is a word, and the others are spaces.
    pub strict: bool,
    /// By the bucket.
    pub remainder: Remainder,
}

#[inline(always)]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0B | 0x0C | 0)
}

impl<'a> Rows<'a> {
    /// The rule of a model.
    pub fn new(settings: Settings, dictionary: Dictionary<'a>, strict: bool) -> Self {
        Self { settings, dictionary, strict, remainder: Remainder::new(settings.bucket) }
    }

    /// Call `emit` with each word of a text and its hash; the last one is the end of the line.
    #[inline(always)]
    pub fn words(&self, text: &str, mut emit: impl FnMut(&[u8], u32)) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if is_space(bytes[at]) {
                if self.strict && bytes[at] == b'\n' {
                    break;
                }
                at += 1;
                continue;
            }
            let begin = at;
            let mut h = FNV;
            while at < bytes.len() && !is_space(bytes[at]) {
                h = step(h, bytes[at]);
                at += 1;
            }
            let word = &bytes[begin..at];
            if word == END {
                if self.strict {
                    break;
                }
                continue;
            }
            emit(word, h);
        }
        emit(END, hash(END));
    }

    /// What the dictionary says of a word.
    #[inline(always)]
    pub fn entry(&self, word: &[u8], hash: u32) -> Entry {
        match self.dictionary.find(word, hash) {
            Some(id) if (id as usize) < self.dictionary.words => Entry::Word(id),
            Some(_) if self.strict => Entry::Label,
            None if self.strict && word.starts_with(LABEL) => Entry::Label,
            _ => Entry::Unknown,
        }
    }

    /// Call `emit` with each run of characters of a word, and its key in the bucket.
    #[inline(always)]
    pub fn runs_of_characters(&self, word: &[u8], marked: &mut Vec<u8>, mut emit: impl FnMut(&[u8], u32)) {
        let Settings { minn, maxn, .. } = self.settings;
        if maxn == 0 || word == END {
            return;
        }
        marked.clear();
        marked.push(b'<');
        marked.extend_from_slice(word);
        marked.push(b'>');
        let ends = |at: usize| marked.get(at).is_none_or(|&byte| byte & 0xC0 != 0x80);
        for begin in 0..marked.len() {
            if !ends(begin) {
                continue;
            }
            let (mut h, mut at) = (FNV, begin);
            for length in 1..=maxn {
                if at == marked.len() {
                    break;
                }
                loop {
                    h = step(h, marked[at]);
                    at += 1;
                    if ends(at) {
                        break;
                    }
                }
                // The marks of begin and end by themselves are no n-grams.
                if length >= minn && !(length == 1 && (begin == 0 || at == marked.len())) {
                    emit(&marked[begin..at], self.remainder.of(h));
                }
            }
        }
    }

    /// Call `emit` with where each run of words is, given the hashes of all words, and its key in the bucket.
    #[inline(always)]
    pub fn runs_of_words(&self, hashes: &[u32], mut emit: impl FnMut(std::ops::Range<usize>, u32)) {
        let signed = |h: u32| h as i32 as u64;
        let longest = self.settings.word_ngrams;
        if longest < 2 || self.settings.bucket == 0 {
            return;
        }
        for begin in 0..hashes.len() {
            let mut h = signed(hashes[begin]);
            for end in begin + 1..hashes.len().min(begin + longest) {
                h = h.wrapping_mul(116_049_371).wrapping_add(signed(hashes[end]));
                emit(begin..end + 1, (h % self.settings.bucket as u64) as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_from_128_on_reach_all_of_the_hash() {
        assert_eq!(hash(b""), 2_166_136_261);
        assert_eq!(hash(b"a"), 0xE40C_292C); // as any FNV-1a has it
        assert_eq!(hash("é".as_bytes()), step(step(FNV, 0xC3), 0xA9));
        assert_eq!(step(0, 0x80), 0xFFFF_FF80u32.wrapping_mul(16_777_619));
    }

    #[test]
    fn a_remainder_is_a_remainder() {
        for by in [1, 2, 3, 7, 101, 2_000_000, i32::MAX as usize] {
            let remainder = Remainder::new(by);
            for value in [0, 1, 2, 6, 7, 100, 101, 1_999_999, 2_000_000, u32::MAX / 2, u32::MAX - 1, u32::MAX]
            {
                assert_eq!(remainder.of(value), value % by as u32, "{value} % {by}");
            }
        }
        assert_eq!(Remainder::new(0).of(17), 0);
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
