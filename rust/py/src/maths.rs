//! Scores and single vectors from multi-vectors.

use chandelier::{Cpu, MultiVectorsView, Pooling};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{Ragged, Texts, matrix, offsets_to_numpy, selected};
use crate::detach::detached_with_progress;
use crate::errors;

type Data<'py> = PyReadonlyArray2<'py, f32>;
type Offsets<'py> = PyReadonlyArray1<'py, i64>;
type Indices<'py> = PyReadonlyArray1<'py, i64>;

/// Indices and scores.
type Best<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f32>>);

/// Rows and offsets.
type Pooled<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>);

/// The MaxSim scores (queries, documents).
#[pyfunction]
pub(crate) fn maxsim_matrix<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    query_offsets: Offsets<'py>,
    documents: &Bound<'py, PyAny>,
    offsets: Option<Offsets<'py>>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let queries = Texts::new(queries, Some(&query_offsets))?;
    let queries = queries.view(0)?.map_err(|e| errors::to_python(py, &e))?;
    let documents = Texts::new(documents, offsets.as_ref())?;
    let documents = documents.view(queries.dim())?;
    let (scores, shape) = detached_with_progress(py, None, move |observer| {
        let documents = documents?;
        let shape = (queries.len(), documents.len());
        Ok((chandelier::maxsim_matrix(&queries, &documents, Cpu::detect()?, observer)?, shape))
    })?;
    matrix(py, shape, scores)
}

/// The MaxSim scores against one query, (documents,) or (subset,).
#[pyfunction]
pub(crate) fn maxsim<'py>(
    py: Python<'py>,
    query: Data<'py>,
    documents: &Bound<'py, PyAny>,
    offsets: Option<Offsets<'py>>,
    subset: Option<Indices<'py>>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (dim, query) = (query.shape()[1], query.as_slice()?);
    let documents = Texts::new(documents, offsets.as_ref())?;
    let documents = selected(documents.view(dim)?, subset.as_ref())?;
    let scores = detached_with_progress(py, None, move |observer| {
        chandelier::maxsim_with(query, &documents?, Cpu::detect()?, observer)
    })?;
    Ok(scores.into_pyarray(py))
}

/// Indices and scores of the k best documents, or of those of a subset.
#[pyfunction]
pub(crate) fn top_k<'py>(
    py: Python<'py>,
    query: Data<'py>,
    documents: &Bound<'py, PyAny>,
    offsets: Option<Offsets<'py>>,
    k: &Bound<'py, PyAny>,
    subset: Option<Indices<'py>>,
) -> PyResult<Best<'py>> {
    let k = crate::arguments::size("k", k)?;
    let (dim, query) = (query.shape()[1], query.as_slice()?);
    let documents = Texts::new(documents, offsets.as_ref())?;
    let documents = selected(documents.view(dim)?, subset.as_ref())?;
    let best = detached_with_progress(py, None, move |observer| {
        chandelier::top_k(query, &documents?, k, Cpu::detect()?, observer)
    })?;
    let (indices, scores): (Vec<i64>, Vec<f32>) =
        best.into_iter().map(|(index, score)| (index as i64, score)).unzip();
    Ok((indices.into_pyarray(py), scores.into_pyarray(py)))
}

/// One unit vector a text, (texts, dim).
#[pyfunction]
pub(crate) fn mean_vectors<'py>(
    py: Python<'py>,
    dim: usize,
    texts: &Bound<'py, PyAny>,
    offsets: Option<Offsets<'py>>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let texts = Texts::new(texts, offsets.as_ref())?;
    let texts = texts.view(dim)?;
    let (vectors, count) = detached_with_progress(py, None, move |observer| {
        let texts = texts?;
        Ok((chandelier::mean_vectors(&texts, Cpu::detect()?, observer)?, texts.len()))
    })?;
    matrix(py, (count, dim), vectors)
}

/// Indices (queries, k) of the k best documents of each query.
#[pyfunction]
pub(crate) fn top_k_each<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    query_offsets: Offsets<'py>,
    documents: &Bound<'py, PyAny>,
    offsets: Option<Offsets<'py>>,
    k: usize,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let queries = Texts::new(queries, Some(&query_offsets))?;
    let queries = queries.view(0)?.map_err(|e| errors::to_python(py, &e))?;
    let documents = Texts::new(documents, offsets.as_ref())?;
    let documents = documents.view(queries.dim())?;
    let best = detached_with_progress(py, None, move |observer| {
        chandelier::top_k_each(&queries, &documents?, k, Cpu::detect()?, observer)
    })?;
    let indices: Vec<i64> = best.iter().flatten().map(|(index, _)| *index as i64).collect();
    matrix(py, (best.len(), indices.len() / best.len().max(1)), indices)
}

/// Rows and offsets of pooled documents.
#[pyfunction]
pub(crate) fn pool_tokens<'py>(
    py: Python<'py>,
    data: Data<'py>,
    offsets: Offsets<'py>,
    pool_factor: f64,
    protected_tokens: usize,
) -> PyResult<Pooled<'py>> {
    let documents = Ragged::new(data, &offsets)?;
    let (data, offsets, dim) = documents.parts()?;
    let options = Pooling { factor: pool_factor, protected: protected_tokens, normalize: false };
    let (data, offsets) = detached_with_progress(py, None, move |observer| {
        let documents = MultiVectorsView::new(data, offsets, dim)?;
        let pooled = chandelier::pool_tokens(documents, &options, Cpu::detect()?, observer)?;
        let (data, offsets, _) = pooled.into_parts();
        Ok((data, offsets_to_numpy(offsets)?))
    })?;
    let rows = data.len() / dim;
    Ok((matrix(py, (rows, dim), data)?, offsets.into_pyarray(py)))
}
