//! `Muvera`: the core's, with numpy on both sides.

use chandelier::{Cpu, MuveraOptions};
use numpy::{PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, ToPyArray};
use pyo3::prelude::*;

use crate::arrays::{Texts, matrix};
use crate::detach::{detached, detached_with_progress};

/// Random hyperplanes and signs. Nothing in it changes, so threads may share it.
#[pyclass(frozen, module = "chandelier._core")]
pub(crate) struct Muvera {
    inner: chandelier::Muvera,
}

#[pymethods]
impl Muvera {
    #[new]
    fn new(
        py: Python<'_>,
        dim: usize,
        ksim: usize,
        dprojections: usize,
        repetitions: usize,
        seed: u128,
    ) -> PyResult<Self> {
        let options = MuveraOptions { ksim, dprojections, repetitions, seed };
        let inner = detached(py, move || chandelier::Muvera::new(dim, &options, Cpu::detect()?))?;
        Ok(Self { inner })
    }

    /// The length of an encoding.
    #[getter]
    fn size(&self) -> usize {
        self.inner.size()
    }

    /// The implementation and everything that this was made with.
    #[getter]
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    /// (repetitions, dim, ksim) float64.
    fn hyperplanes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<f64>>> {
        let options = self.inner.options();
        self.inner.hyperplanes().to_pyarray(py).reshape([options.repetitions, self.inner.dim(), options.ksim])
    }

    /// (repetitions, dim, dprojections) int8, or (repetitions, dim, 0) if nothing is projected.
    fn signs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<i8>>> {
        let options = self.inner.options();
        let signs = self.inner.signs();
        let shape =
            [options.repetitions, self.inner.dim(), if signs.is_empty() { 0 } else { options.dprojections }];
        signs.to_pyarray(py).reshape(shape)
    }

    /// One encoding a text, (texts, size).
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        offsets: Option<PyReadonlyArray1<'py, i64>>,
        is_query: bool,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let texts = Texts::new(texts, offsets.as_ref())?;
        let texts = texts.view(self.inner.dim())?;
        let (encodings, count) = detached_with_progress(py, None, move |observer| {
            let texts = texts?;
            let encodings = if is_query {
                self.inner.encode_queries(&texts, observer)?
            } else {
                self.inner.encode_documents(&texts, observer)?
            };
            Ok((encodings, texts.len()))
        })?;
        matrix(py, (count, self.inner.size()), encodings)
    }
}
