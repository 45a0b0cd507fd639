//! JavaScript values -> Rust values, with an `ArgumentError` that names the argument.

use js_sys::{Array, Float32Array, Function, JsString, Object, Reflect, Uint8Array, Uint32Array};
use wasm_bindgen::prelude::*;

use crate::door::{self, Result, Thrown};

fn wrong(name: &str, value: &JsValue, wanted: &str) -> Thrown {
    door::argument(name, &brief(value), wanted)
}

/// The value as a message quotes it: whole if short and plain, else by kind.
fn brief(value: &JsValue) -> String {
    if let Some(text) = value.as_string() {
        return if text.chars().count() <= 60 { format!("{text:?}") } else { "a long string".to_owned() };
    }
    if let Some(number) = value.as_f64() {
        return number.to_string();
    }
    if value.is_null() || value.is_undefined() || value.as_bool().is_some() {
        return format!("{value:?}").trim_start_matches("JsValue(").trim_end_matches(')').to_owned();
    }
    if Array::is_array(value) {
        return "an array".to_owned();
    }
    let class =
        Reflect::get(value, &"constructor".into()).ok().and_then(|class| class.dyn_into::<Function>().ok());
    class.map(|class| class.name().into()).or_else(|| value.js_typeof().as_string()).unwrap_or_default()
}

pub(crate) fn string(name: &str, value: &JsValue) -> Result<String> {
    let text = value.dyn_ref::<JsString>().ok_or_else(|| wrong(name, value, "a string"))?;
    if !text.is_valid_utf16() {
        return Err(door::argument(
            name,
            "a string with half a surrogate pair",
            "a string of whole characters",
        ));
    }
    Ok(text.into())
}

/// An array, and not one string, which has characters too.
pub(crate) fn strings(name: &str, value: &JsValue) -> Result<Vec<String>> {
    let array = value.dyn_ref::<Array>().ok_or_else(|| wrong(name, value, "an array of strings"))?;
    array.iter().enumerate().map(|(index, item)| string(&format!("{name}[{index}]"), &item)).collect()
}

pub(crate) fn boolean(name: &str, value: &JsValue) -> Result<bool> {
    value.as_bool().ok_or_else(|| wrong(name, value, "true or false"))
}

pub(crate) fn number(name: &str, value: &JsValue) -> Result<f64> {
    value.as_f64().ok_or_else(|| wrong(name, value, "a number"))
}

/// A whole number from `least` on that fits in 31 bits.
pub(crate) fn whole_number(name: &str, value: &JsValue, least: u32) -> Result<usize> {
    let fits = |number: &f64| number.fract() == 0.0 && (f64::from(least)..2_147_483_648.0).contains(number);
    let wanted = || wrong(name, value, &format!("a whole number from {least} to 2147483647"));
    value.as_f64().filter(fits).map(|number| number as usize).ok_or_else(wanted)
}

pub(crate) fn floats(name: &str, value: &JsValue) -> Result<Vec<f32>> {
    let array = value.dyn_ref::<Float32Array>().ok_or_else(|| wrong(name, value, "a Float32Array"))?;
    let mut copy = room(name, value, array.length(), 0.0)?;
    array.copy_to(&mut copy);
    Ok(copy)
}

pub(crate) fn offsets(name: &str, value: &JsValue) -> Result<Vec<usize>> {
    let array = value.dyn_ref::<Uint32Array>().ok_or_else(|| wrong(name, value, "a Uint32Array"))?;
    let mut copy = room(name, value, array.length(), 0)?;
    array.copy_to(&mut copy);
    Ok(copy.into_iter().map(|offset| offset as usize).collect())
}

pub(crate) fn bytes(name: &str, value: &JsValue) -> Result<Vec<u8>> {
    let array = value.dyn_ref::<Uint8Array>().ok_or_else(|| wrong(name, value, "a Uint8Array"))?;
    let mut copy = room(name, value, array.length(), 0)?;
    array.copy_to(&mut copy);
    Ok(copy)
}

/// Where there is no room, the allocator would end the call.
fn room<T: Copy>(name: &str, array: &JsValue, length: u32, zero: T) -> Result<Vec<T>> {
    if length == 0 && is_detached(array) {
        let got = format!("{} whose memory was transferred", brief(array));
        return Err(door::argument(name, &got, "one that is whole: transfer a copy, or pass it first"));
    }
    let mut values = Vec::new();
    let fits = values.try_reserve_exact(length as usize);
    let wanted = "no more than fits into the 4 GB of WebAssembly's memory";
    fits.map_err(|_| door::argument(name, &format!("{length} values"), wanted))?;
    values.resize(length as usize, zero);
    Ok(values)
}

/// Whether another thread has an array's memory now: no view of it can be made.
fn is_detached(array: &JsValue) -> bool {
    let view_anew = || {
        let class = Reflect::get(&js_sys::global(), &"DataView".into())?.dyn_into::<Function>()?;
        Reflect::construct(&class, &Array::of1(&Reflect::get(array, &"buffer".into())?))
    };
    view_anew().is_err()
}

/// The entries of a plain object; none of undefined.
pub(crate) fn entries(name: &str, value: &JsValue, wanted: &str) -> Result<Vec<(String, JsValue)>> {
    if value.is_undefined() {
        return Ok(Vec::new());
    }
    let is_record = !Array::is_array(value) && !value.is_function();
    let object = value.dyn_ref::<Object>().filter(|_| is_record).ok_or_else(|| wrong(name, value, wanted))?;
    let pair = |entry: JsValue| {
        let pair: Array = entry.unchecked_into();
        Ok((string(name, &pair.get(0))?, pair.get(1)))
    };
    Object::entries(object).iter().map(pair).collect()
}

/// The options that were given, each told to `take` by its name; one that it does not know is refused.
pub(crate) fn options(
    value: &JsValue,
    known: &[&str],
    mut take: impl FnMut(&str, &JsValue) -> Result<()>,
) -> Result<()> {
    for (name, value) in entries("options", value, "an object of options")? {
        if !known.contains(&name.as_str()) {
            return Err(door::argument("options", &format!("{name:?}"), &format!("some of {known:?}")));
        }
        if !value.is_undefined() {
            take(&name, &value)?;
        }
    }
    Ok(())
}
