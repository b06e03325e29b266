//! The file: magic, version, settings, dictionary, input matrix, output matrix. All little-endian.

use super::dictionary::{pruned, slots};

/// The first four bytes.
pub const MAGIC: u32 = 793_712_314;
const VERSIONS: [i32; 2] = [11, 12];
/// Longer n-grams are nobody's, and would make of one long word a day's work.
const LONGEST_NGRAM: i32 = 1000;
/// Centroids of a quantiser.
pub const CENTROIDS: usize = 256;
/// The output matrix is always quantised in pairs.
const OUTPUT_PART: usize = 2;

/// What a layer's logits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A binary tree of labels.
    Hierarchical,
    /// A sigmoid for each label, trained against a few others.
    Negative,
    /// One softmax.
    Softmax,
    /// A sigmoid for each label.
    OneVsAll,
}

impl Loss {
    /// The name it has in a header.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Hierarchical => "hs",
            Loss::Negative => "ns",
            Loss::Softmax => "softmax",
            Loss::OneVsAll => "ova",
        }
    }
}

/// What decides on how a text becomes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of the hidden layer.
    pub dim: usize,
    /// Longest run of words.
    pub word_ngrams: usize,
    /// Rows that n-grams are hashed to.
    pub bucket: usize,
    /// Shortest run of characters.
    pub minn: usize,
    /// Longest run of characters; 0 for none.
    pub maxn: usize,
}

/// A quantised matrix: each part of a row is one of 256 centroids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantised {
    /// Columns a part has; the last may have fewer.
    pub part: usize,
    /// Where the codes begin, row by row.
    pub codes: usize,
    /// Where the centroids begin: columns × 256 floats.
    pub centroids: usize,
    /// Where the codes of the rows' norms begin, and their 256 centroids.
    pub norms: Option<(usize, usize)>,
}

/// Where a matrix stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Rows it has.
    pub rows: usize,
    /// Columns it has.
    pub columns: usize,
    /// Where its floats begin, or the parts of a quantised one.
    pub at: Result<usize, Quantised>,
}

/// What a file says; matrices as their places, so that they need not be copied.
#[derive(Debug)]
pub struct File {
    /// 11 or 12.
    pub version: i32,
    /// Those that matter.
    pub settings: Settings,
    /// And all of them, by their names.
    pub arguments: Vec<(&'static str, f64)>,
    /// What the logits are.
    pub loss: Loss,
    /// Words; the labels follow them in `text`.
    pub words: usize,
    /// Labels.
    pub labels: usize,
    /// Words of the training text.
    pub tokens: i64,
    /// Words and labels, one after another.
    pub text: Vec<u8>,
    /// Where each begins in `text`; one more for the end.
    pub offsets: Vec<u64>,
    /// How often each was seen in training.
    pub counts: Vec<i64>,
    /// See `Dictionary`.
    pub slots: Vec<u32>,
    /// See `Kept`; none where nothing was pruned.
    pub pruned: Option<Vec<u32>>,
    /// (rows, dim)
    pub input: Places,
    /// (labels, dim)
    pub output: Places,
}

type Read<T> = Result<T, String>;

/// A place in the file that only goes forward.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &str) -> Read<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..length) else {
            return Err(format!(
                "it is cut short or was edited: {what} should have {length} bytes from byte {} on, but only {} follow",
                self.at,
                rest.len()
            ));
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn int(&mut self, what: &str) -> Read<i32> {
        Ok(i32::from_le_bytes(self.array(what)?))
    }

    fn long(&mut self, what: &str) -> Read<i64> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    fn flag(&mut self, what: &str) -> Read<bool> {
        match self.array::<1>(what)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("it was edited: {what} is {other}, neither 0 nor 1")),
        }
    }

    /// A size that so many bytes each must follow for.
    fn skip(&mut self, count: usize, each: usize, what: &str) -> Read<usize> {
        let at = self.at;
        let Some(length) = count.checked_mul(each) else {
            return Err(format!("it was edited: {what} would be larger than any file"));
        };
        self.take(length, what)?;
        Ok(at)
    }
}

/// Read a model's file.
///
/// # Errors
///
/// A clause that says what is wrong with it.
pub fn read(bytes: &[u8]) -> Read<File> {
    let mut reader = Reader { bytes, at: 0 };
    let magic = u32::from_le_bytes(reader.array("the magic number")?);
    if magic == MAGIC.swap_bytes() {
        return Err("it was written by a machine of the other byte order".into());
    } else if magic != MAGIC {
        return Err("it is not a fastText model".into());
    }
    let version = reader.int("the version")?;
    if !VERSIONS.contains(&version) {
        let newer = if version > VERSIONS[1] { "of a newer fastText" } else { "of an unknown fastText" };
        return Err(format!("it is {newer} (version {version}): versions 11 and 12 are known"));
    }
    let (settings, loss, arguments) = settings(&mut reader, version)?;
    let Entries { words, labels, tokens, text, offsets, counts, pairs } = entries(&mut reader)?;
    let slots = slots(&text, &offsets)?;
    let quantised = reader.flag("the mark of a quantised input")?;
    let input = matrix(&mut reader, quantised, "input")?;
    let pairs_given = pairs.is_some();
    if !quantised && pairs_given {
        return Err("it was pruned but not quantised, as only early versions of fastText wrote it".into());
    }
    let quantised_output = reader.flag("the mark of a quantised output")?;
    let output = matrix(&mut reader, quantised && quantised_output, "output")?;
    if reader.at != bytes.len() {
        let more = bytes.len() - reader.at;
        return Err(format!("it was edited: {more} bytes follow where the model ends"));
    }
    if let Err(Quantised { part, .. }) = output.at
        && part != OUTPUT_PART
    {
        return Err(format!("it was edited: the output is quantised in parts of {part} columns, not 2"));
    }
    for (name, places) in [("input", &input), ("output", &output)] {
        if places.columns != settings.dim {
            let (columns, dim) = (places.columns, settings.dim);
            return Err(format!("it was edited: its {name} matrix has {columns} columns where dim is {dim}"));
        }
    }
    if output.rows != labels {
        return Err(format!("it was edited: {labels} labels, but an output of {} rows", output.rows));
    }
    let ngrams = settings.word_ngrams > 1 || settings.maxn > 0;
    let hashed = match &pairs {
        Some(pairs) => pairs.len(),
        None => settings.bucket,
    };
    // Without n-grams rows may be there for them all the same.
    let exact = ngrams || pairs_given || input.rows < words;
    if exact && words.checked_add(hashed) != Some(input.rows) {
        return Err(format!(
            "it was edited: {words} words and {hashed} n-grams, but an input of {} rows",
            input.rows
        ));
    }
    let pruned = pairs.map(|pairs| pruned(pairs, input.rows - words)).transpose()?;
    Ok(File {
        version,
        settings,
        arguments,
        loss,
        words,
        labels,
        tokens,
        text,
        offsets,
        counts,
        slots,
        pruned,
        input,
        output,
    })
}

type Arguments = Vec<(&'static str, f64)>;

fn settings(reader: &mut Reader, version: i32) -> Read<(Settings, Loss, Arguments)> {
    let names =
        ["dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn"];
    let mut arguments = Vec::new();
    let mut values = [0; 11];
    for (name, value) in names.into_iter().zip(&mut values) {
        *value = reader.int("its settings")?;
        arguments.push((name, f64::from(*value)));
    }
    arguments.push(("lrUpdateRate", f64::from(reader.int("its settings")?)));
    arguments.push(("t", f64::from_le_bytes(reader.array("its settings")?)));
    let [dim, _, _, _, _, word_ngrams, loss, model, bucket, minn, maxn] = values;
    match model {
        3 => {}
        1 | 2 => {
            let kind = if model == 1 { "cbow" } else { "skipgram" };
            return Err(format!(
                "it is an unsupervised model ({kind}): it has word vectors, and no labels to give"
            ));
        }
        other => return Err(format!("it was edited: there is no model of kind {other}")),
    }
    let loss = match loss {
        1 => Loss::Hierarchical,
        2 => Loss::Negative,
        3 => Loss::Softmax,
        4 => Loss::OneVsAll,
        other => return Err(format!("it was edited: there is no loss of kind {other}")),
    };
    // Supervised models of version 11 knew no runs of characters, whatever they say.
    let maxn = if version == 11 { 0 } else { maxn };
    if dim < 1 {
        return Err(format!("it was edited: dim is {dim}"));
    }
    for (name, value) in [("maxn", maxn), ("wordNgrams", word_ngrams)] {
        if value > LONGEST_NGRAM {
            return Err(format!("it was edited: {name} is {value}, and at most {LONGEST_NGRAM} makes sense"));
        }
    }
    let count = |value: i32| usize::try_from(value).unwrap_or(0);
    let settings = Settings {
        dim: count(dim),
        word_ngrams: count(word_ngrams).max(1),
        bucket: count(bucket),
        minn: count(minn).max(1),
        maxn: if count(maxn) < count(minn) { 0 } else { count(maxn) },
    };
    // What maxn says decides on in-vocabulary words, too, but without a bucket nothing can be hashed.
    if (settings.word_ngrams > 1 || settings.maxn > 0) && settings.bucket == 0 {
        return Err("it was edited: it has n-grams, but a bucket of 0".into());
    }
    Ok((settings, loss, arguments))
}

struct Entries {
    words: usize,
    labels: usize,
    tokens: i64,
    text: Vec<u8>,
    offsets: Vec<u64>,
    counts: Vec<i64>,
    pairs: Option<Vec<(u32, u32)>>,
}

fn entries(reader: &mut Reader) -> Read<Entries> {
    let what = "its dictionary";
    let sizes = (reader.int(what)?, reader.int(what)?, reader.int(what)?);
    let tokens = reader.long(what)?;
    let pruned = reader.long(what)?;
    let (size, words, labels) = sizes;
    if words < 0 || labels < 1 || words.checked_add(labels) != Some(size) {
        return Err(format!("it was edited: {size} entries are no {words} words and {labels} labels"));
    }
    let (size, words, labels) = (size as usize, words as usize, labels as usize);
    // An entry has at least ten bytes: nothing is reserved for what cannot be there.
    if size > (reader.bytes.len() - reader.at) / 10 {
        return Err(format!("it is cut short or was edited: it cannot hold {size} words and labels"));
    }
    let (mut text, mut counts) = (Vec::new(), Vec::with_capacity(size));
    let mut offsets = Vec::with_capacity(size + 1);
    offsets.push(0);
    for entry in 0..size {
        let rest = reader.bytes.get(reader.at..).unwrap_or_default();
        let Some(length) = memchr::memchr(0, rest) else {
            return Err("it is cut short: its dictionary does not end".into());
        };
        text.extend_from_slice(reader.take(length, what)?);
        reader.take(1, what)?;
        offsets.push(text.len() as u64);
        counts.push(reader.long(what)?);
        let kind = reader.array::<1>(what)?[0];
        if kind != u8::from(entry >= words) {
            return Err(format!("it was edited: entry {entry} of its dictionary is of kind {kind}"));
        }
    }
    let pairs = match usize::try_from(pruned) {
        Err(_) => None,
        Ok(count) => {
            let at = reader.skip(count, 8, "the list of kept n-grams")?;
            let (pairs, _) = reader.bytes[at..reader.at].as_chunks::<8>();
            let pair = |&[a, b, c, d, e, f, g, h]: &[u8; 8]| {
                (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
            };
            Some(pairs.iter().map(pair).collect())
        }
    };
    Ok(Entries { words, labels, tokens, text, offsets, counts, pairs })
}

fn size(value: i64, what: &str) -> Read<usize> {
    usize::try_from(value).map_err(|_| format!("it was edited: {what} is {value}"))
}

fn matrix(reader: &mut Reader, quantised: bool, name: &str) -> Read<Places> {
    let what = format!("its {name} matrix");
    let norms = quantised && reader.flag("the mark of quantised norms")?;
    let rows = size(reader.long(&what)?, "a number of rows")?;
    let columns = size(reader.long(&what)?, "a number of columns")?;
    if !quantised {
        let Some(count) = rows.checked_mul(columns) else {
            return Err(format!("it was edited: {what} would be larger than any file"));
        };
        return Ok(Places { rows, columns, at: Ok(reader.skip(count, 4, &what)?) });
    }
    let length = reader.int(&what)?;
    let codes = reader.skip(size(i64::from(length), "a number of codes")?, 1, &what)?;
    let (part, parts, centroids) = quantiser(reader, columns, &what)?;
    if rows.checked_mul(parts) != usize::try_from(length).ok() {
        return Err(format!("it was edited: {what} has {rows} rows of {parts} parts, but {length} codes"));
    }
    let norms = if norms {
        let codes = reader.skip(rows, 1, &what)?;
        let (.., centroids) = quantiser(reader, 1, &what)?;
        Some((codes, centroids))
    } else {
        None
    };
    Ok(Places { rows, columns, at: Err(Quantised { part, codes, centroids, norms }) })
}

/// Columns of a part, parts, and where the centroids begin.
fn quantiser(reader: &mut Reader, columns: usize, what: &str) -> Read<(usize, usize, usize)> {
    let mut said = [0; 4];
    for value in &mut said {
        *value = size(i64::from(reader.int(what)?), "a size of a quantiser")?;
    }
    let [dim, parts, part, last] = said;
    let fits = dim == columns
        && part > 0
        && parts == dim.div_ceil(part)
        && last == if dim % part == 0 { part } else { dim % part };
    if !fits {
        return Err(format!("it was edited: the quantiser of {what} does not fit its {columns} columns"));
    }
    Ok((part, parts, reader.skip(columns, CENTROIDS * 4, what)?))
}
