//! A text as fastText reads it: words between white space, and the rows of the input matrix that
//! words, runs of their characters and runs of words stand for.

use super::dictionary::Dictionary;
use super::format::Settings;

/// The end of a line, which is a word of every text.
pub const END: &[u8] = b"</s>";
/// What a label begins with.
const LABEL: &[u8] = b"__label__";
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

    /// Each word of a text and its hash; the last one is the end of the line.
    #[inline(always)]
    pub fn words<'t>(&self, text: &'t str) -> Words<'t> {
        Words { bytes: text.as_bytes(), at: 0, strict: self.strict, ended: false }
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

    /// The keys of the runs of words that end with a word, and the hashes of those that may go on.
    #[inline(always)]
    pub fn runs_that_end(&self, hash: u32, open: &mut Vec<u64>, keys: &mut Vec<u32>) {
        let longest = self.settings.word_ngrams;
        if longest < 2 || self.settings.bucket == 0 {
            return;
        }
        for h in open.iter_mut() {
            *h = run_on(*h, hash);
            keys.push((*h % self.settings.bucket as u64) as u32);
        }
        if open.len() + 1 == longest {
            open.remove(0);
        }
        open.push(signed(hash));
    }

    /// Call `emit` with where each run of words is, given the hashes of all words, and its key in the bucket.
    #[inline(always)]
    pub fn runs_of_words(&self, hashes: &[u32], mut emit: impl FnMut(std::ops::Range<usize>, u32)) {
        let longest = self.settings.word_ngrams;
        if longest < 2 || self.settings.bucket == 0 {
            return;
        }
        for begin in 0..hashes.len() {
            let mut h = signed(hashes[begin]);
            for end in begin + 1..hashes.len().min(begin + longest) {
                h = run_on(h, hashes[end]);
                emit(begin..end + 1, (h % self.settings.bucket as u64) as u32);
            }
        }
    }
}

/// A hash as the number fastText makes of it.
#[inline(always)]
fn signed(hash: u32) -> u64 {
    hash as i32 as u64
}

/// The hash of a run of words and one more.
#[inline(always)]
fn run_on(run: u64, hash: u32) -> u64 {
    run.wrapping_mul(116_049_371).wrapping_add(signed(hash))
}

/// See `Rows::words`. An iterator, as a closure that is called in two places would be compiled for no
/// level of the processor.
pub struct Words<'t> {
    bytes: &'t [u8],
    at: usize,
    strict: bool,
    ended: bool,
}

impl<'t> Iterator for Words<'t> {
    type Item = (&'t [u8], u32);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.bytes;
        while self.at < bytes.len() {
            if is_space(bytes[self.at]) {
                if self.strict && bytes[self.at] == b'\n' {
                    break;
                }
                self.at += 1;
                continue;
            }
            let begin = self.at;
            let mut h = FNV;
            while self.at < bytes.len() && !is_space(bytes[self.at]) {
                h = step(h, bytes[self.at]);
                self.at += 1;
            }
            let word = &bytes[begin..self.at];
            if word != END {
                return Some((word, h));
            } else if self.strict {
                break;
            }
        }
        self.at = bytes.len();
        (!std::mem::replace(&mut self.ended, true)).then(|| (END, hash(END)))
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
    fn runs_by_their_ends_are_runs_by_their_beginnings() {
        for word_ngrams in 1..6 {
            let settings = Settings { dim: 1, word_ngrams, bucket: 1000, minn: 1, maxn: 0 };
            let dictionary =
                Dictionary { text: b"", offsets: &[0], slots: &[u32::MAX; 2], words: 0, kept: None };
            let rows = Rows::new(settings, dictionary, false);
            let hashes: Vec<u32> = rows.words("a few words and a few more").map(|(_, hash)| hash).collect();
            let (mut begun, mut ended, mut open) = (Vec::new(), Vec::new(), Vec::new());
            rows.runs_of_words(&hashes, |_, key| begun.push(key));
            hashes.iter().for_each(|&hash| rows.runs_that_end(hash, &mut open, &mut ended));
            begun.sort_unstable();
            ended.sort_unstable();
            assert_eq!(begun, ended);
            assert_eq!(begun.is_empty(), word_ngrams == 1);
        }
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
}
