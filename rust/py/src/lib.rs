//! `chandelier._core`: registration only.

mod arguments;
mod arrays;
mod build;
mod detach;
mod errors;
mod maths;
mod model;
mod multivectors;
mod muvera;
mod plaid;
mod recall;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // The first array imports numpy's C API, which panics if Ctrl-C comes in between: better now than in a call.
    numpy::PyArray1::<f32>::from_slice(module.py(), &[]);
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<model::Model>()?;
    module.add_class::<muvera::Muvera>()?;
    module.add_class::<plaid::PlaidBuilder>()?;
    module.add_class::<plaid::PlaidSegment>()?;
    module.add_class::<recall::Candidates>()?;
    module.add_function(wrap_pyfunction!(build::build_info, module)?)?;
    module.add_function(wrap_pyfunction!(maths::maxsim, module)?)?;
    module.add_function(wrap_pyfunction!(maths::maxsim_matrix, module)?)?;
    module.add_function(wrap_pyfunction!(maths::top_k, module)?)?;
    module.add_function(wrap_pyfunction!(maths::top_k_each, module)?)?;
    module.add_function(wrap_pyfunction!(maths::mean_vectors, module)?)?;
    module.add_function(wrap_pyfunction!(maths::pool_tokens, module)?)?;
    module.add_function(wrap_pyfunction!(plaid::plaid_partitions, module)?)?;
    module.add_function(wrap_pyfunction!(recall::share_found, module)?)?;
    module.add_function(wrap_pyfunction!(multivectors::short_decimals, module)?)?;
    module.add_function(wrap_pyfunction!(multivectors::check_rows, module)?)?;
    module.add_function(wrap_pyfunction!(multivectors::save_multivectors, module)?)?;
    module.add_function(wrap_pyfunction!(multivectors::locate_multivectors, module)?)?;
    module.add_function(wrap_pyfunction!(multivectors::load_multivectors, module)?)?;
    Ok(())
}
