//! fastText's models for Python: its file as arrays, and arrays to answers.

use std::collections::HashMap;

use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Array1, TextBuffers, bad, slice};
use crate::fasttext::dictionary::{Kept, filter};
use crate::fasttext::format::{Places, Quantised, Settings};
use crate::fasttext::hidden::{AMOUNTS, Front};
use crate::fasttext::scores::{Back, LANES, Tree, answers, best, pack, tree};
use crate::fasttext::text::{END, Entry};
use crate::fasttext::{Dictionary, Input, Rows, read};
use crate::simd::level;

type Bytes<'py> = PyReadonlyArray1<'py, u8>;

/// Lengths of runs and the bucket: dim, wordNgrams, bucket, minn, maxn.
type PySettings = (usize, usize, usize, usize, usize);

/// text, offsets, slots, number of words; slots and filter of kept n-grams.
type PyDictionary<'py> = (
    Bytes<'py>,
    PyReadonlyArray1<'py, u64>,
    PyReadonlyArray1<'py, u32>,
    usize,
    Option<(PyReadonlyArray1<'py, u32>, PyReadonlyArray1<'py, u64>)>,
);

/// Floats as bytes; or codes, columns of a part, centroids, and codes and values of norms.
#[derive(FromPyObject)]
pub enum PyInput<'py> {
    Dense(Bytes<'py>),
    Quantised(
        Bytes<'py>,
        usize,
        PyReadonlyArray1<'py, f32>,
        Option<(Bytes<'py>, PyReadonlyArray1<'py, f32>)>,
    ),
}

/// A model up to its hidden layer, and whether it is to be read as fastText does.
#[derive(FromPyObject)]
pub struct PyFront<'py>(PySettings, PyDictionary<'py>, PyInput<'py>, bool);

impl PyFront<'_> {
    fn rows(&self) -> PyResult<Rows<'_>> {
        let (dim, word_ngrams, bucket, minn, maxn) = self.0;
        let (text, offsets, slots, words, kept) = &self.1;
        let (offsets, slots) = (slice(offsets)?, slice(slots)?);
        let kept = match kept {
            Some((slots, filter)) => Some(Kept { slots: slice(slots)?, filter: slice(filter)? }),
            None => None,
        };
        let powers = |kept: Kept| (kept.slots.len() / 2).is_power_of_two();
        if dim == 0
            || bucket > i32::MAX as usize
            || !slots.len().is_power_of_two()
            || !kept.is_none_or(powers)
        {
            return Err(bad("the parts of a fastText model do not fit together"));
        }
        let settings = Settings { dim, word_ngrams, bucket, minn, maxn };
        let dictionary = Dictionary { text: slice(text)?, offsets, slots, words: *words, kept };
        Ok(Rows::new(settings, dictionary, self.3))
    }

    fn front(&self) -> PyResult<Front<'_>> {
        let input = match &self.2 {
            PyInput::Dense(bytes) => Input::Dense(slice(bytes)?),
            PyInput::Quantised(codes, part, centroids, norms) => {
                let norms =
                    norms.as_ref().map(|(codes, values)| Ok::<_, PyErr>((slice(codes)?, slice(values)?)));
                if *part == 0 {
                    return Err(bad("a part of a row has at least one column"));
                }
                let (codes, centroids) = (slice(codes)?, slice(centroids)?);
                Input::Quantised { codes, part: *part, centroids, norms: norms.transpose()? }
            }
        };
        Ok(Front { rows: self.rows()?, input })
    }
}

/// Read a model's file: settings, dictionary, and where its matrices stand.
#[pyfunction]
#[pyo3(name = "fasttext_read")]
pub fn fasttext_read<'py>(py: Python<'py>, bytes: Bytes<'py>) -> PyResult<Bound<'py, PyDict>> {
    let bytes = slice(&bytes)?;
    let file = py.detach(|| read(bytes)).map_err(bad)?;
    let found = PyDict::new(py);
    let Settings { dim, word_ngrams, bucket, minn, maxn } = file.settings;
    found.set_item("version", file.version)?;
    found.set_item("settings", (dim, word_ngrams, bucket, minn, maxn))?;
    found.set_item("arguments", file.arguments.into_iter().collect::<HashMap<_, _>>())?;
    found.set_item("loss", file.loss.name())?;
    found.set_item("words", file.words)?;
    found.set_item("tokens", file.tokens)?;
    found.set_item("word_text", file.text.into_pyarray(py))?;
    found.set_item("word_offsets", file.offsets.into_pyarray(py))?;
    found.set_item("word_counts", file.counts.into_pyarray(py))?;
    found.set_item("word_slots", file.slots.into_pyarray(py))?;
    found.set_item("ngram_slots", file.pruned.map(|slots| slots.into_pyarray(py)))?;
    for (name, Places { rows, columns, at }) in [("input", file.input), ("output", file.output)] {
        let (dense, quantised) = match at {
            Ok(at) => (Some(at), None),
            Err(Quantised { part, codes, centroids, norms }) => (None, Some((part, codes, centroids, norms))),
        };
        found.set_item(name, (rows, columns, dense, quantised))?;
    }
    Ok(found)
}

/// Build the tree of a hierarchical softmax from the counts of its labels: children of each inner node.
#[pyfunction]
pub fn fasttext_tree<'py>(
    py: Python<'py>,
    counts: PyReadonlyArray1<'py, i64>,
) -> PyResult<(Array1<'py, u32>, Array1<'py, u32>)> {
    let (left, right) = tree(slice(&counts)?).map_err(bad)?;
    Ok((left.into_pyarray(py), right.into_pyarray(py)))
}

/// Turn an output matrix, given as bytes, for `fasttext_logits`.
#[pyfunction]
pub fn fasttext_pack<'py>(py: Python<'py>, output: Bytes<'py>, dim: usize) -> PyResult<Array1<'py, f32>> {
    let output = slice(&output)?;
    Ok(py.detach(|| pack(output, dim)).into_pyarray(py))
}

type Answered<'py> = PyResult<(Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<f32>>)>;

fn shaped<'py>(
    py: Python<'py>,
    (out, amounts): (Vec<f32>, Vec<f32>),
    rows: usize,
    width: usize,
) -> Answered<'py> {
    let out = out.into_pyarray(py).reshape([rows, width])?;
    Ok((out, amounts.into_pyarray(py).reshape([rows, AMOUNTS])?))
}

/// The mean of the rows of each text; known words, unknown words and rows of each.
#[pyfunction]
pub fn fasttext_hidden<'py>(
    py: Python<'py>,
    texts: TextBuffers<'py>,
    front: PyFront<'py>,
    threads: usize,
) -> Answered<'py> {
    let (texts, front) = (texts.texts()?, front.front()?);
    let found = py.detach(|| answers(level(), &front, None, &texts, threads));
    shaped(py, found, texts.len(), front.rows.settings.dim)
}

/// A model from its hidden layer on: packed output, number of labels, tree.
#[derive(FromPyObject)]
pub struct PyBack<'py>(
    PyReadonlyArray1<'py, f32>,
    usize,
    Option<(PyReadonlyArray1<'py, u32>, PyReadonlyArray1<'py, u32>)>,
);

impl PyBack<'_> {
    fn back(&self, dim: usize, strict: bool) -> PyResult<Back<'_>> {
        let (packed, labels) = (slice(&self.0)?, self.1);
        if labels == 0 || packed.len() != labels.div_ceil(LANES) * LANES * dim {
            return Err(bad("the output matrix does not fit the model"));
        }
        let tree = match &self.2 {
            Some((left, right)) => Some(Tree { left: slice(left)?, right: slice(right)? }),
            None => None,
        };
        Ok(Back { packed, labels, tree, strict })
    }
}

/// Logits of each text; and what `fasttext_hidden` tells beside.
#[pyfunction]
pub fn fasttext_logits<'py>(
    py: Python<'py>,
    texts: TextBuffers<'py>,
    front: PyFront<'py>,
    back: PyBack<'py>,
    threads: usize,
) -> Answered<'py> {
    let (texts, strict) = (texts.texts()?, front.3);
    let front = front.front()?;
    let back = back.back(front.rows.settings.dim, strict)?;
    let found = py.detach(|| answers(level(), &front, Some(&back), &texts, threads));
    shaped(py, found, texts.len(), back.labels)
}

/// The label of each text's largest logit, the first of several; −1 where one is not finite.
#[pyfunction]
pub fn fasttext_best<'py>(
    py: Python<'py>,
    texts: TextBuffers<'py>,
    front: PyFront<'py>,
    back: PyBack<'py>,
    threads: usize,
) -> PyResult<Array1<'py, i64>> {
    let (texts, strict) = (texts.texts()?, front.3);
    let front = front.front()?;
    let back = back.back(front.rows.settings.dim, strict)?;
    Ok(py.detach(|| best(level(), &front, &back, &texts, threads)).into_pyarray(py))
}

/// A filter of the n-grams that were kept.
#[pyfunction]
pub fn fasttext_filter<'py>(
    py: Python<'py>,
    slots: PyReadonlyArray1<'py, u32>,
) -> PyResult<Array1<'py, u64>> {
    let slots = slice(&slots)?;
    if !(slots.len() / 2).is_power_of_two() {
        return Err(bad("slots are a power of two"));
    }
    Ok(filter(slots).into_pyarray(py))
}

/// What a text's rows stand for, in order of first occurrence: word, run of characters or run of words.
#[derive(Default)]
struct Names {
    all: Vec<(String, bool, Option<u32>, f32)>,
    seen: HashMap<(bool, String), usize>,
}

impl Names {
    fn add(&mut self, name: String, chars: bool, row: Option<u32>) {
        let at = *self.seen.entry((chars, name)).or_insert_with_key(|(chars, name)| {
            self.all.push((name.clone(), *chars, row, 0.0));
            self.all.len() - 1
        });
        self.all[at].3 += 1.0;
    }
}

type Named<'py> = (Vec<String>, Vec<bool>, Array1<'py, i64>, Array1<'py, f32>);

/// What a text's rows stand for: spelling, whether it is a run of characters, row (−1: none), count.
#[pyfunction]
pub fn fasttext_features<'py>(py: Python<'py>, text: &str, front: PyFront<'py>) -> PyResult<Named<'py>> {
    let rows = front.rows()?;
    let (mut names, mut marked) = (Names::default(), Vec::new());
    let (mut words, mut hashes) = (Vec::new(), Vec::new());
    let spelled = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (word, hash) in rows.words(text) {
        let row = match rows.entry(word, hash) {
            Entry::Word(row) => Some(row),
            Entry::Unknown => None,
            Entry::Label => continue,
        };
        // The end of the line is of note only where it does something.
        if row.is_some() || word != END {
            names.add(spelled(word), false, row);
        }
        rows.runs_of_characters(word, &mut marked, |run, key| {
            names.add(spelled(run), true, rows.dictionary.row(key));
        });
        words.push(spelled(word));
        hashes.push(hash);
    }
    rows.runs_of_words(&hashes, |range, key| {
        names.add(words[range].join(" "), false, rows.dictionary.row(key))
    });
    let found: Vec<i64> = names.all.iter().map(|one| one.2.map_or(-1, i64::from)).collect();
    let counts: Vec<f32> = names.all.iter().map(|one| one.3).collect();
    let (spelled, chars) = names.all.into_iter().map(|one| (one.0, one.1)).unzip();
    Ok((spelled, chars, found.into_pyarray(py), counts.into_pyarray(py)))
}
