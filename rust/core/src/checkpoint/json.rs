//! Typed reads from a JSON object that remember file and key.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::Place;

/// A JSON object read from a file. A key that is absent or `null` reads as `None`; a key of the wrong type is an
/// error that names file, key, what came and what was wanted.
#[derive(Debug, Clone)]
pub(crate) struct JsonFile {
    pub(crate) path: PathBuf,
    object: Map<String, Value>,
}

/// Reads any JSON document; `hint` says what the file is for, should it be missing.
pub(crate) fn read_value(file: &Place, hint: &str) -> Result<Value> {
    let bytes = file.read(hint)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::model(file.path(), "", format!("not valid JSON: {e}")))
}

impl JsonFile {
    pub(crate) fn open(file: &Place, hint: &str) -> Result<Self> {
        Self::nested(file.path(), read_value(file, hint)?)
    }

    /// An optional file: absent reads as an empty object.
    pub(crate) fn open_optional(file: &Place) -> Result<Self> {
        if file.stands() {
            return Self::open(file, "a link that leads nowhere; fetch the checkpoint again");
        }
        Ok(Self { path: file.path().to_owned(), object: Map::new() })
    }

    /// An object that stands inside `path`.
    pub(crate) fn nested(path: &Path, value: Value) -> Result<Self> {
        match value {
            Value::Object(object) => Ok(Self { path: path.to_owned(), object }),
            other => Err(Error::model(path, "", format!("got {}, wanted a JSON object", kind(&other)))),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::model(&self.path, key, problem)
    }

    /// The key must be there.
    pub(crate) fn require<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Self, &str) -> Result<Option<T>>,
    ) -> Result<T> {
        read(self, key)?.ok_or_else(|| self.error(key, format!("missing, wanted {wanted}")))
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// A whole number that fits in 32 bits, the range of every size in a checkpoint.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>> {
        self.read(key, "a whole number from 1 to 4294967295", |v| {
            v.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n >= 1).map(|n| n as usize)
        })
    }

    /// A whole number from 0 on, such as a token id.
    pub(crate) fn index(&self, key: &str) -> Result<Option<u32>> {
        self.read(key, "a whole number from 0 to 4294967295", |v| {
            v.as_u64().and_then(|n| u32::try_from(n).ok())
        })
    }

    /// A list of whole numbers from 0 on.
    pub(crate) fn indices(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.read(key, "a list of whole numbers from 0 to 4294967295", |v| {
            v.as_array()?.iter().map(|n| n.as_u64().and_then(|n| u32::try_from(n).ok())).collect()
        })
    }

    /// An object inside this one.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>> {
        let nested = |v: &Value| Some(Self { path: self.path.clone(), object: v.as_object()?.clone() });
        self.read(key, "an object", nested)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.object.keys().map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.object.is_empty()
    }

    /// Whether the key is there and says `null`.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(Value::is_null)
    }

    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number above 0", |v| v.as_f64().filter(|x| x.is_finite() && *x > 0.0))
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<String>> {
        self.read(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.read(key, "a list of strings", |v| {
            v.as_array()?.iter().map(|w| w.as_str().map(str::to_owned)).collect()
        })
    }

    pub(crate) fn string_map(&self, key: &str) -> Result<Option<Vec<(String, String)>>> {
        self.read(key, "an object of strings", |v| {
            v.as_object()?.iter().map(|(k, w)| w.as_str().map(|w| (k.clone(), w.to_owned()))).collect()
        })
    }

    fn read<T>(&self, key: &str, wanted: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(t) => Ok(Some(t)),
            None => Err(self.error(key, format!("got {}, wanted {wanted}", brief(value)))),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The value as it would be quoted in a message: whole if short, else by kind.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { kind(value).to_owned() }
}
