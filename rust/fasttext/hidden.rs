//! Texts to the hidden layer: the mean of the rows of each, words remembered within a call.

use super::input::Input;
use super::text::{END, Entry, Rows};
use crate::text::Texts;
use std::ops::Range;

/// What is known of a text beside its hidden layer: words in the dictionary, words that are not, rows.
pub const AMOUNTS: usize = 3;

/// Words of at most so many bytes are remembered; longer ones hardly come again.
const LONGEST: usize = 40;
/// Floats of remembered sums, 4 MB: more would leave the caches.
const ROOM: usize = 1 << 20;
const SLOTS: usize = 1 << 17;
/// Rows that are asked for ahead of the one being added.
const AHEAD: usize = 12;

/// A word met before.
#[derive(Clone, Copy)]
struct Known {
    hash: u32,
    begin: u32,
    length: u32,
    /// Rows in its sum.
    rows: u32,
    entry: Entry,
}

/// What a thread remembers from text to text. It never shows in a bit of the answer.
pub struct Memory {
    slots: Vec<u32>,
    words: Vec<Known>,
    text: Vec<u8>,
    sums: Vec<f32>,
    /// Scratch: the sum of a word, a word between its marks, keys of n-grams, rows, the hashes of a text's words.
    long: Vec<f32>,
    marked: Vec<u8>,
    keys: Vec<u32>,
    rows: Vec<u32>,
    hashes: Vec<u32>,
}

impl Memory {
    /// Nothing is remembered yet. A call with few texts does not need many slots.
    pub fn new(bytes: usize) -> Self {
        let slots = (bytes / 2).next_power_of_two().clamp(64, SLOTS);
        Self {
            slots: vec![u32::MAX; slots],
            words: Vec::new(),
            text: Vec::new(),
            sums: Vec::new(),
            long: Vec::new(),
            marked: Vec::new(),
            keys: Vec::new(),
            rows: Vec::new(),
            hashes: Vec::new(),
        }
    }

    fn forget(&mut self) {
        self.slots.fill(u32::MAX);
        self.words.clear();
        self.text.clear();
        self.sums.clear();
    }
}

/// A model up to its hidden layer.
#[derive(Clone, Copy)]
pub struct Front<'a> {
    /// Text to rows.
    pub rows: Rows<'a>,
    /// Rows to sums.
    pub input: Input<'a>,
}

impl Front<'_> {
    /// The hidden layer of some texts, one after another, and what is known of each.
    #[inline(always)]
    pub fn all(
        &self,
        texts: &Texts,
        rows: Range<usize>,
        memory: &mut Memory,
        out: &mut [f32],
        amounts: &mut [f32],
    ) {
        let dim = self.rows.settings.dim;
        let amounts = amounts.as_chunks_mut::<AMOUNTS>().0;
        for ((row, out), amounts) in rows.zip(out.chunks_exact_mut(dim)).zip(amounts) {
            *amounts = self.one(texts.row(row), memory, out);
        }
    }

    #[inline(always)]
    fn one(&self, text: &str, memory: &mut Memory, out: &mut [f32]) -> [f32; AMOUNTS] {
        let dim = out.len();
        let (mut known, mut unknown, mut total) = (0u32, 0u32, 0u64);
        if memory.words.len() * 2 > memory.slots.len() || memory.sums.len() > ROOM {
            memory.forget();
        }
        out.fill(0.0);
        memory.hashes.clear();
        let runs = self.rows.settings.word_ngrams > 1;
        let chars = self.rows.settings.maxn > 0;
        memory.rows.clear();
        self.rows.words(text, |word, hash| {
            let entry = if self.rows.strict {
                // Row by row, as fastText adds them: a table of the sigmoid shows the last bit.
                self.row_by_row(word, hash, memory)
            } else {
                let (known, sum) = self.recall(word, hash, memory, dim);
                total += u64::from(known.rows);
                if chars {
                    let sum = sum.and_then(|at| memory.sums.get(at..at + dim)).unwrap_or(&memory.long);
                    out.iter_mut().zip(sum).for_each(|(out, sum)| *out += sum);
                } else if let Entry::Word(row) = known.entry {
                    memory.rows.push(row);
                }
                known.entry
            };
            if entry == Entry::Label {
                return;
            }
            if word != END {
                *if entry == Entry::Unknown { &mut unknown } else { &mut known } += 1;
            }
            if runs {
                memory.hashes.push(hash);
            }
        });
        if runs {
            let rows = &mut memory.rows;
            self.rows.runs_of_words(&memory.hashes, |_, key| rows.extend(self.rows.dictionary.row(key)));
        }
        total += memory.rows.len() as u64;
        self.add(&memory.rows, out);
        if total > 0 {
            // As fastText divides: by a factor in single precision.
            let share = (1.0 / total as f64) as f32;
            out.iter_mut().for_each(|out| *out *= share);
        }
        [known as f32, unknown as f32, total as f32]
    }

    #[inline(always)]
    fn add(&self, rows: &[u32], sum: &mut [f32]) {
        let dim = sum.len();
        rows.iter().take(AHEAD).for_each(|&row| self.input.ask(row, dim));
        for (at, &row) in rows.iter().enumerate() {
            if let Some(&ahead) = rows.get(at + AHEAD) {
                self.input.ask(ahead, dim);
            }
            self.input.add(row, sum);
        }
    }

    fn row_by_row(&self, word: &[u8], hash: u32, memory: &mut Memory) -> Entry {
        let entry = self.rows.entry(word, hash);
        if let Entry::Word(row) = entry {
            memory.rows.push(row);
        }
        if entry != Entry::Label {
            let Memory { rows, marked, .. } = memory;
            self.rows.runs_of_characters(word, marked, |_, key| rows.extend(self.rows.dictionary.row(key)));
        }
        entry
    }

    /// What is known of a word, and where the sum of its rows is; none: in `memory.long`.
    #[inline(always)]
    fn recall(&self, word: &[u8], hash: u32, memory: &mut Memory, dim: usize) -> (Known, Option<usize>) {
        let mask = memory.slots.len() - 1;
        let mut at = (hash ^ hash >> 15) as usize & mask;
        // A long text can fill the slots before the next one begins: then it is as with long words.
        let room = memory.words.len() * 4 < memory.slots.len() * 3 && memory.sums.len() < 2 * ROOM;
        let keep = word.len() <= LONGEST && room;
        while word.len() <= LONGEST {
            let Some(&found) = memory.words.get(memory.slots[at] as usize) else { break };
            let begin = found.begin as usize;
            if found.hash == hash && &memory.text[begin..begin + found.length as usize] == word {
                return (found, Some(memory.slots[at] as usize * dim));
            }
            at = (at + 1) & mask;
        }
        let entry = self.rows.entry(word, hash);
        let (begin, length) = (memory.text.len() as u32, word.len() as u32);
        let mut known = Known { hash, begin, length, rows: 0, entry };
        if entry == Entry::Label {
            return (known, None);
        }
        if self.rows.settings.maxn > 0 {
            let Memory { keys, rows, marked, long, .. } = &mut *memory;
            if let Entry::Word(row) = entry {
                rows.push(row);
            }
            let dictionary = &self.rows.dictionary;
            if dictionary.kept.is_none() {
                // Nothing to look up: the row is on its way while the next one is found.
                self.rows.runs_of_characters(word, marked, |_, key| {
                    if let Some(row) = dictionary.row(key) {
                        self.input.ask(row, dim);
                        rows.push(row);
                    }
                });
            } else {
                keys.clear();
                self.rows.runs_of_characters(word, marked, |_, key| keys.push(key));
                // Without a branch: what is kept follows no pattern.
                let mut kept = 0;
                for at in 0..keys.len() {
                    let key = keys[at];
                    keys[kept] = key;
                    kept += usize::from(dictionary.may_have(key));
                }
                rows.extend(keys[..kept].iter().filter_map(|&key| dictionary.row(key)));
                rows.iter().for_each(|&row| self.input.ask(row, dim));
            }
            known.rows = rows.len() as u32;
            long.clear();
            long.resize(dim, 0.0);
            rows.iter().for_each(|&row| self.input.add(row, long));
            rows.clear();
        }
        if !keep {
            return (known, None);
        }
        memory.slots[at] = memory.words.len() as u32;
        memory.words.push(known);
        memory.text.extend_from_slice(word);
        if self.rows.settings.maxn == 0 {
            return (known, Some(0));
        }
        memory.sums.extend_from_slice(&memory.long);
        (known, Some(memory.sums.len() - dim))
    }
}
