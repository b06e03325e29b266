//! Where the records of a delimited text end.
//!
//! A table that does not fit in memory is parsed in pieces, and a piece must end
//! where a record does. Only a state machine knows where that is, because a
//! quoted field may hold line ends.

use memchr::{memchr, memchr2_iter};

const QUOTE: u8 = b'"';

/// Finds the end of the last complete record, and counts the records up to it.
///
/// `bytes` starts at the start of a record. A quote opens a quoted field only at
/// the start of a field, two quotes inside one are a quote, and whatever follows
/// the closing quote is plain. A record ends at LF, CR or CRLF; empty lines are
/// skipped and not counted. A CR in the last place does not end a record yet,
/// since its LF may be still to come. These are the rules of Arrow's CSV parser.
///
/// With `quoted` false a quote is a byte like any other.
///
/// ```
/// use _core::records::complete_records;
///
/// assert_eq!(complete_records(b"a,b\n\"c\nd\",e\nf", b',', true), (12, 2));
/// assert_eq!(complete_records(b"a,b\n\"c\nd\",e\nf", b',', false), (12, 3));
/// ```
pub fn complete_records(bytes: &[u8], delimiter: u8, quoted: bool) -> (usize, usize) {
    let mut end = 0; // where the current record starts
    let mut records = 0;
    let mut at = 0; // everything before is read, and `at` is outside quotes
    while at < bytes.len() {
        // Up to the next opening quote every CR and LF ends a line. Hopping from
        // quote to quote leaves the delimiters unread.
        let plain = if quoted { opening_quote(bytes, at, delimiter) } else { bytes.len() };
        for found in memchr2_iter(b'\r', b'\n', &bytes[at..plain]) {
            let line_end = at + found;
            if line_end < end {
                continue; // the LF of a CRLF
            }
            let past = match (bytes[line_end], bytes.get(line_end + 1)) {
                (b'\r', None) => return (end, records),
                (b'\r', Some(b'\n')) => line_end + 2,
                _ => line_end + 1,
            };
            if line_end > end {
                records += 1;
            }
            end = past;
        }
        if plain == bytes.len() {
            break;
        }
        match past_closing_quote(bytes, plain + 1) {
            Some(closed) => at = closed,
            None => break,
        }
    }
    (end, records)
}

/// The next quote at or after `from` that stands at the start of a field.
fn opening_quote(bytes: &[u8], from: usize, delimiter: u8) -> usize {
    let mut at = from;
    while let Some(found) = memchr(QUOTE, &bytes[at..]) {
        let quote = at + found;
        match quote.checked_sub(1).map(|before| bytes[before]) {
            None | Some(b'\r' | b'\n') => return quote,
            Some(before) if before == delimiter => return quote,
            Some(_) => at = quote + 1,
        }
    }
    bytes.len()
}

/// Just past the quote that closes the field whose inside starts at `from`.
fn past_closing_quote(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr(QUOTE, &bytes[at..])? + 1;
        if bytes.get(at) != Some(&QUOTE) {
            return Some(at);
        }
        at += 1; // a doubled quote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state machine, one byte at a time.
    fn naive(bytes: &[u8], delimiter: u8, quoted: bool) -> (usize, usize) {
        enum State {
            FieldStart,
            InField,
            InQuotes,
            AtQuote,
        }
        let (mut end, mut records) = (0, 0);
        let mut state = State::FieldStart;
        let mut i = 0;
        while i < bytes.len() {
            let byte = bytes[i];
            state = match state {
                State::InQuotes if byte == QUOTE => State::AtQuote,
                State::InQuotes => State::InQuotes,
                State::AtQuote if byte == QUOTE => State::InQuotes,
                State::FieldStart if quoted && byte == QUOTE => State::InQuotes,
                _ if byte == delimiter => State::FieldStart,
                _ if byte == b'\r' || byte == b'\n' => {
                    if byte == b'\r' && i + 1 == bytes.len() {
                        break;
                    }
                    records += usize::from(i > end);
                    if byte == b'\r' && bytes[i + 1] == b'\n' {
                        i += 1;
                    }
                    end = i + 1;
                    State::FieldStart
                }
                _ => State::InField,
            };
            i += 1;
        }
        (end, records)
    }

    #[test]
    fn nothing_is_complete_without_a_line_end() {
        for bytes in [&b""[..], b"a", b"a,b", b"\"a\n", b"\"a\n\"\"", b"\"a\n\"", b"a\r"] {
            assert_eq!(complete_records(bytes, b',', true), (0, 0), "{bytes:?}");
        }
    }

    #[test]
    fn every_line_end_counts_once() {
        assert_eq!(complete_records(b"a\nb\rc\r\nd", b',', true), (7, 3));
        assert_eq!(complete_records(b"a\nb\rc\r", b',', true), (4, 2));
        assert_eq!(complete_records(b"a\nb\rc\r\n", b',', true), (7, 3));
    }

    #[test]
    fn empty_lines_are_passed_over() {
        assert_eq!(complete_records(b"\n\r\n\ra\n\n\nb\n\r\n", b',', true), (12, 2));
        assert_eq!(complete_records(b"\"\"\n\"\"\n", b',', true), (6, 2));
    }

    #[test]
    fn a_quote_opens_only_at_the_start_of_a_field() {
        assert_eq!(complete_records(b"a\"b\nc\n", b',', true), (6, 2));
        assert_eq!(complete_records(b"a,\"b\nc\"\n", b',', true), (8, 1));
        assert_eq!(complete_records(b"a,\"b\nc\"\n", b'\t', true), (8, 2));
        assert_eq!(complete_records(b"a\t\"b\nc\"\n", b'\t', true), (8, 1));
        // What follows a closing quote is plain, a second quote included.
        assert_eq!(complete_records(b"\"a\"b\"c\nd\n", b',', true), (9, 2));
    }

    #[test]
    fn doubled_quotes_stay_inside() {
        assert_eq!(complete_records(b"\"a\"\"\n\"\"b\"\nc\n", b',', true), (12, 2));
        assert_eq!(complete_records(b"\"\"\"\n\"\"\"\n", b',', true), (8, 1));
    }

    #[test]
    fn agrees_with_the_naive_machine_on_random_bytes_and_every_cut() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..60_000 {
            let alphabet: &[u8] = match round % 3 {
                0 => b"\",\n\r\ta",
                1 => b"\"\"\",\nabcdefgh",
                _ => b"\"\n,",
            };
            let length = next() as usize % 40;
            let bytes: Vec<u8> = (0..length).map(|_| alphabet[next() as usize % alphabet.len()]).collect();
            let delimiter = if round % 2 == 0 { b',' } else { b'\t' };
            for quoted in [true, false] {
                let whole = complete_records(&bytes, delimiter, quoted);
                assert_eq!(whole, naive(&bytes, delimiter, quoted), "{bytes:?}");
                // Records found piece by piece are the records found at once.
                let cut = next() as usize % (length + 1);
                let (first_end, first) = complete_records(&bytes[..cut], delimiter, quoted);
                let (rest_end, rest) = complete_records(&bytes[first_end..], delimiter, quoted);
                assert_eq!((first_end + rest_end, first + rest), whole, "{bytes:?} at {cut}");
            }
        }
    }
}
