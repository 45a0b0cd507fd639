//! Python objects -> Rust values, with an `ArgumentError` that names the argument.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyInt, PyString};

use crate::errors;

/// An optional argument as it came.
pub(crate) type Given<'py> = Option<Bound<'py, PyAny>>;

fn wrong(value: &Bound<'_, PyAny>, name: &str, wanted: &str) -> PyErr {
    let py = value.py();
    let class = value.get_type().name().map(|n| n.to_string()).unwrap_or_default();
    let shown = value
        .repr()
        .ok()
        .and_then(|r| r.to_str().ok().map(str::to_owned))
        .filter(|r| r.chars().count() <= 60);
    let got = shown.map_or_else(|| class.clone(), |shown| format!("{shown} ({class})"));
    errors::argument(py, name, &format!("{name}: got {got}, wanted {wanted}"))
}

/// A whole number of at least 1 that fits in 31 bits; `bool` is none, numpy's integers are.
pub(crate) fn size(name: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    whole_number(name, value, 1)
}

fn whole_number(name: &str, value: &Bound<'_, PyAny>, least: usize) -> PyResult<usize> {
    let refuse = || wrong(value, name, &format!("a whole number from {least} to 2147483647"));
    if value.is_instance_of::<PyBool>() {
        return Err(refuse());
    }
    let number = if value.is_instance_of::<PyInt>() {
        value.clone()
    } else {
        value.call_method0("__index__").map_err(|_| refuse())?
    };
    let number: i64 = number.extract().map_err(|_| refuse())?;
    usize::try_from(number).ok().filter(|n| (least..1 << 31).contains(n)).ok_or_else(refuse)
}

pub(crate) fn optional_size(name: &str, value: &Given<'_>) -> PyResult<Option<usize>> {
    value.as_ref().map(|value| size(name, value)).transpose()
}

/// The same, but 0 is one too.
pub(crate) fn optional_count(name: &str, value: &Given<'_>) -> PyResult<Option<usize>> {
    value.as_ref().map(|value| whole_number(name, value, 0)).transpose()
}

pub(crate) fn optional_bool(name: &str, value: &Given<'_>) -> PyResult<Option<bool>> {
    let read = |value: &Bound<'_, PyAny>| match value.cast::<PyBool>() {
        Ok(flag) => Ok(flag.is_true()),
        Err(_) => Err(wrong(value, name, "True, False or None")),
    };
    value.as_ref().map(read).transpose()
}

/// A string without lone surrogates.
pub(crate) fn string(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = value.cast::<PyString>().map_err(|_| wrong(value, name, "a str"))?;
    Ok(text.to_str().map_err(|_| wrong(value, name, "a str without lone surrogates"))?.to_owned())
}

pub(crate) fn optional_string(name: &str, value: &Given<'_>) -> PyResult<Option<String>> {
    value.as_ref().map(|value| string(name, value)).transpose()
}

pub(crate) fn optional_strings(name: &str, value: &Given<'_>) -> PyResult<Option<Vec<String>>> {
    let read = |value| Ok(texts(name, value)?.iter().map(|text| text.to_string()).collect());
    value.as_ref().map(read).transpose()
}

/// The texts of any iterable of strings that is not itself a string: copied nowhere, checked one by one.
pub(crate) fn texts(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<PyBackedStr>> {
    const WANTED: &str = "a list of str";
    if value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
    {
        return Err(wrong(value, name, "a list of str; put a single text in a list"));
    }
    if value.is_instance_of::<PyDict>() {
        return Err(wrong(value, name, WANTED));
    }
    let iterator = value.try_iter().map_err(|_| wrong(value, name, WANTED))?;
    let read = |(index, item): (usize, PyResult<Bound<'_, PyAny>>)| {
        let item = item?;
        let place = format!("{name}[{index}]");
        let named = |wanted: &str| {
            let message = wrong(&item, &place, wanted).value(item.py()).to_string();
            errors::argument(item.py(), name, &message)
        };
        let text = item.cast::<PyString>().map_err(|_| named("a str"))?;
        PyBackedStr::try_from(text.clone()).map_err(|_| named("a str without lone surrogates"))
    };
    iterator.enumerate().map(read).collect()
}
