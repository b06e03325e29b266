//! UTF-8 → tokens.
//!
//! A text is cut at ASCII white space and control bytes into pieces; each
//! piece is brought to NFC, case-folded, and segmented by UAX #29. Letters,
//! numbers, punctuation and emoji are tokens; white space is not. A piece of
//! ASCII, most of most text, takes a short way to the same tokens, and a plain
//! word of up to 14 letters one that is shorter still, all of it at a time:
//! tests hold the ways against each other.

use std::borrow::Cow;

use caseless::Caseless;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use unicode_segmentation::UnicodeSegmentation;

/// Many texts in one buffer, as Arrow holds them.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    offsets: &'a [i64],
    data: &'a str,
}

/// Why buffers are not texts.
#[derive(Debug, PartialEq, Eq)]
pub enum BadTexts {
    /// Offsets are missing, fall, or point outside the data.
    Offsets,
    /// The text of this row is not UTF-8.
    Utf8(usize),
}

impl<'a> Texts<'a> {
    /// Check the buffers: each text is `data[offsets[row]..offsets[row + 1]]`.
    pub fn new(offsets: &'a [i64], data: &'a [u8]) -> Result<Self, BadTexts> {
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
            return Err(BadTexts::Offsets);
        };
        let rising = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if first < 0 || !rising || last as usize > data.len() {
            return Err(BadTexts::Offsets);
        }
        let bad_row = || {
            let row = |w: &[i64]| std::str::from_utf8(&data[w[0] as usize..w[1] as usize]).is_err();
            BadTexts::Utf8(offsets.windows(2).position(row).unwrap_or(0))
        };
        // Only what the rows span: a slice of a larger column has neighbours.
        match std::str::from_utf8(&data[first as usize..last as usize]) {
            Ok(text) if offsets.iter().all(|&at| text.is_char_boundary((at - first) as usize)) => {
                Ok(Self { offsets, data: text })
            }
            _ => Err(bad_row()),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long they are together.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Bytes of the longest.
    pub fn longest(&self) -> usize {
        self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or(0)
    }

    /// Where each begins; one more for the end of the last.
    pub fn offsets(&self) -> &'a [i64] {
        self.offsets
    }

    /// One text.
    pub fn row(&self, row: usize) -> &'a str {
        let place = |row: usize| (self.offsets[row] - self.offsets[0]) as usize;
        let (begin, end) = (place(row), place(row + 1));
        self.data.get(begin..end).unwrap_or_default()
    }
}

/// How text becomes tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// UAX #29 word segmentation.
    Unicode,
    /// White space only, for text that is already segmented.
    Whitespace,
}

/// What a token is made of, as far as n-grams care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Letters or digits of a script that puts spaces between words.
    Word,
    /// A character (or Katakana word) of a script written without spaces.
    Unspaced,
    /// Punctuation, an emoji, any other sign.
    Symbol,
}

/// One token: its folded text, its kind, and whether it touches the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    /// UTF-8, NFC, case-folded.
    pub bytes: &'a [u8],
    /// The bytes as one number, the first lowest, if there are fewer than 16; else 0. No token
    /// holds a byte 0, so equal keys are equal tokens.
    pub key: u128,
    /// What it is made of.
    pub kind: Kind,
    /// No white space between this token and the one before it.
    pub joined: bool,
}

impl<'a> Token<'a> {
    fn new(text: &'a str, kind: Kind, joined: bool) -> Self {
        let bytes = text.as_bytes();
        let key = if bytes.len() < 16 { sixteen(bytes) } else { 0 };
        Self { bytes, key, kind, joined }
    }

    /// A token of fewer than 16 bytes; `place` is where it is spelled.
    #[inline(always)]
    fn short(key: u128, length: u32, place: &'a mut [u8; 16], kind: Kind, joined: bool) -> Self {
        *place = key.to_le_bytes();
        Self { bytes: &place[..length as usize], key, kind, joined }
    }
}

/// The first 16 bytes as one number; zeros where there are fewer.
#[inline(always)]
fn sixteen(bytes: &[u8]) -> u128 {
    let mut padded = [0; 16];
    match bytes.first_chunk() {
        Some(all) => padded = *all,
        None => padded[..bytes.len()].copy_from_slice(bytes),
    }
    u128::from_le_bytes(padded)
}

/// How many ASCII letters and digits 16 bytes begin with, and the bytes in lower case.
#[inline(always)]
fn leading_word(window: u128) -> (u32, u128) {
    const ONES: u128 = u128::MAX / 255;
    // In the top bit of each byte: whether its low seven bits are at least `least`.
    let at_least = |bytes: u128, least: u8| bytes + ONES * u128::from(128 - least);
    let ascii = window & (ONES * 127);
    let lower = ascii | (ONES * 32);
    let letter = at_least(lower, b'a') & !at_least(lower, b'z' + 1) & !window & (ONES * 128);
    let digit = at_least(ascii, b'0') & !at_least(ascii, b'9' + 1) & !window & (ONES * 128);
    ((!(letter | digit) & (ONES * 128)).trailing_zeros() / 8, window | letter >> 2)
}

const SEPARATOR: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const UNDERSCORE: u8 = 3;
const OTHER: u8 = 4;
const HIGH: u8 = 5;

/// What each byte is; `HIGH` bytes belong to characters beyond ASCII.
const CLASS: [u8; 256] = {
    let mut class = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            0..=32 | 127 => SEPARATOR,
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'_' => UNDERSCORE,
            128..=255 => HIGH,
            _ => OTHER,
        };
        byte += 1;
    }
    class
};

/// Call `emit` with each token of `text`, in order. `folded` is a scratch that
/// may be reused from text to text.
pub fn tokenize(text: &str, rule: Rule, folded: &mut String, mut emit: impl FnMut(Token)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if CLASS[bytes[at] as usize] == SEPARATOR {
            at += 1;
            continue;
        }
        if rule == Rule::Unicode {
            // A word, a sign or both between separators.
            let (length, lower) = leading_word(sixteen(&bytes[at..]));
            if length < 15 {
                let after = |i: u32| CLASS[(lower >> (8 * i)) as u8 as usize];
                let sign = u32::from(after(length) == OTHER);
                if length + sign > 0 && after(length + sign) == SEPARATOR {
                    let mut place = [0; 16];
                    if length > 0 {
                        let word = lower & ((1 << (8 * length)) - 1);
                        emit(Token::short(word, length, &mut place, Kind::Word, false));
                    }
                    if sign > 0 {
                        let sign = u128::from((lower >> (8 * length)) as u8);
                        emit(Token::short(sign, 1, &mut place, Kind::Symbol, length > 0));
                    }
                    at += (length + sign) as usize + 1;
                    continue;
                }
            }
        }
        let begin = at;
        let mut seen = 0;
        while at < bytes.len() && CLASS[bytes[at] as usize] != SEPARATOR {
            seen |= bytes[at];
            at += 1;
        }
        // Separators are ASCII, so the cut is on a character boundary.
        let piece = &text[begin..at];
        folded.clear();
        if seen < 128 {
            folded.push_str(piece);
            folded.make_ascii_lowercase();
            match rule {
                Rule::Unicode => ascii_tokens(folded, &mut emit),
                Rule::Whitespace => emit(Token::new(folded, kind(folded), false)),
            }
        } else {
            fold(piece, folded);
            unicode_tokens(folded, rule, &mut emit);
        }
    }
}

/// UAX #29 on lower-case ASCII without white space.
fn ascii_tokens(piece: &str, emit: &mut impl FnMut(Token)) {
    let bytes = piece.as_bytes();
    let class = |at: usize| bytes.get(at).map_or(SEPARATOR, |&byte| CLASS[byte as usize]);
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        let mut kind = Kind::Symbol;
        loop {
            match class(at) {
                LETTER | DIGIT => kind = Kind::Word,
                UNDERSCORE => {}
                OTHER if at > begin => {
                    // A sign inside a word ("it's", "example.com") or a number ("3,000").
                    let (before, after) = (class(at - 1), class(at + 1));
                    let inside = match bytes[at] {
                        b'.' | b'\'' => before == after && (before == LETTER || before == DIGIT),
                        b':' => before == LETTER && after == LETTER,
                        b',' | b';' => before == DIGIT && after == DIGIT,
                        _ => false,
                    };
                    if !inside {
                        break;
                    }
                }
                _ => break,
            }
            at += 1;
        }
        if at == begin {
            at += 1;
        }
        emit(Token::new(&piece[begin..at], kind, begin > 0));
    }
}

/// UAX #29 (or one token) on a folded piece with characters beyond ASCII.
fn unicode_tokens(piece: &str, rule: Rule, emit: &mut impl FnMut(Token)) {
    let mut joined = false;
    let mut one = |word: &str| {
        if word.chars().all(blank) {
            joined = false;
        } else {
            emit(Token::new(word, kind(word), joined));
            joined = true;
        }
    };
    match rule {
        Rule::Unicode => {
            let (mut begin, mut before) = (0, false);
            for (at, c) in piece.char_indices() {
                let han = ideograph(c);
                if han && before {
                    part(&piece[begin..at], &mut one);
                    begin = at;
                }
                before = han;
            }
            part(&piece[begin..], &mut one);
        }
        Rule::Whitespace => piece.split(blank).filter(|word| !word.is_empty()).for_each(|word| {
            one(word);
            one(" ");
        }),
    }
}

/// UAX #29 on text without two Han characters next to each other.
fn part(text: &str, one: &mut impl FnMut(&str)) {
    if text.chars().all(ideograph) { one(text) } else { text.split_word_bounds().for_each(one) }
}

/// Append the piece, without invisible marks, in NFC, case-folded.
fn fold(piece: &str, folded: &mut String) {
    let visible: Cow<str> = if piece.contains(invisible) {
        piece.chars().filter(|&c| !invisible(c)).collect::<String>().into()
    } else {
        piece.into()
    };
    let composed: Cow<str> =
        if composed(&visible) { visible } else { visible.nfc().collect::<String>().into() };
    folded.extend(composed.chars().default_case_fold());
    // Folding may take a composed character apart ("ΐ"): compose once more.
    if !self::composed(folded) {
        *folded = folded.nfc().collect();
    }
}

/// Whether text is in NFC for certain.
fn composed(text: &str) -> bool {
    text.chars().all(inert) || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// Characters that NFC leaves alone next to each other: of most text that is not ASCII, all.
fn inert(c: char) -> bool {
    matches!(c, '\0'..='\u{2FF}' | '\u{400}'..='\u{482}' | '\u{48A}'..='\u{52F}'
        | '\u{2010}'..='\u{2027}' | '\u{3000}'..='\u{3029}' | '\u{3041}'..='\u{3096}'
        | '\u{30A1}'..='\u{30FF}' | '\u{AC00}'..='\u{D7A3}' | '\u{FF01}'..='\u{FF9D}')
        || ideograph(c)
}

/// Han characters of the two large blocks: between two of them is always a boundary.
fn ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}')
}

/// Marks nobody sees: soft hyphen, direction marks, byte order mark, word
/// joiner, variation selectors. The zero-width joiner stays: it makes emoji and
/// spells Persian and Indic words.
fn invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

fn blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '\u{200B}'
}

fn kind(word: &str) -> Kind {
    let mut chars = word.chars();
    if chars.next().is_some_and(unspaced) {
        Kind::Unspaced
    } else if word.chars().any(char::is_alphanumeric) {
        Kind::Word
    } else {
        Kind::Symbol
    }
}

/// Scripts written without spaces between words: Thai, Lao, Myanmar, Khmer and
/// their neighbours, kana, Han.
fn unspaced(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{1950}'..='\u{19DF}' | '\u{1A20}'..='\u{1AAF}' | '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}' | '\u{A9E0}'..='\u{A9FF}' | '\u{AA60}'..='\u{AA7F}'
        | '\u{F900}'..='\u{FAFF}' | '\u{FF66}'..='\u{FF9F}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(token: Token) -> (String, Kind, bool) {
        let text = String::from_utf8(token.bytes.to_vec()).unwrap();
        let key = if text.len() < 16 { sixteen(text.as_bytes()) } else { 0 };
        assert_eq!(token.key, key);
        (text, token.kind, token.joined)
    }

    fn tokens(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        tokenize(text, Rule::Unicode, &mut String::new(), |t| out.push(owned(t).0));
        out
    }

    #[test]
    fn texts_check_their_buffers() {
        let data = "aé".as_bytes();
        let texts = Texts::new(&[0, 1, 1, 3], data).unwrap();
        assert_eq!((0..texts.len()).map(|r| texts.row(r)).collect::<Vec<_>>(), ["a", "", "é"]);
        assert_eq!(Texts::new(&[1, 3], data).unwrap().row(0), "é");
        assert_eq!(Texts::new(&[0, 1, 2, 3], data).err(), Some(BadTexts::Utf8(1)));
        assert_eq!(Texts::new(&[0, 1, 2], b"a\xff").err(), Some(BadTexts::Utf8(1)));
        for bad in [&[][..], &[0, 4], &[2, 1], &[-1, 1]] {
            assert_eq!(Texts::new(bad, data).err(), Some(BadTexts::Offsets));
        }
    }

    #[test]
    fn words_numbers_and_signs() {
        let text = "The new smartphone has AMAZING features.";
        assert_eq!(tokens(text), ["the", "new", "smartphone", "has", "amazing", "features", "."]);
        assert_eq!(tokens("It's 3,000.50 (or 3.)"), ["it's", "3,000.50", "(", "or", "3", ".", ")"]);
        assert_eq!(
            tokens("see http://a.example.com/x?y=1"),
            ["see", "http", ":", "/", "/", "a.example.com", "/", "x", "?", "y", "=", "1"]
        );
        assert_eq!(tokens("snake_case a:b 1:2 x'"), ["snake_case", "a:b", "1", ":", "2", "x", "'"]);
        assert!(tokens(" \0\t\n\u{a0}\u{3000}").is_empty());
    }

    #[test]
    fn scripts_emoji_and_marks() {
        assert_eq!(tokens("Straße CAFÉ"), ["strasse", "café"]);
        assert_eq!(tokens("cafe\u{301}"), tokens("caf\u{e9}"));
        assert_eq!(tokens("新手机"), ["新", "手", "机"]);
        assert_eq!(tokens("👩‍🚀❤\u{FE0F}!"), ["👩‍🚀", "❤", "!"]);
        assert_eq!(tokens("\u{FEFF}שלום\u{200F} עולם"), ["שלום", "עולם"]);
        assert_eq!(tokens("co\u{AD}operate"), ["cooperate"]);
        // Kelvin sign and Greek question mark are K and ; under NFC.
        assert_eq!(tokens("\u{212A}\u{37E}"), tokens("K;"));
    }

    #[test]
    fn whitespace_rule_keeps_pieces_whole() {
        let mut out = Vec::new();
        let mut keep = |t: Token| out.push((owned(t).0, t.joined));
        tokenize("Don't_stop, now!\u{a0}É", Rule::Whitespace, &mut String::new(), &mut keep);
        let text: Vec<_> = out.iter().map(|(t, _)| t.as_str()).collect();
        assert_eq!(text, ["don't_stop,", "now!", "é"]);
        assert!(out.iter().all(|(_, joined)| !joined));
    }

    #[test]
    fn ascii_way_agrees_with_the_unicode_way() {
        let alphabet = b"ab1_.':,;-/@\"(!$";
        let mut state = 1u64;
        for _ in 0..200_000 {
            let mut piece = String::new();
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut bits = state >> 20;
            for _ in 0..(1 + state % 9) {
                piece.push(alphabet[(bits % 16) as usize] as char);
                bits /= 16;
            }
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            ascii_tokens(&piece, &mut |t| fast.push(owned(t)));
            unicode_tokens(&piece, Rule::Unicode, &mut |t| slow.push(owned(t)));
            assert_eq!(fast, slow, "{piece:?}");
        }
    }

    #[test]
    fn han_characters_stand_alone_as_word_bounds_have_it() {
        // With what may join: marks, joiners, kana, Hangul, digits, signs, emoji, flags, letters.
        let alphabet = [
            '新',
            '手',
            '机',
            '㐀',
            '々',
            '〇',
            'カ',
            'ー',
            'か',
            '한',
            'ㄱ',
            '1',
            '.',
            '\'',
            '_',
            'a',
            'é',
            'ש',
            '\u{301}',
            '\u{3099}',
            '\u{200D}',
            '\u{FE0F}',
            '\u{AD}',
            '👩',
            '🇩',
            '，',
            '、',
            '\u{3000}',
            ' ',
            '\r',
            '\n',
            '\u{1F3FB}',
        ];
        let mut state = 5u64;
        for _ in 0..200_000 {
            let mut piece = String::new();
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut bits = state >> 10;
            for _ in 0..(1 + state % 9) {
                piece.push(alphabet[(bits % 32) as usize]);
                // Every second one is Han.
                piece.push_str(["", "新", "手", ""][(bits % 4) as usize]);
                bits /= 32;
            }
            let (mut fast, mut slow, mut joined) = (Vec::new(), Vec::new(), false);
            unicode_tokens(&piece, Rule::Unicode, &mut |t| fast.push(owned(t)));
            for word in piece.split_word_bounds() {
                let white = word.chars().all(blank);
                if !white {
                    slow.push((word.to_string(), kind(word), joined));
                }
                joined = !white;
            }
            assert_eq!(fast, slow, "{piece:?}");
        }
    }

    #[test]
    fn what_is_inert_is_left_alone_by_nfc() {
        use unicode_normalization::char::canonical_combining_class;
        let all: Vec<char> = ('\0'..=char::MAX).filter(|&c| inert(c)).collect();
        assert!(all.len() > 40_000);
        for &c in &all {
            assert_eq!(canonical_combining_class(c), 0, "{c:?}");
            assert_eq!(is_nfc_quick(std::iter::once(c)), IsNormalized::Yes, "{c:?}");
        }
        // And next to each other, where a character could join with the one after.
        let text: String = all.iter().collect();
        assert!(text.chars().eq(text.nfc()));
    }

    #[test]
    fn the_shortest_way_agrees_with_the_ascii_way() {
        // Every byte before and after every other, at every place of a window.
        let all: String = (1..=127u8).map(char::from).collect();
        let long = "ABCdefghijklmnopqrs".repeat(2);
        for length in 0..20 {
            for end in ["", ".", ". b", "'s b", ",5 b", "\u{e9} b", "_ b", "() b", ": b"] {
                let text = format!("{}{end}", &long[..length]);
                let mut slow = Vec::new();
                for piece in text.split(' ') {
                    let mut folded = String::new();
                    fold(piece, &mut folded);
                    unicode_tokens(&folded, Rule::Unicode, &mut |t| slow.push(owned(t)));
                }
                let mut fast = Vec::new();
                tokenize(&text, Rule::Unicode, &mut String::new(), |t| fast.push(owned(t)));
                assert_eq!(fast, slow, "{text:?}");
            }
        }
        for first in all.chars() {
            for second in all.chars() {
                let text = format!("{first}{second} ");
                let (length, lower) = leading_word(sixteen(text.as_bytes()));
                let plain = text.chars().take_while(char::is_ascii_alphanumeric).count();
                assert_eq!(length as usize, plain, "{text:?}");
                let expected = text[..plain].to_lowercase();
                assert_eq!(lower.to_le_bytes()[..plain], *expected.as_bytes());
            }
        }
    }
}
