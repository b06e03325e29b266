//! Texts to the hidden layer: the mean of the rows of each.
//!
//! What is looked up, in the dictionary or among the words met, is looked up for many words side by side,
//! so that the memory answers while the next word is read; and rows are asked for well before they are
//! added.

use super::input::{Input, add_up};
use super::met::Met;
use super::text::{END, Entry, Rows};
use crate::text::Texts;
use std::ops::Range;

/// What is known of a text beside its hidden layer: words in the dictionary, words that are not, rows.
pub const AMOUNTS: usize = 3;

/// Words that are looked up side by side, and the floats of their sums: a layer can be of any size.
const STEP: usize = 512;
const STEP_SUMS: usize = 1 << 18;
/// Rows that are asked for before they are added: few enough to stay in a cache.
const ASKED: usize = 64;

/// A word of a text, which is told by its number.
#[derive(Clone, Copy)]
struct Token<'t> {
    word: &'t [u8],
    hash: u32,
    text: u32,
}

#[derive(Clone, Copy, Default)]
struct Amounts {
    known: u32,
    unknown: u32,
    rows: u64,
}

/// Rows on their way, and up to where each sum has its own.
#[derive(Default)]
struct Pending {
    rows: Vec<u32>,
    sums: Vec<(usize, usize)>,
}

impl Pending {
    /// A row is on its way to a sum.
    #[inline(always)]
    fn push(&mut self, input: &Input, dim: usize, row: u32, sum: usize, sums: &mut [f32]) {
        input.ask(row, dim);
        self.rows.push(row);
        match self.sums.last_mut() {
            Some(last) if last.0 == sum => last.1 = self.rows.len(),
            _ => self.sums.push((sum, self.rows.len())),
        }
        if self.rows.len() == ASKED {
            self.add(input, dim, sums);
        }
    }

    /// Add all rows to their sums.
    #[inline(always)]
    fn add(&mut self, input: &Input, dim: usize, sums: &mut [f32]) {
        let mut begin = 0;
        for &(sum, end) in &self.sums {
            input.add(&self.rows[begin..end], &mut sums[sum * dim..][..dim]);
            begin = end;
        }
        self.rows.clear();
        self.sums.clear();
    }
}

/// What a thread has at hand from text to text.
pub struct Memory<'t> {
    met: Met<'t>,
    tokens: Vec<Token<'t>>,
    /// Of each token, its number among the words met.
    ids: Vec<u32>,
    /// Of the texts at hand.
    amounts: Vec<Amounts>,
    /// Rows of words, and of runs of words.
    pending: Pending,
    runs: Pending,
    /// The sums of runs of words of the texts at hand.
    run_sums: Vec<f32>,
    /// Hashes of the runs that may go on.
    open: Vec<u64>,
    /// Scratch: a word between its marks, keys of n-grams.
    marked: Vec<u8>,
    keys: Vec<u32>,
}

impl Memory<'_> {
    /// For so many bytes of text.
    pub fn new(bytes: usize) -> Self {
        Self {
            met: Met::new(bytes),
            tokens: Vec::new(),
            ids: Vec::new(),
            amounts: Vec::new(),
            pending: Pending::default(),
            runs: Pending::default(),
            run_sums: Vec::new(),
            open: Vec::new(),
            marked: Vec::new(),
            keys: Vec::new(),
        }
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
    pub fn all<'t>(
        &self,
        texts: &Texts<'t>,
        rows: Range<usize>,
        memory: &mut Memory<'t>,
        out: &mut [f32],
        amounts: &mut [f32],
    ) {
        let dim = self.rows.settings.dim;
        out.fill(0.0);
        memory.amounts.clear();
        memory.amounts.resize(rows.len(), Amounts::default());
        if self.rows.strict {
            for (text, row) in rows.enumerate() {
                self.row_by_row(texts.row(row), text, memory, out);
            }
        } else {
            self.side_by_side(texts, rows, memory, out);
        }
        let amounts = amounts.as_chunks_mut::<AMOUNTS>().0;
        for ((out, to), own) in out.chunks_exact_mut(dim).zip(amounts).zip(&memory.amounts) {
            if own.rows > 0 {
                // As fastText divides: by a factor in single precision.
                let share = (1.0 / own.rows as f64) as f32;
                out.iter_mut().for_each(|out| *out *= share);
            }
            *to = [own.known as f32, own.unknown as f32, own.rows as f32];
        }
    }

    /// Add the rows of a text in fastText's order: a table of the sigmoid shows the last bit.
    #[inline(always)]
    fn row_by_row(&self, text: &str, at: usize, memory: &mut Memory, out: &mut [f32]) {
        let (dim, dictionary) = (self.rows.settings.dim, &self.rows.dictionary);
        let Memory { amounts, pending, marked, keys, .. } = memory;
        let own = &mut amounts[at];
        let mut hashes = Vec::new();
        for (word, hash) in self.rows.words(text) {
            let entry = self.rows.entry(word, hash);
            if entry == Entry::Label {
                continue;
            }
            own.count(word, entry);
            hashes.push(hash);
            keys.clear();
            self.rows.runs_of_characters(word, marked, |_, key| keys.push(key));
            let word = if let Entry::Word(row) = entry { Some(row) } else { None };
            for row in word.into_iter().chain(keys.iter().filter_map(|&key| dictionary.row(key))) {
                own.rows += 1;
                pending.push(&self.input, dim, row, at, out);
            }
        }
        self.rows.runs_of_words(&hashes, |_, key| {
            if let Some(row) = dictionary.row(key) {
                own.rows += 1;
                pending.push(&self.input, dim, row, at, out);
            }
        });
        pending.add(&self.input, dim, out);
    }

    /// Add the rows of all texts, and remember the sums of words of several rows.
    #[inline(always)]
    fn side_by_side<'t>(
        &self,
        texts: &Texts<'t>,
        rows: Range<usize>,
        memory: &mut Memory<'t>,
        out: &mut [f32],
    ) {
        let dim = self.rows.settings.dim;
        let step = (STEP_SUMS / dim).clamp(1, STEP);
        let runs = self.rows.settings.word_ngrams > 1;
        if runs {
            memory.run_sums.clear();
            memory.run_sums.resize(out.len(), 0.0);
        }
        for (text, row) in rows.enumerate() {
            memory.open.clear();
            for (word, hash) in self.rows.words(texts.row(row)) {
                if self.rows.settings.maxn > 0 {
                    memory.met.ask(hash);
                } else {
                    self.rows.dictionary.ask(hash);
                }
                if runs {
                    self.end_runs(hash, text, memory);
                }
                memory.tokens.push(Token { word, hash, text: text as u32 });
                if memory.tokens.len() == step {
                    self.step(memory, out);
                }
            }
        }
        self.step(memory, out);
        memory.pending.add(&self.input, dim, out);
        if runs {
            memory.runs.add(&self.input, dim, &mut memory.run_sums);
            out.iter_mut().zip(&memory.run_sums).for_each(|(out, sum)| *out += sum);
        }
    }

    /// The rows of the runs of words that end with a word are on their way.
    #[inline(always)]
    fn end_runs(&self, hash: u32, text: usize, memory: &mut Memory) {
        let Memory { amounts, runs, run_sums, open, keys, .. } = memory;
        keys.clear();
        self.rows.runs_that_end(hash, open, keys);
        for row in keys.iter().filter_map(|&key| self.rows.dictionary.row(key)) {
            amounts[text].rows += 1;
            runs.push(&self.input, self.rows.settings.dim, row, text, run_sums);
        }
    }

    /// Add what the tokens at hand stand for to the sums of their texts.
    #[inline(always)]
    fn step<'t>(&self, memory: &mut Memory<'t>, out: &mut [f32]) {
        let tokens = std::mem::take(&mut memory.tokens);
        if self.rows.settings.maxn > 0 {
            self.meet(&tokens, memory);
            self.add_sums(&tokens, memory, out);
        } else {
            self.add_words(&tokens, memory, out);
        }
        memory.tokens = tokens;
        memory.tokens.clear();
    }

    /// Add the row of each word that has one.
    #[inline(always)]
    fn add_words(&self, tokens: &[Token], memory: &mut Memory, out: &mut [f32]) {
        let (dim, dictionary) = (self.rows.settings.dim, &self.rows.dictionary);
        tokens.iter().for_each(|token| dictionary.ask_offset(token.hash));
        tokens.iter().for_each(|token| dictionary.ask_text(token.hash));
        for token in tokens {
            let (text, entry) = (token.text as usize, self.rows.entry(token.word, token.hash));
            memory.amounts[text].count(token.word, entry);
            if let Entry::Word(row) = entry {
                memory.amounts[text].rows += 1;
                memory.pending.push(&self.input, dim, row, text, out);
            }
        }
    }

    /// Find the tokens among the words met, and the sums of those that are new.
    #[inline(always)]
    fn meet<'t>(&self, tokens: &[Token<'t>], memory: &mut Memory<'t>) {
        let (dim, dictionary) = (self.rows.settings.dim, &self.rows.dictionary);
        let Memory { met, ids, .. } = &mut *memory;
        met.make_room(tokens.len());
        tokens.iter().for_each(|token| met.ask_word(token.hash));
        let first = met.words.len();
        ids.clear();
        for token in tokens {
            ids.push(met.find_or_add(token.word, token.hash));
        }
        let new = &met.words[first..];
        new.iter().for_each(|new| dictionary.ask(new.hash));
        new.iter().for_each(|new| dictionary.ask_offset(new.hash));
        new.iter().for_each(|new| dictionary.ask_text(new.hash));
        met.sums.resize(met.words.len() * dim, 0.0);
        for id in first..memory.met.words.len() {
            self.learn(id, memory);
        }
        memory.pending.add(&self.input, dim, &mut memory.met.sums);
    }

    /// Look a word up; the rows of its sum are on their way.
    #[inline(always)]
    fn learn(&self, id: usize, memory: &mut Memory) {
        let (dim, dictionary) = (self.rows.settings.dim, &self.rows.dictionary);
        let Memory { met, pending, marked, keys, .. } = memory;
        let known = &mut met.words[id];
        known.entry = self.rows.entry(known.word, known.hash);
        let begin = pending.rows.len();
        if let Entry::Word(row) = known.entry {
            pending.rows.push(row);
        }
        keys.clear();
        self.rows.runs_of_characters(known.word, marked, |_, key| keys.push(key));
        if dictionary.kept.is_some() {
            // Without a branch: what is kept follows no pattern.
            let mut kept = 0;
            for at in 0..keys.len() {
                let key = keys[at];
                keys[kept] = key;
                kept += usize::from(dictionary.may_have(key));
            }
            keys.truncate(kept);
        }
        pending.rows.extend(keys.iter().filter_map(|&key| dictionary.row(key)));
        pending.rows[begin..].iter().for_each(|&row| self.input.ask(row, dim));
        known.rows = (pending.rows.len() - begin) as u32;
        pending.sums.push((id, pending.rows.len()));
        if pending.rows.len() >= ASKED {
            pending.add(&self.input, dim, &mut met.sums);
        }
    }

    /// Add the sums of the words met to those of the texts.
    #[inline(always)]
    fn add_sums(&self, tokens: &[Token], memory: &mut Memory, out: &mut [f32]) {
        let dim = self.rows.settings.dim;
        let mut begin = 0;
        for tokens in tokens.chunk_by(|a, b| a.text == b.text) {
            let ids = &memory.ids[begin..begin + tokens.len()];
            begin += tokens.len();
            let text = tokens[0].text as usize;
            add_up(&memory.met.sums[..], ids, &mut out[text * dim..][..dim]);
            let own = &mut memory.amounts[text];
            for &id in ids {
                let known = memory.met.words[id as usize];
                own.rows += u64::from(known.rows);
                own.count(known.word, known.entry);
            }
        }
    }
}

impl Amounts {
    /// Count a word, but not the end of the line.
    #[inline(always)]
    fn count(&mut self, word: &[u8], entry: Entry) {
        if word != END {
            *if entry == Entry::Unknown { &mut self.unknown } else { &mut self.known } += 1;
        }
    }
}
