//! Tokens → 64-bit n-gram hashes (frozen: `features_version` 1).
//!
//! Two blocks of features. *Words*: runs of 1..n tokens. *Chars*: runs of
//! characters inside a word, its two ends marked by a space; a run of a script
//! written without spaces counts as one word. Block and length are mixed into
//! each hash. `tests/test_features.py` pins hashes of known texts.

use crate::text::{Kind, Rule, Token, tokenize};

/// Which n-grams a text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// How text is cut into tokens.
    pub rule: Rule,
    /// Shortest and longest word n-gram, if there are any.
    pub words: Option<(usize, usize)>,
    /// Shortest and longest character n-gram, if there are any.
    pub chars: Option<(usize, usize)>,
}

impl Recipe {
    /// The recipe of one block alone.
    pub fn only(self, block: Block) -> Self {
        match block {
            Block::Words => Self { chars: None, ..self },
            Block::Chars => Self { words: None, ..self },
        }
    }

    /// The recipe that makes the n-grams of both, if one can.
    pub fn and(self, other: Self) -> Option<Self> {
        let fit = |a: Option<_>, b: Option<_>| a == b || a.is_none() || b.is_none();
        let both = self.rule == other.rule && fit(self.words, other.words) && fit(self.chars, other.chars);
        both.then(|| Self { words: self.words.or(other.words), chars: self.chars.or(other.chars), ..self })
    }
}

/// Longest n-gram of either block.
pub const LONGEST: usize = 8;

/// The feature blocks, in the order their weight rows stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Token n-grams.
    Words,
    /// Character n-grams.
    Chars,
}

// Digits of π after the point, in hexadecimal: nothing up the sleeve.
const PI: [u64; 6] = [
    0x243F_6A88_85A3_08D3,
    0x1319_8A2E_0370_7345,
    0xA409_3822_299F_31D1,
    0x082E_FA98_EC4E_6C89,
    0x4528_21E6_38D0_1377,
    0xBE54_66CF_34E9_0C6D,
];

/// The two halves of a 128-bit product, folded: one multiplication that mixes well.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Every input bit reaches every output bit (the finaliser of splitmix64).
#[inline(always)]
fn finish(mut h: u64) -> u64 {
    h = (h ^ (h >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    h ^ (h >> 31)
}

#[inline(always)]
fn hash_token(bytes: &[u8]) -> u64 {
    let mut h = PI[0] ^ (bytes.len() as u64).wrapping_mul(PI[1]);
    let mut rest = bytes;
    while let Some((eight, tail)) = rest.split_first_chunk::<8>() {
        h = fold(h ^ u64::from_le_bytes(*eight), PI[2]);
        rest = tail;
    }
    let mut last = 0;
    for &byte in rest.iter().rev() {
        last = last << 8 | u64::from(byte);
    }
    fold(h ^ last, PI[2])
}

/// [`hash_token`] of fewer than 16 bytes, as one number.
#[inline(always)]
fn hash_key(key: u128, length: usize) -> u64 {
    let h = fold(PI[0] ^ (length as u64).wrapping_mul(PI[1]) ^ key as u64, PI[2]);
    if length < 8 { h } else { fold(h ^ (key >> 64) as u64, PI[2]) }
}

/// The hash of a token, of which those of its runs are made.
#[inline(always)]
pub fn hash_of(token: &Token) -> u64 {
    if token.key != 0 { hash_key(token.key, token.bytes.len()) } else { hash_token(token.bytes) }
}

/// A text, 64 bits, for telling equal texts: not a feature.
pub fn fingerprint(text: &[u8]) -> u64 {
    finish(hash_token(text))
}

/// Where n-grams go.
pub trait Sink {
    /// One occurrence of an n-gram; `name` spells it.
    fn ngram(&mut self, block: Block, hash: u64, name: impl FnOnce() -> String);
}

/// Give `sink` each n-gram occurrence of `text`, in the order of the text, with its name.
///
/// `reader.rs` does the same without names, quicker; a test holds the two against each other.
pub fn ngrams(text: &str, recipe: &Recipe, sink: &mut impl Sink) {
    let (mut names, mut recent, mut word) = (Vec::new(), Recent::default(), Vec::new());
    let mut folded = String::new();
    tokenize(text, recipe.rule, &mut folded, |token| {
        let text = String::from_utf8_lossy(token.bytes);
        if !(token.joined && token.kind == Kind::Unspaced) {
            end_word(&mut word, recipe, sink);
        }
        if let Some(range) = recipe.words {
            names.push(text.to_string());
            recent.push(hash_of(&token));
            recent.ngrams(range, |hash, n| {
                sink.ngram(Block::Words, hash, || names[names.len() - n..].join(" "));
            });
        }
        word.extend(text.chars().map(u32::from));
        if token.kind != Kind::Unspaced {
            end_word(&mut word, recipe, sink);
        }
    });
    end_word(&mut word, recipe, sink);
}

fn end_word(word: &mut Vec<u32>, recipe: &Recipe, sink: &mut impl Sink) {
    if let Some(range) = recipe.chars {
        char_ngrams(range, mark(word), |hash, run| {
            sink.ngram(Block::Chars, hash, || run.iter().filter_map(|&c| char::from_u32(c)).collect());
        });
    }
    word.clear();
}

/// The hashes of the tokens last read.
#[derive(Default)]
pub struct Recent {
    hashes: [u64; LONGEST],
    count: usize,
}

impl Recent {
    /// One more token.
    #[inline(always)]
    pub fn push(&mut self, hash: u64) {
        self.hashes[self.count % LONGEST] = hash;
        self.count += 1;
    }

    /// The token n-grams that end at the newest: hash and length.
    #[inline(always)]
    pub fn ngrams(&self, (shortest, longest): (usize, usize), mut emit: impl FnMut(u64, usize)) {
        for n in shortest..=longest.min(self.count) {
            let mut h = PI[3] ^ n as u64;
            for back in (1..=n).rev() {
                h = fold(h ^ self.hashes[(self.count - back) % LONGEST], PI[4]);
            }
            emit(finish(h), n);
        }
    }
}

/// Mark both ends of a word by a space; nothing stays nothing.
pub fn mark(word: &mut Vec<u32>) -> &[u32] {
    if !word.is_empty() {
        word.insert(0, 32);
        word.push(32);
    }
    word
}

/// The character n-grams of one word whose ends are marked: hash and characters.
#[inline(always)]
pub fn char_ngrams((shortest, longest): (usize, usize), marked: &[u32], mut emit: impl FnMut(u64, &[u32])) {
    for begin in 0..marked.len() {
        let rest = &marked[begin..];
        let mut h = PI[5];
        for (n, &c) in rest.iter().take(longest).enumerate() {
            h = (h ^ u64::from(c)).wrapping_mul(PI[1]);
            // A lone end mark says nothing.
            if n + 1 >= shortest && !(n == 0 && c == 32) {
                emit(finish(h ^ (n as u64 + 1)), &rest[..=n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(Vec<(Block, String)>);
    impl Sink for Names {
        fn ngram(&mut self, block: Block, _: u64, name: impl FnOnce() -> String) {
            self.0.push((block, name()));
        }
    }

    fn names(text: &str, words: Option<(usize, usize)>, chars: Option<(usize, usize)>) -> Vec<String> {
        let mut sink = Names(Vec::new());
        let recipe = Recipe { rule: Rule::Unicode, words, chars };
        ngrams(text, &recipe, &mut sink);
        sink.0.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn word_runs_end_at_each_token() {
        assert_eq!(names("A b, c", Some((1, 2)), None), ["a", "b", "a b", ",", "b ,", "c", ", c"]);
        assert_eq!(names("a b c", Some((3, 3)), None), ["a b c"]);
        assert!(names("", Some((1, 2)), Some((2, 5))).is_empty());
    }

    #[test]
    fn character_runs_stay_inside_words() {
        assert_eq!(names("ab c", None, Some((2, 3))), [" a", " ab", "ab", "ab ", "b ", " c", " c ", "c "]);
        // Without spaces between words the run is the word.
        assert_eq!(
            names("新手 机", None, Some((1, 2))),
            [" 新", "新", "新手", "手", "手 ", " 机", "机", "机 "]
        );
    }

    #[test]
    fn hashes_tell_block_length_and_order_apart() {
        struct Hashes(Vec<u64>);
        impl Sink for Hashes {
            fn ngram(&mut self, _: Block, hash: u64, _: impl FnOnce() -> String) {
                self.0.push(hash);
            }
        }
        let mut sink = Hashes(Vec::new());
        let recipe = Recipe { rule: Rule::Unicode, words: Some((1, 3)), chars: Some((1, 5)) };
        ngrams("ab ba abab b a longerthaneight longerthaneighs", &recipe, &mut sink);
        let mut distinct = sink.0.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let all = names("ab ba abab b a longerthaneight longerthaneighs", Some((1, 3)), Some((1, 5)));
        assert_eq!(all.len(), sink.0.len());
        let mut spelled: Vec<_> = all.iter().enumerate().map(|(i, n)| (sink.0[i], n)).collect();
        spelled.sort();
        spelled.dedup();
        // "a" as a word and "a" as a character share a name, not a hash.
        assert_eq!(spelled.len(), distinct.len());
    }
}
