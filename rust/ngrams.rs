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

/// A text, 64 bits, for telling equal texts: not a feature.
pub fn fingerprint(text: &[u8]) -> u64 {
    finish(hash_token(text))
}

/// What is kept between texts so that none allocates.
#[derive(Default)]
pub struct Scratch {
    folded: String,
    word: Vec<u32>,
    recent: [u64; LONGEST],
    names: Vec<String>,
}

/// Where n-grams go.
pub trait Sink {
    /// One occurrence of an n-gram; `name` spells it, for those who want to know.
    fn ngram(&mut self, block: Block, hash: u64, name: impl FnOnce() -> String);
    /// Whether `name` will be called: spelling costs a copy of each token.
    const NAMES: bool = false;
}

/// Give `sink` each n-gram occurrence of `text`, in the order of the text.
pub fn ngrams<S: Sink>(text: &str, recipe: &Recipe, scratch: &mut Scratch, sink: &mut S) {
    let Scratch { folded, word, recent, names } = scratch;
    let mut count = 0;
    word.clear();
    names.clear();
    tokenize(text, recipe.rule, folded, |token| {
        if let Some(range) = recipe.words {
            recent[count % LONGEST] = hash_token(token.text.as_bytes());
            if S::NAMES {
                names.push(token.text.to_owned());
            }
            count += 1;
            word_ngrams(range, recent, count, names, sink);
        }
        if let Some(range) = recipe.chars {
            let Token { text, kind, joined } = token;
            let continues = joined && kind == Kind::Unspaced;
            if !continues {
                char_ngrams(range, word, sink);
                word.clear();
            }
            match kind {
                Kind::Unspaced => word.extend(text.chars().map(u32::from)),
                Kind::Word | Kind::Symbol => {
                    word.extend(text.chars().map(u32::from));
                    char_ngrams(range, word, sink);
                    word.clear();
                }
            }
        }
    });
    if let Some(range) = recipe.chars {
        char_ngrams(range, word, sink);
    }
}

/// The token n-grams that end at the newest of `count` tokens.
#[inline(always)]
fn word_ngrams<S: Sink>(
    (shortest, longest): (usize, usize),
    recent: &[u64; LONGEST],
    count: usize,
    names: &[String],
    sink: &mut S,
) {
    for n in shortest..=longest.min(count) {
        let mut h = PI[3] ^ n as u64;
        for back in (1..=n).rev() {
            h = fold(h ^ recent[(count - back) % LONGEST], PI[4]);
        }
        sink.ngram(Block::Words, finish(h), || names[count - n..].join(" "));
    }
}

/// The character n-grams of one word, both ends marked by a space.
#[inline(always)]
fn char_ngrams<S: Sink>((shortest, longest): (usize, usize), word: &mut Vec<u32>, sink: &mut S) {
    if word.is_empty() {
        return;
    }
    word.insert(0, 32);
    word.push(32);
    for begin in 0..word.len() {
        let mut h = PI[5];
        for (n, &c) in word[begin..].iter().take(longest).enumerate() {
            h = (h ^ u64::from(c)).wrapping_mul(PI[1]);
            // A lone end mark says nothing.
            if n + 1 >= shortest && !(n == 0 && c == 32) {
                let spell = || word[begin..=begin + n].iter().filter_map(|&c| char::from_u32(c)).collect();
                sink.ngram(Block::Chars, finish(h ^ (n as u64 + 1)), spell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(Vec<(Block, String)>);
    impl Sink for Names {
        const NAMES: bool = true;
        fn ngram(&mut self, block: Block, _: u64, name: impl FnOnce() -> String) {
            self.0.push((block, name()));
        }
    }

    fn names(text: &str, words: Option<(usize, usize)>, chars: Option<(usize, usize)>) -> Vec<String> {
        let mut sink = Names(Vec::new());
        let recipe = Recipe { rule: Rule::Unicode, words, chars };
        ngrams(text, &recipe, &mut Scratch::default(), &mut sink);
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
        let mut scratch = Scratch::default();
        ngrams("ab ba abab b a longerthaneight longerthaneighs", &recipe, &mut scratch, &mut sink);
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
