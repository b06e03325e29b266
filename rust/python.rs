//! The only file that knows Python.
use pyo3::prelude::*;

/// The native core of Logitext.
#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
