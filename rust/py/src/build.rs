//! What this build is, so that a benchmark can refuse a slow one.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors;

/// How the extension was compiled and what the processor offers it.
#[pyfunction]
pub(crate) fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    info.set_item("target", format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS))?;
    let cpu = chandelier::Cpu::detect().map_err(|e| errors::to_python(py, &e))?;
    info.set_item("kernels", chandelier::device::kernels().map_err(|e| errors::to_python(py, &e))?)?;
    info.set_item("simd", cpu.simd.name())?;
    info.set_item("default_threads", cpu.threads)?;
    Ok(info)
}
