//! The only file that knows Python: convert, release the GIL, call, map the error.

use std::collections::HashMap;
use std::time::Duration;

use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use numpy::{PyReadwriteArray1, PyReadwriteArray2, PyReadwriteArray3};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyList, PyString, PyType};

use crate::answer::Calm;
use crate::count::{Room, SHARDS};
use crate::dense::{Counted, Desk, Layer};
use crate::lists::Lists;
use crate::ngrams::{Block, LONGEST, Recipe, Sink, ngrams};
use crate::pool::Pool;
use crate::simd::level;
use crate::support::{Ids, Occurrences, Values, Weights};
use crate::table::Table;
use crate::teach::{Examples, Schedule, Sets, Signs};
use crate::text::{BadTexts, Rule, Texts};
use crate::wide::{self, Layout};
use crate::{dense, records, table, train};

mod arrays;
mod fasttext;

type Array1<'py, T> = Bound<'py, PyArray1<T>>;

fn bad(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}

fn slice<'a, T: Element>(array: &'a PyReadonlyArray1<'_, T>) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| bad("arrays must be contiguous"))
}

impl From<BadTexts> for PyErr {
    fn from(error: BadTexts) -> Self {
        match error {
            BadTexts::Offsets => bad("text offsets must rise and stay inside the data"),
            BadTexts::Utf8(row) => bad(format!("the text at row {row} is not valid UTF-8")),
        }
    }
}

/// Find the end of the last complete record, and count the records up to it.
#[pyfunction]
fn complete_records(py: Python<'_>, data: PyBackedBytes, delimiter: u8, quoted: bool) -> (usize, usize) {
    py.detach(|| records::complete_records(&data, delimiter, quoted))
}

/// Texts as two buffers, the way Arrow holds them.
#[derive(FromPyObject)]
struct TextBuffers<'py>(PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, u8>);

impl TextBuffers<'_> {
    fn texts(&self) -> PyResult<Texts<'_>> {
        Ok(Texts::new(slice(&self.0)?, slice(&self.1)?)?)
    }
}

/// A plain list of plain strings as text buffers; none for anything else.
#[pyfunction]
fn strings<'py>(list: &Bound<'py, PyList>) -> Option<(Array1<'py, i64>, Array1<'py, u8>)> {
    let (mut offsets, mut data) = (Vec::with_capacity(list.len() + 1), Vec::new());
    offsets.push(0);
    for item in list.iter() {
        let text = item.cast_exact::<PyString>().ok()?;
        // A lone surrogate is for the caller to complain of.
        data.extend_from_slice(text.to_str().ok()?.as_bytes());
        offsets.push(data.len() as i64);
    }
    Some((offsets.into_pyarray(list.py()), data.into_pyarray(list.py())))
}

impl<'py> FromPyObject<'_, 'py> for Recipe {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        type Range = Option<(usize, usize)>;
        let (tokens, words, chars): (String, Range, Range) = object.extract()?;
        let rule = match tokens.as_str() {
            "unicode" => Rule::Unicode,
            "whitespace" => Rule::Whitespace,
            other => return Err(bad(format!("tokens must be \"unicode\" or \"whitespace\", got {other:?}"))),
        };
        for (shortest, longest) in [words, chars].into_iter().flatten() {
            if shortest < 1 || longest < shortest || longest > LONGEST {
                return Err(bad(format!(
                    "n-grams must be 1 <= shortest <= longest <= {LONGEST}, got ({shortest}, {longest})"
                )));
            }
        }
        Ok(Recipe { rule, words, chars })
    }
}

impl<'py> FromPyObject<'_, 'py> for Block {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract::<String>()?.as_str() {
            "words" => Ok(Block::Words),
            "chars" => Ok(Block::Chars),
            other => Err(bad(format!("block must be \"words\" or \"chars\", got {other:?}"))),
        }
    }
}

/// The level of CPU in use: "portable", "neon", "avx2" or "avx512".
#[pyfunction]
fn simd_level() -> &'static str {
    level().name()
}

#[pyfunction]
fn fingerprints<'py>(py: Python<'py>, texts: TextBuffers<'py>) -> PyResult<Array1<'py, u64>> {
    let texts = texts.texts()?;
    let all = |row| crate::ngrams::fingerprint(texts.row(row).as_bytes());
    Ok(py.detach(|| (0..texts.len()).map(all).collect::<Vec<u64>>()).into_pyarray(py))
}

/// Hashes, document frequency, first row; lists: indptr, indices, counts; dropped, least.
type PyCounted<'py> = (
    Array1<'py, u64>,
    Array1<'py, u32>,
    Array1<'py, u32>,
    Array1<'py, i64>,
    Array1<'py, u32>,
    Array1<'py, u16>,
    Array1<'py, f32>,
    u32,
);

#[pyfunction]
fn count<'py>(
    py: Python<'py>,
    texts: TextBuffers<'py>,
    recipe: Recipe,
    block: Block,
    least: u32,
    room: (usize, usize, u32),
    threads: usize,
) -> PyResult<PyCounted<'py>> {
    let texts = texts.texts()?;
    let room = Room { most: room.0, full: room.1, full_from: room.2 };
    let f = py.detach(|| crate::count::count(texts, &recipe, block, least, room, threads));
    Ok((
        f.hashes.into_pyarray(py),
        f.document_frequency.into_pyarray(py),
        f.first_row.into_pyarray(py),
        f.lists.indptr.into_pyarray(py),
        f.lists.indices.into_pyarray(py),
        f.lists.counts.into_pyarray(py),
        f.lists.dropped.into_pyarray(py),
        f.least,
    ))
}

/// Lists of a block are ours, but arrays can be anything: no index may leave them.
fn check_lists(indptr: &[i64], occurrences: usize, rows: usize) -> PyResult<()> {
    let shape = indptr.len() == SHARDS * rows + 1;
    let rising = indptr.windows(2).all(|pair| pair[0] <= pair[1]);
    let ends = indptr.first() == Some(&0) && indptr.last() == Some(&(occurrences as i64));
    if shape && rising && ends { Ok(()) } else { Err(bad("feature lists do not fit together")) }
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn values<'py>(
    py: Python<'py>,
    document_frequency: PyReadonlyArray1<'py, u32>,
    indptr: PyReadonlyArray1<'py, i64>,
    indices: PyReadonlyArray1<'py, u32>,
    counts: PyReadonlyArray1<'py, u16>,
    dropped: PyReadonlyArray1<'py, f32>,
    documents: u64,
    threads: usize,
) -> PyResult<Array1<'py, f32>> {
    let features = Counted {
        document_frequency: slice(&document_frequency)?,
        indptr: slice(&indptr)?,
        indices: slice(&indices)?,
        counts: slice(&counts)?,
        dropped: slice(&dropped)?,
    };
    check_lists(features.indptr, features.indices.len(), features.dropped.len())?;
    if features.counts.len() != features.indices.len() {
        return Err(bad("feature lists do not fit together"));
    }
    Ok(py.detach(|| dense::values(&features, documents, threads)).into_pyarray(py))
}

/// Lists of a block: indptr, indices, counts; dropped.
type PyFound<'py> = (Array1<'py, i64>, Array1<'py, u32>, Array1<'py, u16>, Array1<'py, f32>);

#[pyfunction]
fn look_up<'py>(
    py: Python<'py>,
    texts: TextBuffers<'py>,
    recipe: Recipe,
    block: Block,
    hashes: PyReadonlyArray1<'py, u64>,
    buckets: PyReadonlyArray1<'py, u32>,
    threads: usize,
) -> PyResult<PyFound<'py>> {
    let texts = texts.texts()?;
    let table = Table { hashes: slice(&hashes)?, buckets: slice(&buckets)?, document_frequency: &[] };
    let f = py.detach(|| crate::lookup::look_up(texts, &recipe, block, table, threads));
    Ok((
        f.indptr.into_pyarray(py),
        f.indices.into_pyarray(py),
        f.counts.into_pyarray(py),
        f.dropped.into_pyarray(py),
    ))
}

/// CPUs this process may use: affinity and cgroup quota.
#[pyfunction]
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

#[pyfunction]
fn buckets<'py>(py: Python<'py>, hashes: PyReadonlyArray1<'py, u64>) -> PyResult<Array1<'py, u32>> {
    Ok(table::buckets(slice(&hashes)?).into_pyarray(py))
}

#[pyfunction]
fn merge_counts<'py>(
    py: Python<'py>,
    hashes: PyReadonlyArray1<'py, u64>,
    counts: PyReadonlyArray1<'py, u32>,
    other_hashes: PyReadonlyArray1<'py, u64>,
    other_counts: PyReadonlyArray1<'py, u32>,
) -> PyResult<(Array1<'py, u64>, Array1<'py, u32>)> {
    let one = (slice(&hashes)?, slice(&counts)?);
    let other = (slice(&other_hashes)?, slice(&other_counts)?);
    if one.0.len() != one.1.len() || other.0.len() != other.1.len() {
        return Err(bad("hashes and counts do not fit together"));
    }
    let (hashes, counts) = py.detach(|| table::merge(one, other));
    Ok((hashes.into_pyarray(py), counts.into_pyarray(py)))
}

#[pyfunction]
fn shuffle(py: Python<'_>, n: u32, seed: u64) -> Array1<'_, u32> {
    train::shuffle(n, seed).into_pyarray(py)
}

#[derive(FromPyObject)]
struct PyLists<'py>(
    PyReadonlyArray1<'py, u64>,
    PyReadonlyArray1<'py, i64>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, f32>,
);

/// Of how many texts these are the features.
fn texts(blocks: &[PyLists<'_>]) -> usize {
    blocks.first().map_or(0, |lists| lists.1.as_array().len().saturating_sub(1) / SHARDS)
}

fn lists<'a>(blocks: &'a [PyLists<'_>], rows: usize, features: Option<usize>) -> PyResult<Vec<Lists<'a>>> {
    let mut all = Vec::new();
    for PyLists(hashes, indptr, indices, values) in blocks {
        let lists = Lists {
            hashes: slice(hashes)?,
            indptr: slice(indptr)?,
            indices: slice(indices)?,
            values: slice(values)?,
        };
        check_lists(lists.indptr, lists.indices.len(), rows)?;
        if lists.values.len() != lists.indices.len() {
            return Err(bad("feature lists do not fit together"));
        }
        all.push(lists);
    }
    let found = all.iter().map(|lists| lists.hashes.len()).sum::<usize>();
    if features.is_some_and(|features| features != found) {
        return Err(bad("weights do not have one row per feature"));
    }
    Ok(all)
}

/// The labels of each row: where its list begins, and the lists.
type PySets<'py> = (PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, u32>);

fn sets<'a>(given: &'a PySets<'_>, rows: usize, classes: usize) -> PyResult<Sets<'a>> {
    let (offsets, ids) = (slice(&given.0)?, slice(&given.1)?);
    let fits = offsets.len() == rows + 1
        && offsets.first() == Some(&0)
        && offsets.last() == Some(&(ids.len() as i64))
        && offsets.windows(2).all(|pair| pair[0] <= pair[1])
        && ids.iter().all(|&id| (id as usize) < classes);
    if fits { Ok(Sets { offsets, ids }) } else { Err(bad("lists of labels do not fit together")) }
}

#[pyfunction]
#[pyo3(name = "train", signature = (blocks, labels, row_weights, shares, order, *, sets = None, learning_rate, l2, smoothing, z_loss, batch, seen, total,
    sums, scale, weights, bias, threads, budget))]
#[allow(clippy::too_many_arguments)]
fn train_rows<'py>(
    py: Python<'py>,
    blocks: Vec<PyLists<'py>>,
    labels: PyReadonlyArray1<'py, u32>,
    row_weights: Option<PyReadonlyArray1<'py, f32>>,
    shares: Option<PyReadonlyArray2<'py, f32>>,
    order: PyReadonlyArray1<'py, u32>,
    sets: Option<PySets<'py>>,
    learning_rate: f64,
    l2: f64,
    smoothing: f32,
    z_loss: f32,
    batch: usize,
    seen: u64,
    total: u64,
    sums: PySigns,
    scale: f64,
    mut weights: PyReadwriteArray2<'py, f32>,
    mut bias: PyReadwriteArray1<'py, f32>,
    threads: usize,
    budget: f64,
) -> PyResult<Told> {
    let (labels, order) = (slice(&labels)?, slice(&order)?);
    let row_weights = row_weights.as_ref().map(slice).transpose()?;
    let shape = weights.as_array().dim();
    let blocks = lists(&blocks, labels.len(), Some(shape.0))?;
    let classes = bias.as_array().len();
    let fits = classes == shape.1
        && (sets.is_some() || labels.iter().all(|&label| (label as usize) < classes))
        && order.iter().all(|&row| (row as usize) < labels.len())
        && row_weights.is_none_or(|weights| weights.len() == labels.len())
        && shares.as_ref().is_none_or(|shares| shares.as_array().dim() == (labels.len(), classes))
        && batch > 0
        && total > 0;
    if !fits {
        return Err(bad("labels, order, weights and bias do not fit together"));
    }
    let shares = shares.as_ref().map(|shares| shares.as_slice()).transpose();
    let shares = shares.map_err(|_| bad("arrays must be contiguous"))?;
    let sets = sets.as_ref().map(|given| self::sets(given, labels.len(), classes)).transpose()?;
    let examples = Examples { blocks: &blocks, labels, row_weights, shares, sets, classes };
    let schedule = Schedule { learning_rate, l2, smoothing, z_loss, batch, seen, total, signs: signs(sums) };
    let not_contiguous = |_| bad("arrays must be contiguous");
    let weights = weights.as_slice_mut().map_err(not_contiguous)?;
    let bias = bias.as_slice_mut().map_err(not_contiguous)?;
    let budget = Duration::from_secs_f64(budget.clamp(0.0, 10.0));
    let progress = py
        .detach(|| train::train(level(), &examples, order, schedule, scale, weights, bias, threads, budget));
    Ok(told(progress))
}

/// Loss, weight, largest logit, logits, gradients, saturated: see `teach::Signs`.
type PySigns = (f64, f64, f32, f64, f64, u64);

fn signs((loss, weight, largest, logits, gradients, saturated): PySigns) -> Signs {
    Signs { loss, weight, largest, logits, gradients, saturated }
}

/// Rows done, factor on the weights, whether all is finite, signs.
type Told = (usize, f64, bool, PySigns);

fn told(progress: train::Progress) -> Told {
    let Signs { loss, weight, largest, logits, gradients, saturated } = progress.signs;
    let signs = (loss, weight, largest, logits, gradients, saturated);
    (progress.done, progress.scale, progress.finite, signs)
}

/// One list of many: indptr, indices, values.
#[derive(FromPyObject)]
struct PyOccurrences<'py>(PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, u32>, PyReadonlyArray1<'py, f32>);

impl PyOccurrences<'_> {
    fn occurrences(&self) -> PyResult<Occurrences<'_>> {
        Ok(Occurrences { indptr: slice(&self.0)?, indices: slice(&self.1)?, values: slice(&self.2)? })
    }
}

/// What `support` returns: places, ids, begins; occurrences in full rows, and in others.
#[derive(FromPyObject)]
struct PySupport<'py>(
    PyReadonlyArray2<'py, u32>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, u32>,
    PyOccurrences<'py>,
    PyOccurrences<'py>,
);

type Lots<'py> = (Array1<'py, i64>, Array1<'py, u32>, Array1<'py, f32>);
type Supported<'py> = (Bound<'py, PyArray2<u32>>, Array1<'py, u32>, Array1<'py, u32>, Lots<'py>, Lots<'py>);

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn support<'py>(
    py: Python<'py>,
    blocks: Vec<PyLists<'py>>,
    rows: PyReadonlyArray1<'py, u32>,
    labels: PyReadonlyArray1<'py, u32>,
    classes: usize,
    full_from: u32,
    threads: usize,
) -> PyResult<Supported<'py>> {
    let (rows, labels) = (slice(&rows)?, slice(&labels)?);
    let all = texts(&blocks);
    let blocks = lists(&blocks, all, None)?;
    let fits = rows.len() == labels.len()
        && rows.iter().all(|&row| (row as usize) < all)
        && labels.is_sorted()
        && labels.last().is_none_or(|&label| (label as usize) < classes);
    if !fits {
        return Err(bad("rows and labels do not fit together"));
    }
    let found =
        py.detach(|| crate::support::support(&blocks, rows, labels, classes, full_from.max(1), threads));
    let found = found.ok_or_else(|| bad("there are more weights than 2^32"))?;
    let (features, places) = (found.places.len() / 2 - 1, found.places);
    let lots = |lots: crate::support::Lots| {
        (lots.indptr.into_pyarray(py), lots.indices.into_pyarray(py), lots.values.into_pyarray(py))
    };
    Ok((
        places.into_pyarray(py).reshape([features + 1, 2])?,
        found.ids.into_pyarray(py),
        found.begins.into_pyarray(py),
        lots(found.full),
        lots(found.kept),
    ))
}

#[pyfunction]
#[pyo3(signature = (support, labels, row_weights, order, *, learning_rate, l2, smoothing, z_loss, batch, seen, total,
    sums, scale, full, kept, bias, threads, budget))]
#[allow(clippy::too_many_arguments)]
fn train_wide<'py>(
    py: Python<'py>,
    support: PySupport<'py>,
    labels: PyReadonlyArray1<'py, u32>,
    row_weights: Option<PyReadonlyArray1<'py, f32>>,
    order: PyReadonlyArray1<'py, u32>,
    learning_rate: f64,
    l2: f64,
    smoothing: f32,
    z_loss: f32,
    batch: usize,
    seen: u64,
    total: u64,
    sums: PySigns,
    scale: f64,
    mut full: PyReadwriteArray3<'py, f32>,
    mut kept: PyReadwriteArray1<'py, f32>,
    mut bias: PyReadwriteArray1<'py, f32>,
    threads: usize,
    budget: f64,
) -> PyResult<Told> {
    let (labels, order) = (slice(&labels)?, slice(&order)?);
    let row_weights = row_weights.as_ref().map(slice).transpose()?;
    let (tiles, _, width) = full.as_array().dim();
    let not_contiguous = |_| bad("arrays must be contiguous");
    let full = full.as_slice_mut().map_err(not_contiguous)?;
    let kept = kept.as_slice_mut().map_err(not_contiguous)?;
    let bias = bias.as_slice_mut().map_err(not_contiguous)?;
    let classes = bias.len();
    let layout = Layout {
        places: support.0.as_slice().map_err(|_| bad("arrays must be contiguous"))?,
        ids: slice(&support.1)?,
        begins: slice(&support.2)?,
        full: support.3.occurrences()?,
        kept: support.4.occurrences()?,
    };
    let fits = width == wide::TILE
        && tiles == classes.div_ceil(width)
        && layout.fits(kept.len(), labels.len())
        && labels.iter().all(|&label| (label as usize) < classes)
        && order.iter().all(|&row| (row as usize) < labels.len())
        && row_weights.is_none_or(|weights| weights.len() == labels.len())
        && batch > 0
        && total > 0;
    if !fits {
        return Err(bad("labels, order, weights and bias do not fit together"));
    }
    let examples = Examples { blocks: &[], labels, row_weights, shares: None, sets: None, classes };
    let schedule = Schedule { learning_rate, l2, smoothing, z_loss, batch, seen, total, signs: signs(sums) };
    let budget = Duration::from_secs_f64(budget.clamp(0.0, 10.0));
    let progress = py.detach(|| {
        wide::train(level(), &layout, &examples, order, schedule, scale, full, kept, bias, threads, budget)
    });
    Ok(told(progress))
}

/// A matrix, or (places, ids, weights), of floats, or of bytes with exponents behind: see `Weights`.
#[derive(FromPyObject)]
enum PyRows<'py> {
    Dense(PyReadonlyArray2<'py, f32>),
    DenseBytes(PyReadonlyArray2<'py, i8>, PyReadonlyArray1<'py, i8>),
    Kept(PyReadonlyArray2<'py, u32>, PyIds<'py>, PyReadonlyArray1<'py, f32>),
    KeptBytes(PyReadonlyArray2<'py, u32>, PyIds<'py>, PyReadonlyArray1<'py, i8>, PyReadonlyArray1<'py, i8>),
}

#[derive(FromPyObject)]
enum PyIds<'py> {
    #[pyo3(transparent)]
    Short(PyReadonlyArray1<'py, u16>),
    #[pyo3(transparent)]
    Long(PyReadonlyArray1<'py, u32>),
}

impl PyIds<'_> {
    fn ids(&self) -> PyResult<Ids<'_>> {
        Ok(match self {
            PyIds::Short(ids) => Ids::Short(slice(ids)?),
            PyIds::Long(ids) => Ids::Long(slice(ids)?),
        })
    }
}

impl PyRows<'_> {
    fn rows(&self) -> PyResult<Weights<'_>> {
        let not_contiguous = |_| bad("arrays must be contiguous");
        Ok(match self {
            PyRows::Dense(weights) => {
                Weights::Dense(Values::Floats(weights.as_slice().map_err(not_contiguous)?))
            }
            PyRows::DenseBytes(values, exponents) => Weights::Dense(Values::Bytes {
                values: values.as_slice().map_err(not_contiguous)?,
                exponents: slice(exponents)?,
            }),
            PyRows::Kept(places, ids, weights) => Weights::Kept {
                places: places.as_slice().map_err(not_contiguous)?,
                ids: ids.ids()?,
                weights: Values::Floats(slice(weights)?),
            },
            PyRows::KeptBytes(places, ids, values, exponents) => Weights::Kept {
                places: places.as_slice().map_err(not_contiguous)?,
                ids: ids.ids()?,
                weights: Values::Bytes { values: slice(values)?, exponents: slice(exponents)? },
            },
        })
    }
}

#[pyfunction]
fn sparse_logits<'py>(
    py: Python<'py>,
    blocks: Vec<PyLists<'py>>,
    rows: PyReadonlyArray1<'py, u32>,
    weights: PyRows<'py>,
    bias: PyReadonlyArray1<'py, f32>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let (rows, bias) = (slice(&rows)?, slice(&bias)?);
    let all = texts(&blocks);
    let blocks = lists(&blocks, all, None)?;
    let weights = weights.rows()?;
    let features = blocks.iter().map(|lists| lists.hashes.len()).sum();
    if !weights.fits(features, bias.len()) || rows.iter().any(|&row| row as usize >= all) {
        return Err(bad("rows, weights and bias do not fit together"));
    }
    let out = py.detach(|| crate::lists::logits(level(), &blocks, rows, weights, bias, threads));
    out.into_pyarray(py).reshape([rows.len(), bias.len()])
}

#[derive(FromPyObject)]
struct PyTable<'py>(
    Block,
    PyReadonlyArray1<'py, u64>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, u32>,
);

/// What a layer reads in one call, kept for the next.
#[pyclass(frozen, module = "logitext._core")]
#[derive(Default)]
struct Desks(Pool<Desk>);

#[pymethods]
impl Desks {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// A copy, or what is read from a file, begins with nothing.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, ()) {
        (slf.get_type(), ())
    }
}

/// A layer in Python's arrays: (recipe, tables, documents, weights, bias, desks).
#[derive(FromPyObject)]
struct PyLayer<'py>(
    Recipe,
    Vec<PyTable<'py>>,
    u64,
    PyRows<'py>,
    PyReadonlyArray1<'py, f32>,
    Bound<'py, Desks>,
);

impl PyLayer<'_> {
    fn layer(&self) -> PyResult<Layer<'_>> {
        let mut tables = Vec::new();
        for PyTable(block, hashes, buckets, document_frequency) in &self.1 {
            let table = Table {
                hashes: slice(hashes)?,
                buckets: slice(buckets)?,
                document_frequency: slice(document_frequency)?,
            };
            tables.push((*block, table));
        }
        let (weights, bias) = (self.3.rows()?, slice(&self.4)?);
        let desks = Some(&self.5.get().0);
        Ok(Layer { recipe: self.0, tables, documents: self.2, weights, bias, desks })
    }
}

/// Logits by each of several layers, or of one class of each; behind them, if that is wanted, how
/// much of each text is known and how much is not.
#[pyfunction]
#[pyo3(name = "logits", signature = (texts, layers, threads, amounts = false))]
fn text_logits<'py>(
    py: Python<'py>,
    texts: TextBuffers<'py>,
    layers: Vec<(PyLayer<'py>, Option<usize>)>,
    threads: usize,
    amounts: bool,
) -> PyResult<Vec<Bound<'py, PyArray2<f32>>>> {
    let texts = texts.texts()?;
    let mut all = Vec::new();
    for (layer, class) in &layers {
        let layer = layer.layer()?;
        if class.is_some_and(|class| class >= layer.bias.len()) {
            return Err(bad("there is no such class"));
        }
        all.push((layer, *class));
    }
    let out = py.detach(|| dense::logits(level(), &all, texts, amounts, threads));
    let shaped = out.into_iter().zip(&all).map(|(own, (layer, class))| {
        let width = if class.is_some() { 1 } else { layer.bias.len() };
        own.into_pyarray(py).reshape([texts.len(), width + if amounts { 2 } else { 0 }])
    });
    shaped.collect()
}

/// Label and probability of one text, in digits; `None` where the long way has to be taken.
#[pyfunction]
fn answer(
    text: &str,
    layer: PyLayer<'_>,
    temperature: f64,
    lines: Option<(PyReadonlyArray1<'_, f32>, PyReadonlyArray1<'_, f32>)>,
) -> PyResult<Option<(usize, String)>> {
    let layer = layer.layer()?;
    let lines =
        lines.as_ref().map(|(scale, bias)| Ok::<_, PyErr>((slice(scale)?, slice(bias)?))).transpose()?;
    let classes = layer.bias.len();
    if classes == 0 || lines.is_some_and(|(scale, bias)| scale.len() != classes || bias.len() != classes) {
        return Err(bad("scale and bias must have a number for each class"));
    }
    // Too short for others to wait for the lock, which is not given up.
    let found = crate::answer::answer(level(), layer, text, &Calm { temperature, lines });
    // The shortest digits that read back as the same number.
    Ok(found.map(|(label, probability)| (label, format!("{probability:?}"))))
}

/// Spells n-grams: of each block in order of first occurrence, or those asked for.
struct Speller {
    names: Vec<(Block, u64, String)>,
    seen: HashMap<(u8, u64), ()>,
    wanted: Option<HashMap<(u8, u64), ()>>,
}

impl Sink for Speller {
    fn ngram(&mut self, block: Block, hash: u64, name: impl FnOnce() -> String) {
        let key = (block as u8, hash);
        if self.wanted.as_ref().is_none_or(|wanted| wanted.contains_key(&key))
            && self.seen.insert(key, ()).is_none()
        {
            self.names.push((block, hash, name()));
        }
    }
}

type Explained<'py> = (Vec<String>, Array1<'py, i64>, Array1<'py, f32>);

/// The distinct n-grams of a text: spelling, weight row (−1: unknown), value.
#[pyfunction]
fn features<'py>(py: Python<'py>, text: &str, layer: PyLayer<'py>) -> PyResult<Explained<'py>> {
    let layer = layer.layer()?;
    let (names, found) = py.detach(|| {
        let mut speller = Speller { names: Vec::new(), seen: HashMap::new(), wanted: None };
        ngrams(text, &layer.recipe, &mut speller);
        // Features come block by block; spellings in the order of the text.
        speller.names.sort_by_key(|&(block, ..)| block as u8);
        (speller.names, layer.features(text))
    });
    let rows: Vec<i64> = found.iter().map(|f| f.row.map_or(-1, i64::from)).collect();
    let values: Vec<f32> = found.iter().map(|f| f.value).collect();
    let names = names.into_iter().map(|(_, _, name)| name).collect();
    Ok((names, rows.into_pyarray(py), values.into_pyarray(py)))
}

/// The spelling of n-grams, each given by its block, its hash and a text it stands in.
#[pyfunction]
fn spell<'py>(
    py: Python<'py>,
    texts: TextBuffers<'py>,
    recipe: Recipe,
    block: Block,
    hashes: PyReadonlyArray1<'py, u64>,
    rows: PyReadonlyArray1<'py, u32>,
) -> PyResult<Vec<String>> {
    let (texts, hashes, rows) = (texts.texts()?, slice(&hashes)?, slice(&rows)?);
    if hashes.len() != rows.len() || rows.iter().any(|&row| row as usize >= texts.len()) {
        return Err(bad("hashes and rows do not fit together"));
    }
    Ok(py.detach(|| {
        let mut of_row: HashMap<u32, Vec<usize>> = HashMap::new();
        rows.iter().enumerate().for_each(|(i, &row)| of_row.entry(row).or_default().push(i));
        let mut names = vec![String::new(); hashes.len()];
        for (row, wanted) in of_row {
            let keys = wanted.iter().map(|&i| ((block as u8, hashes[i]), ())).collect();
            let mut speller = Speller { names: Vec::new(), seen: HashMap::new(), wanted: Some(keys) };
            ngrams(texts.row(row as usize), &recipe, &mut speller);
            for (_, hash, name) in speller.names {
                wanted.iter().filter(|&&i| hashes[i] == hash).for_each(|&i| names[i].clone_from(&name));
            }
        }
        names
    }))
}

/// The native core of Logitext.
#[pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::arrays::{argmax, binary, margin, small_softmax, softmax, summarize, top_k};
    #[pymodule_export]
    use super::fasttext::{
        fasttext_best, fasttext_features, fasttext_filter, fasttext_hidden, fasttext_logits, fasttext_pack,
        fasttext_read, fasttext_tree,
    };
    #[pymodule_export]
    use super::{
        Desks, answer, available_threads, buckets, complete_records, count, features, fingerprints, look_up,
        merge_counts, shuffle, simd_level, sparse_logits, spell, strings, support, text_logits, train_rows,
        train_wide, values,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("TILE", crate::wide::TILE)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
