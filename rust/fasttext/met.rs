//! Words that a thread has met: what the dictionary says of them, and the sums of their rows.

use super::dictionary::same;
use super::text::Entry;
use crate::simd::prefetch;

/// Floats of sums, 4 MB: more would leave the caches.
const ROOM: usize = 1 << 20;
const SLOTS: usize = 1 << 17;
/// Slots that are tried for a word. Who makes words of one hash, which is easy, is not to make them slow.
const TRIED: usize = 128;

/// A word met before.
#[derive(Clone, Copy)]
pub struct Known<'t> {
    /// Its bytes, in the text that had it first.
    pub word: &'t [u8],
    /// Of the bytes.
    pub hash: u32,
    /// Rows in its sum.
    pub rows: u32,
    /// What the dictionary says.
    pub entry: Entry,
}

/// Words, found by their bytes. They never show in a bit of an answer.
pub struct Met<'t> {
    slots: Vec<u32>,
    /// In the order they were met.
    pub words: Vec<Known<'t>>,
    /// The sum of each one's rows, one after another.
    pub sums: Vec<f32>,
}

impl<'t> Met<'t> {
    /// None is met yet. A call with few bytes of text does not need many slots.
    pub fn new(bytes: usize) -> Self {
        let slots = (bytes + 64).next_power_of_two().min(SLOTS);
        Self { slots: vec![u32::MAX; slots], words: Vec::new(), sums: Vec::new() }
    }

    /// Have room for so many words more, and forget those there are if need be.
    pub fn make_room(&mut self, more: usize) {
        if (self.words.len() + more) * 2 > self.slots.len() || self.sums.len() > ROOM {
            self.slots.fill(u32::MAX);
            self.words.clear();
            self.sums.clear();
        }
        // One step's words can be more than a small table was made for.
        while (self.words.len() + more) * 2 > self.slots.len() {
            self.slots.resize(2 * self.slots.len(), u32::MAX);
        }
    }

    #[inline(always)]
    fn place(&self, hash: u32) -> usize {
        (hash ^ hash >> 15) as usize & (self.slots.len() - 1)
    }

    /// Where `find_or_add` will look first is on its way.
    #[inline(always)]
    pub fn ask(&self, hash: u32) {
        prefetch(&self.slots, self.place(hash));
    }

    /// And where it will look next, once that is there.
    #[inline(always)]
    pub fn ask_word(&self, hash: u32) {
        prefetch(&self.words, self.slots[self.place(hash)] as usize);
    }

    /// The number of a word; a new one is said to be in no dictionary and to have no rows. One of too many with
    /// the same hash is always new.
    #[inline(always)]
    pub fn find_or_add(&mut self, word: &'t [u8], hash: u32) -> u32 {
        let (mut at, new) = (self.place(hash), self.words.len() as u32);
        for _ in 0..TRIED {
            let Some(known) = self.words.get(self.slots[at] as usize) else {
                self.slots[at] = new;
                break;
            };
            if known.hash == hash && same(known.word, word) {
                return self.slots[at];
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.words.push(Known { word, hash, rows: 0, entry: Entry::Unknown });
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_words_with_one_hash_most_are_new_each_time() {
        let texts: Vec<String> = (0..10_000).map(|i| format!("word{i}")).collect();
        let mut met = Met::new(1 << 20);
        met.make_room(2 * texts.len());
        for round in 0..2 {
            for (i, text) in texts.iter().enumerate() {
                let found = met.find_or_add(text.as_bytes(), 7) as usize;
                let new = round * (texts.len() - TRIED) + i;
                assert_eq!(found, if i < TRIED { i } else { new });
                assert_eq!(met.words[found].word, text.as_bytes());
            }
        }
    }

    #[test]
    fn a_word_is_met_once_until_it_is_forgotten() {
        let texts: Vec<String> = (0..100).map(|i| format!("word{i}")).collect();
        let mut met = Met::new(0);
        met.make_room(100);
        for round in 0..2 {
            for (i, text) in texts.iter().enumerate() {
                // One hash for all: they are told apart by their bytes.
                assert_eq!(met.find_or_add(text.as_bytes(), 7), i as u32, "{round}");
            }
        }
        met.make_room(1000);
        assert!(met.words.is_empty());
        assert_eq!(met.find_or_add(b"word9", 7), 0);
    }
}
