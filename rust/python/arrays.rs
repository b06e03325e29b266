//! Operations on arrays of logits, for Python.
//!
//! An array comes as it is: any strides, one row or many. Half precision comes as its
//! bits, with the format's name beside it. What is written to comes from Python, too.

use numpy::ndarray::{ArrayView2, ArrayViewD, ArrayViewMut2, ArrayViewMutD, Axis, Ix2};
use numpy::{
    Element, PyArray1, PyArrayDyn, PyReadonlyArray, PyReadonlyArrayDyn, PyReadwriteArray, PyReadwriteArrayDyn,
};
use numpy::{PyArrayMethods, PyReadonlyArray1, PyReadwriteArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::bad;
use crate::binary::Asked;
use crate::elements::{Brain, Double, Format, Half, Single};
use crate::loss::{BadLabel, Targets, Terms, weigh};
use crate::packed;
use crate::passes::{Answers, Map, Numbers, Question};
use crate::rank;
use crate::real::Real;
use crate::simd::level;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;
type Maybe<'a, 'py> = Option<Bound<'py, PyAny>>;

/// Call a function for the format of that name.
macro_rules! by_format {
    ($name:expr, $function:ident, $($argument:expr),*) => {
        match $name {
            "float32" => $function::<Single>($($argument),*),
            "float64" => $function::<Double>($($argument),*),
            "float16" => $function::<Half>($($argument),*),
            "bfloat16" => $function::<Brain>($($argument),*),
            other => Err(bad(format!("format must be float16, bfloat16, float32 or float64, got {other:?}"))),
        }
    };
}

fn read<'py, T: Element>(array: Any<'_, 'py>) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    array.cast::<PyArrayDyn<T>>()?.try_readonly().map_err(|error| bad(error.to_string()))
}

fn write<'py, T: Element>(array: Any<'_, 'py>) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
    array.cast::<PyArrayDyn<T>>()?.try_readwrite().map_err(|error| bad(error.to_string()))
}

fn read_all<'py, T: Element>(array: &Maybe<'_, 'py>) -> PyResult<Option<PyReadonlyArrayDyn<'py, T>>> {
    array.as_ref().map(read).transpose()
}

fn write_all<'py, T: Element>(array: &Maybe<'_, 'py>) -> PyResult<Option<PyReadwriteArrayDyn<'py, T>>> {
    array.as_ref().map(write).transpose()
}

/// Rows by classes: a single row is one of one, and leading axes are one if memory allows.
fn rows<T>(view: ArrayViewD<'_, T>) -> PyResult<ArrayView2<'_, T>> {
    match view.ndim() {
        1 => view.insert_axis(Axis(0)).into_dimensionality::<Ix2>().map_err(|e| bad(e.to_string())),
        2 => view.into_dimensionality::<Ix2>().map_err(|e| bad(e.to_string())),
        n => {
            let classes = view.shape().get(n.wrapping_sub(1)).copied().unwrap_or(0);
            let rows = view.len() / classes.max(1);
            view.into_shape_with_order((rows, classes)).map_err(|e| bad(e.to_string()))
        }
    }
}

fn rows_mut<T>(view: ArrayViewMutD<'_, T>) -> PyResult<ArrayViewMut2<'_, T>> {
    match view.ndim() {
        1 => view.insert_axis(Axis(0)).into_dimensionality::<Ix2>().map_err(|e| bad(e.to_string())),
        2 => view.into_dimensionality::<Ix2>().map_err(|e| bad(e.to_string())),
        n => {
            let classes = view.shape().get(n.wrapping_sub(1)).copied().unwrap_or(0);
            let rows = view.len() / classes.max(1);
            view.into_shape_with_order((rows, classes)).map_err(|e| bad(e.to_string()))
        }
    }
}

/// One number per row, contiguous.
fn flat<'a, T: Element, D: numpy::ndarray::Dimension>(
    array: &'a mut Option<PyReadwriteArray<'_, T, D>>,
    rows: usize,
) -> PyResult<Option<&'a mut [T]>> {
    let Some(array) = array else { return Ok(None) };
    let all = array.as_slice_mut().map_err(|_| bad("arrays must be contiguous"))?;
    if all.len() == rows { Ok(Some(all)) } else { Err(bad("arrays do not have one place per row")) }
}

fn slice<'a, T: Element, D: numpy::ndarray::Dimension>(
    array: &'a Option<PyReadonlyArray<'_, T, D>>,
    length: usize,
    what: &str,
) -> PyResult<Option<&'a [T]>> {
    let Some(array) = array else { return Ok(None) };
    let all = array.as_slice().map_err(|_| bad("arrays must be contiguous"))?;
    if all.len() == length { Ok(Some(all)) } else { Err(bad(format!("{what} must be {length} numbers"))) }
}

/// Softmax or log-softmax of `z` into `out`; of what stands in `out` where there is no `z`.
#[pyfunction]
pub fn softmax(
    py: Python<'_>,
    format: &str,
    z: Maybe<'_, '_>,
    out: Bound<'_, PyAny>,
    temperature: f64,
    log: bool,
    threads: usize,
) -> PyResult<()> {
    fn call<F: Format<Store: Element>>(
        py: Python<'_>,
        z: Maybe<'_, '_>,
        out: &Bound<'_, PyAny>,
        temperature: f64,
        log: bool,
        threads: usize,
    ) -> PyResult<()> {
        let z = read_all::<F::Store>(&z)?;
        let mut out = write::<F::Store>(out)?;
        let z = z.as_ref().map(|z| rows(z.as_array())).transpose()?;
        let out = rows_mut(out.as_array_mut())?;
        if z.as_ref().is_some_and(|z| z.dim() != out.dim()) {
            return Err(bad("out must have the shape of the logits"));
        }
        let question =
            Question::<F> { z, temperature, targets: Targets::None, terms: Terms::PLAIN, norm: 1.0 };
        let map = Some((if log { Map::LogSoftmax } else { Map::Softmax }, out));
        let answers = Answers { numbers: Numbers::NONE, map };
        py.detach(|| crate::passes::answer::<F, false>(level(), threads, &question, answers))
            .map(|_| ())
            .map_err(|BadLabel(row)| bad(format!("bad label at row {row}")))
    }
    by_format!(format, call, py, z, &out, temperature, log, threads)
}

/// The same for a small plain array, in a new one; `None` where it is not one.
#[pyfunction]
pub fn small_softmax<'py>(z: &Bound<'py, PyAny>, log: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    fn call<'py, T: Element + Real>(
        z: &Bound<'py, PyArrayDyn<T>>,
        log: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        const LARGEST: usize = 128;
        let aligned = (z.data() as usize).is_multiple_of(align_of::<T>());
        let (ndim, size) = (z.ndim(), z.len());
        if size > LARGEST || size == 0 || ndim > 2 || !z.is_c_contiguous() || !aligned {
            return Ok(None);
        }
        let Some(&classes) = z.shape().last() else { return Ok(None) };
        let mut all = z.to_vec().map_err(|error| bad(error.to_string()))?;
        if !packed::small_softmax(level(), &mut all, classes, log) {
            return Ok(None);
        }
        let answer = PyArray1::from_slice(z.py(), &all);
        Ok(Some(if ndim == 1 { answer.into_any() } else { answer.reshape(z.dims())?.into_any() }))
    }
    if !z.is_exact_instance_of::<PyUntypedArray>() {
        return Ok(None);
    }
    if let Ok(z) = z.cast::<PyArrayDyn<f32>>() {
        call(z, log)
    } else if let Ok(z) = z.cast::<PyArrayDyn<f64>>() {
        call(z, log)
    } else {
        Ok(None)
    }
}

/// What is asked of each row, the truth, and where the answers go.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Asking<'py> {
    temperature: f64,
    classes: Option<PyReadonlyArray1<'py, i64>>,
    shares: Option<Bound<'py, PyAny>>,
    class_weight: Option<PyReadonlyArray1<'py, f64>>,
    sample_weight: Option<PyReadonlyArray1<'py, f64>>,
    ignored: Option<i64>,
    smoothing: f64,
    z_loss: f64,
    /// What the gradient is divided by; none: by the sum of the rows' weights.
    norm: Option<f64>,
    lse: Option<Bound<'py, PyAny>>,
    at: Option<PyReadwriteArray1<'py, i64>>,
    max: Option<Bound<'py, PyAny>>,
    entropy: Option<Bound<'py, PyAny>>,
    loss: Option<Bound<'py, PyAny>>,
    gradient: Option<Bound<'py, PyAny>>,
}

/// Numbers of each row and the gradient, in one go; the sums of losses and weights, and the
/// first row whose label is no class.
#[pyfunction]
pub fn summarize(
    py: Python<'_>,
    format: &str,
    z: Maybe<'_, '_>,
    asking: Asking<'_>,
    threads: usize,
) -> PyResult<(f64, f64, Option<usize>)> {
    fn call<F: Format<Store: Element>>(
        py: Python<'_>,
        z: Maybe<'_, '_>,
        mut asking: Asking<'_>,
        threads: usize,
    ) -> PyResult<(f64, f64, Option<usize>)> {
        let z = read_all::<F::Store>(&z)?;
        let shares = read_all::<F::Store>(&asking.shares)?;
        let mut gradient = write_all::<F::Store>(&asking.gradient)?;
        let (mut lse, mut max) = (write_all::<F::Store>(&asking.lse)?, write_all::<F::Store>(&asking.max)?);
        let mut entropy = write_all::<F::Store>(&asking.entropy)?;
        let mut loss = write_all::<F::Store>(&asking.loss)?;
        let z = z.as_ref().map(|z| rows(z.as_array())).transpose()?;
        let gradient = gradient.as_mut().map(|out| rows_mut(out.as_array_mut())).transpose()?;
        let shares = shares.as_ref().map(|shares| rows(shares.as_array())).transpose()?;
        let Some(dim) = z.as_ref().map(|z| z.dim()).or(gradient.as_ref().map(|out| out.dim())) else {
            return Err(bad("there are no logits"));
        };
        let fits = gradient.as_ref().is_none_or(|out| out.dim() == dim)
            && shares.as_ref().is_none_or(|shares| shares.dim() == dim);
        if !fits {
            return Err(bad("logits, targets and out do not fit together"));
        }
        let targets = match (slice(&asking.classes, dim.0, "labels")?, shares) {
            (Some(classes), _) => Targets::Classes(classes),
            (None, Some(shares)) => Targets::Shares(shares),
            (None, None) => Targets::None,
        };
        let terms = Terms {
            class_weight: slice(&asking.class_weight, dim.1, "class weights")?,
            sample_weight: slice(&asking.sample_weight, dim.0, "sample weights")?,
            ignored: asking.ignored,
            smoothing: asking.smoothing,
            z_loss: asking.z_loss,
        };
        let mut norm = asking.norm.unwrap_or(1.0);
        if gradient.is_some() {
            // Before anything is overwritten.
            match py.detach(|| weigh::<F>(&targets, &terms, dim.1)) {
                Ok(weight) if asking.norm.is_none() && weight > 0.0 => norm = weight,
                Ok(_) => {}
                Err(BadLabel(row)) => return Ok((f64::NAN, f64::NAN, Some(row))),
            }
        }
        let question = Question::<F> { z, temperature: asking.temperature, targets, terms, norm };
        let spread = entropy.is_some();
        let numbers = Numbers {
            lse: flat(&mut lse, dim.0)?,
            at: flat(&mut asking.at, dim.0)?,
            max: flat(&mut max, dim.0)?,
            entropy: flat(&mut entropy, dim.0)?,
            loss: flat(&mut loss, dim.0)?,
        };
        let answers = Answers { numbers, map: gradient.map(|out| (Map::Gradient, out)) };
        let sums = py.detach(|| {
            if spread {
                crate::passes::answer::<F, true>(level(), threads, &question, answers)
            } else {
                crate::passes::answer::<F, false>(level(), threads, &question, answers)
            }
        });
        Ok(match sums {
            Ok(sums) => (sums.loss, sums.weight, None),
            Err(BadLabel(row)) => (f64::NAN, f64::NAN, Some(row)),
        })
    }
    by_format!(format, call, py, z, asking, threads)
}

/// The index of each row's largest logit.
#[pyfunction]
pub fn argmax(
    py: Python<'_>,
    format: &str,
    z: Bound<'_, PyAny>,
    mut out: PyReadwriteArray1<'_, i64>,
    threads: usize,
) -> PyResult<()> {
    fn call<F: Format<Store: Element>>(
        py: Python<'_>,
        z: &Bound<'_, PyAny>,
        out: &mut [i64],
        threads: usize,
    ) -> PyResult<()> {
        let z = read::<F::Store>(z)?;
        let z = rows(z.as_array())?;
        if out.len() != z.dim().0 || z.dim().1 == 0 {
            return Err(bad("arrays do not have one place per row"));
        }
        py.detach(|| rank::argmax::<F>(level(), threads, &z, out));
        Ok(())
    }
    let out = out.as_slice_mut().map_err(|_| bad("arrays must be contiguous"))?;
    by_format!(format, call, py, &z, out, threads)
}

/// The largest minus the second largest logit of each row.
#[pyfunction]
pub fn margin(
    py: Python<'_>,
    format: &str,
    z: Bound<'_, PyAny>,
    out: Bound<'_, PyAny>,
    threads: usize,
) -> PyResult<()> {
    fn call<F: Format<Store: Element>>(
        py: Python<'_>,
        z: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
        threads: usize,
    ) -> PyResult<()> {
        let z = read::<F::Store>(z)?;
        let z = rows(z.as_array())?;
        let mut out = Some(write::<F::Store>(out)?);
        let Some(out) = flat(&mut out, z.dim().0)? else { return Ok(()) };
        if z.dim().1 == 0 {
            return Err(bad("there are no classes"));
        }
        py.detach(|| rank::margin::<F>(level(), threads, &z, out));
        Ok(())
    }
    by_format!(format, call, py, &z, &out, threads)
}

/// The classes of the k largest logits of each row, the largest first.
#[pyfunction]
pub fn top_k(
    py: Python<'_>,
    format: &str,
    z: Bound<'_, PyAny>,
    out: Bound<'_, PyAny>,
    threads: usize,
) -> PyResult<()> {
    fn call<F: Format<Store: Element>>(
        py: Python<'_>,
        z: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
        threads: usize,
    ) -> PyResult<()> {
        let z = read::<F::Store>(z)?;
        let z = rows(z.as_array())?;
        let mut out = write::<i64>(out)?;
        let out = rows_mut(out.as_array_mut())?;
        if out.dim().0 != z.dim().0 || out.dim().1 > z.dim().1 || out.dim().1 == 0 {
            return Err(bad("arrays do not have k places per row"));
        }
        py.detach(|| rank::top_k::<F>(level(), threads, &z, out));
        Ok(())
    }
    by_format!(format, call, py, &z, &out, threads)
}

/// Sigmoids, losses of independent labels or their slopes; the sum of the losses.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn binary(
    py: Python<'_>,
    format: &str,
    z: Maybe<'_, '_>,
    y: Maybe<'_, '_>,
    out: Maybe<'_, '_>,
    what: &str,
    factor: f64,
    threads: usize,
) -> PyResult<f64> {
    fn call<F: Format<Store: Element>>(
        py: Python<'_>,
        arrays: [&Maybe<'_, '_>; 3],
        what: &str,
        factor: f64,
        threads: usize,
    ) -> PyResult<f64> {
        let [z, y, out] = arrays;
        let (z, y) = (read_all::<F::Store>(z)?, read_all::<F::Store>(y)?);
        let mut out = write_all::<F::Store>(out)?;
        let z = z.as_ref().map(|z| rows(z.as_array())).transpose()?;
        let y = y.as_ref().map(|y| rows(y.as_array())).transpose()?;
        let out = out.as_mut().map(|out| rows_mut(out.as_array_mut())).transpose()?;
        let dims =
            [z.as_ref().map(|z| z.dim()), y.as_ref().map(|y| y.dim()), out.as_ref().map(|out| out.dim())];
        let mut known = dims.into_iter().flatten();
        let first = known.next();
        if !known.all(|dim| Some(dim) == first) || (what != "sigmoid" && y.is_none()) {
            return Err(bad("logits, labels and out do not fit together"));
        }
        let asked = match (what, out) {
            ("sigmoid", Some(out)) => Asked::Sigmoid(out),
            ("loss", Some(out)) => Asked::Loss(out),
            ("loss", None) => Asked::Sum,
            ("gradient", Some(out)) => Asked::Gradient(out, factor),
            _ => return Err(bad("what must be sigmoid, loss or gradient, with a place for it")),
        };
        Ok(py.detach(|| crate::binary::answer::<F>(level(), threads, z, y, asked)))
    }
    by_format!(format, call, py, [&z, &y, &out], what, factor, threads)
}
