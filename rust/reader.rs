//! Text → its distinct n-grams, counted: the quick way of `ngrams.rs`.
//!
//! Words repeat all the time, within a text and from text to text: the n-grams of a
//! short word are made once and then read from a list. Nothing of this shows in what
//! is counted; lists are forgotten together, between two texts, when they are many.

use crate::count::Counter;
use crate::ngrams::{Block, Recent, Recipe, char_ngrams, hash_of, mark};
use crate::text::{Kind, Token, tokenize};

/// In [`crate::count::Entry::at`]: the n-gram is in `passing`, not in `kept`.
pub const PASSING: u32 = 1 << 31;

/// Most n-grams kept: with what a model knows of each they fit the second or third cache.
const KEPT: usize = 1 << 17;
/// Most words kept: in tests few, so that they are forgotten there, too.
const WORDS: usize = if cfg!(test) { 1 << 6 } else { 1 << 13 };
/// Slots that are looked at for a word: those made to meet in one slot cost no more than this.
const PROBES: usize = 8;

/// The n-grams of one block.
#[derive(Default)]
pub struct Side {
    /// Those of the text last read.
    pub counter: Counter,
    /// Hashes of the n-grams of all words kept; they only grow, until all are forgotten.
    pub kept: Vec<u64>,
    /// Hashes of the other n-grams of the text last read, distinct.
    pub passing: Vec<u64>,
}

impl Side {
    #[inline(always)]
    fn pass(&mut self, hash: u64) {
        if self.counter.add(hash, PASSING | self.passing.len() as u32) {
            self.passing.push(hash);
        }
    }
}

/// A word whose n-grams are kept.
#[derive(Clone, Copy, Default)]
struct Word {
    /// Of its token; 0 in a free slot.
    key: u128,
    /// Of its token.
    hash: u64,
    /// Where its character n-grams begin, and how many there are.
    begin: u32,
    length: u16,
    /// Where it stands itself, as a word n-gram of length 1.
    at: u16,
}

/// Reads one text after the other.
pub struct Reader {
    recipe: Recipe,
    /// Words, chars.
    sides: [Side; 2],
    /// Words by key; a power of two, at most half of them taken.
    slots: Vec<Word>,
    /// How many words are kept.
    words: usize,
    folded: String,
    /// The characters of the word being read.
    run: Vec<u32>,
    /// How often all words were forgotten.
    age: u64,
}

impl Reader {
    /// See `expect` for the bytes.
    pub fn new(recipe: Recipe, bytes: usize) -> Self {
        let mut reader = Self {
            recipe,
            sides: Default::default(),
            slots: vec![Word::default(); 64],
            words: 0,
            folded: String::new(),
            run: Vec::new(),
            age: 0,
        };
        reader.expect(bytes);
        reader
    }

    /// About so much is to be read next: for little, little room is made.
    pub fn expect(&mut self, bytes: usize) {
        let slots = (bytes / 4).next_power_of_two().min(2 * WORDS);
        if slots > self.slots.len() {
            self.grow(slots);
        }
    }

    fn grow(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![Word::default(); slots]);
        for word in old.into_iter().filter(|word| word.key != 0) {
            // One that finds no place is met anew.
            if let Some(slot) = self.probes(word.key).find(|&slot| self.slots[slot].key == 0) {
                self.slots[slot] = word;
            }
        }
    }

    /// The slots a word may be in.
    #[inline(always)]
    fn probes(&self, key: u128) -> impl Iterator<Item = usize> + use<> {
        let (low, high) = (key as u64, (key >> 64) as u64);
        let mixed = (low ^ high.rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mask = self.slots.len() - 1;
        (0..PROBES).map(move |i| ((mixed >> 32) as usize + i) & mask)
    }

    /// The n-grams of one block of the text last read.
    pub fn block(&self, block: Block) -> &Side {
        &self.sides[block as usize]
    }

    /// How often all words were forgotten: what is known of `kept` n-grams is void after that.
    pub fn age(&self) -> u64 {
        self.age
    }

    /// Count the n-grams of `text`, forgetting those of the text before.
    pub fn read(&mut self, text: &str) {
        if self.full() && self.slots.len() < 2 * WORDS && self.sides[1].kept.len() < KEPT {
            self.grow((4 * self.slots.len()).min(2 * WORDS));
        }
        if self.full() {
            self.slots.fill(Word::default());
            self.words = 0;
            self.sides.iter_mut().for_each(|side| side.kept.clear());
            self.age += 1;
        }
        for side in &mut self.sides {
            side.counter.clear();
            side.passing.clear();
        }
        let mut folded = std::mem::take(&mut self.folded);
        let mut recent = Recent::default();
        tokenize(text, self.recipe.rule, &mut folded, |token| {
            if !(token.joined && token.kind == Kind::Unspaced) {
                self.end_run();
            }
            match self.word(&token) {
                Some(word) => self.known(word, &mut recent),
                None => self.unknown(&token, &mut recent),
            }
        });
        self.end_run();
        self.folded = folded;
    }

    fn full(&self) -> bool {
        self.words * 2 >= self.slots.len() || self.sides[1].kept.len() >= KEPT
    }

    /// Find a word, or keep it; none if it is long, or of a script without spaces, or there is no room.
    #[inline(always)]
    fn word(&mut self, token: &Token) -> Option<Word> {
        if token.key == 0 || token.kind == Kind::Unspaced {
            return None;
        }
        for slot in self.probes(token.key) {
            let word = &self.slots[slot];
            if word.key == token.key {
                return Some(*word);
            }
            if word.key == 0 {
                return self.keep(token, slot);
            }
        }
        None
    }

    #[inline(never)]
    fn keep(&mut self, token: &Token, slot: usize) -> Option<Word> {
        if self.full() {
            return None;
        }
        let [words, chars] = &mut self.sides;
        let (begin, at, hash) = (chars.kept.len(), words.kept.len(), hash_of(token));
        if self.recipe.words.is_some_and(|(shortest, _)| shortest == 1) {
            let mut alone = Recent::default();
            alone.push(hash);
            alone.ngrams((1, 1), |hash, _| words.kept.push(hash));
        }
        if let Some(range) = self.recipe.chars {
            self.run.extend(String::from_utf8_lossy(token.bytes).chars().map(u32::from));
            char_ngrams(range, mark(&mut self.run), |hash, _| chars.kept.push(hash));
            self.run.clear();
        }
        let length = (chars.kept.len() - begin) as u16;
        let word = Word { key: token.key, hash, begin: begin as u32, length, at: at as u16 };
        self.slots[slot] = word;
        self.words += 1;
        Some(word)
    }

    #[inline(always)]
    fn known(&mut self, word: Word, recent: &mut Recent) {
        let [words, chars] = &mut self.sides;
        if let Some((shortest, longest)) = self.recipe.words {
            recent.push(word.hash);
            if shortest == 1 {
                words.counter.add(words.kept[word.at as usize], word.at.into());
            }
            recent.ngrams((shortest.max(2), longest), |hash, _| words.pass(hash));
        }
        let first = word.begin as usize;
        let own = chars.kept.get(first..first + word.length as usize).unwrap_or_default();
        for (at, &hash) in (word.begin..).zip(own) {
            chars.counter.add(hash, at);
        }
    }

    #[inline(never)]
    fn unknown(&mut self, token: &Token, recent: &mut Recent) {
        if let Some(range) = self.recipe.words {
            recent.push(hash_of(token));
            recent.ngrams(range, |hash, _| self.sides[0].pass(hash));
        }
        if self.recipe.chars.is_some() {
            self.run.extend(String::from_utf8_lossy(token.bytes).chars().map(u32::from));
            if token.kind != Kind::Unspaced {
                self.end_run();
            }
        }
    }

    #[inline(always)]
    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.pass_run();
        }
    }

    #[inline(never)]
    fn pass_run(&mut self) {
        if let Some(range) = self.recipe.chars {
            char_ngrams(range, mark(&mut self.run), |hash, _| self.sides[1].pass(hash));
        }
        self.run.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngrams::{Sink, ngrams};
    use crate::text::Rule;

    /// Distinct n-grams with their counts, in order of first occurrence.
    #[derive(Default)]
    struct Naive([Vec<(u64, u32)>; 2]);
    impl Sink for Naive {
        fn ngram(&mut self, block: Block, hash: u64, _: impl FnOnce() -> String) {
            let seen = &mut self.0[block as usize];
            match seen.iter_mut().find(|entry| entry.0 == hash) {
                Some(entry) => entry.1 += 1,
                None => seen.push((hash, 1)),
            }
        }
    }

    #[test]
    fn what_is_kept_does_not_show() {
        let words =
            ["the", "The", "it's", "naïve", "新手机", "カタ", "longerthanfifteenbytes", "a,b", "aaaa", "."];
        let ranges = [None, Some((1, 2)), Some((2, 3)), Some((1, 8)), Some((3, 5))];
        let mut state = 7u64;
        for (i, &words_range) in ranges.iter().enumerate() {
            for (j, &chars) in ranges.iter().enumerate() {
                let rule = if (i + j) % 4 == 3 { Rule::Whitespace } else { Rule::Unicode };
                let recipe = Recipe { rule, words: words_range, chars };
                let mut reader = Reader::new(recipe, 0);
                for round in 0..40 {
                    let mut text = String::new();
                    for _ in 0..round % 23 {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        text += words[(state >> 33) as usize % words.len()];
                        text += if state >> 60 > 3 { " " } else { "" };
                        if state >> 62 == 0 {
                            text += &format!(" w{} ", (state >> 40) % 500);
                        }
                    }
                    let mut naive = Naive::default();
                    ngrams(&text, &recipe, &mut naive);
                    reader.read(&text);
                    for block in [Block::Words, Block::Chars] {
                        let side = reader.block(block);
                        let found: Vec<_> =
                            side.counter.entries().iter().map(|e| (e.hash, e.count)).collect();
                        assert_eq!(found, naive.0[block as usize], "{text:?} {recipe:?}");
                        for entry in side.counter.entries() {
                            let (list, at) = match entry.at & PASSING {
                                0 => (&side.kept, entry.at),
                                _ => (&side.passing, entry.at ^ PASSING),
                            };
                            assert_eq!(list[at as usize], entry.hash);
                        }
                    }
                }
                assert!(reader.age() > 0);
            }
        }
    }
}
