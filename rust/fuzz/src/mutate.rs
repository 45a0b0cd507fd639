//! Changes to an input that leave it JSON, where it is some, and leave the line that names its file alone.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

use crate::seeds;

/// Changes `data[start..size]`; the new size.
pub(crate) fn mutate(data: &mut [u8], start: usize, size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(seed.into());
    if random.below(3) > 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(&data[start..size])
    {
        for _ in 0..=random.below(3) {
            exchange(&mut value, &mut random);
        }
        let text = value.to_string();
        let end = start + text.len();
        if end <= max_size && text.as_bytes() != &data[start..size] {
            data[start..end].copy_from_slice(text.as_bytes());
            return end;
        }
    }
    start + fuzzer_mutate(&mut data[start..], size - start, max_size - start)
}

/// One change somewhere: every level of the document has the same chance, however wide it is.
fn exchange(root: &mut Value, random: &mut Random) {
    let other = place(&mut root.clone(), random).clone();
    let node = place(root, random);
    match (random.below(8), &mut *node) {
        (0 | 1, Value::Number(number)) => {
            let old = number.as_i64().unwrap_or(1);
            let near = [old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2), old / 2];
            *node = json!(near[random.below(near.len())]);
        }
        (0, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            map.remove(&key);
        }
        (1, Value::Object(map)) => {
            let key = map.keys().nth(random.below(map.len().max(1))).cloned().unwrap_or_default();
            map.insert(format!("{key}{}", random.below(10)), other);
        }
        (0, Value::Array(list)) if !list.is_empty() => {
            list.remove(random.below(list.len()));
        }
        (1, Value::Array(list)) => list.insert(random.below(list.len() + 1), other),
        (0, Value::String(text)) => {
            let end =
                text.char_indices().nth(random.below(text.chars().count().max(1))).map_or(0, |(at, _)| at);
            text.truncate(end);
        }
        (1, Value::String(text)) => text.push_str(&text.clone()),
        (2, _) => *node = other,
        (3, _) => *node = json!([node.take()]),
        (4, _) => {
            let parts = seeds::parts();
            let (key, part) = parts[random.below(parts.len())].clone();
            match root.get_mut(key) {
                Some(old) => *old = part,
                None => *place(root, random) = part,
            }
        }
        _ => {
            let old = std::mem::discriminant(&*node);
            *node = interesting(random);
            // Another value of the same kind gets further.
            for _ in 0..random.below(16) {
                if std::mem::discriminant(&*node) == old {
                    break;
                }
                *node = interesting(random);
            }
        }
    }
}

/// A value on the way down from the root.
fn place<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let width = match value {
        Value::Object(map) => map.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if width == 0 || random.below(6) == 0 {
        return value;
    }
    let index = random.below(width);
    match value {
        Value::Object(map) => match map.values_mut().nth(index) {
            Some(inner) => place(inner, random),
            None => unreachable!("below the length"),
        },
        Value::Array(list) => place(&mut list[index], random),
        _ => unreachable!("only the two have a width"),
    }
}

fn interesting(random: &mut Random) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(7),
        json!(64),
        json!(8192),
        json!(128_000),
        json!(i32::MAX),
        json!(u32::MAX - 1),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(1e-300),
        json!(0.5),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("a"),
        json!("[MASK]"),
        json!("\u{2581}"),
        json!("\u{1f35e}"),
        json!(".*"),
        json!("()"),
        json!("(a*)*b"),
        json!("../x"),
        json!([]),
        json!({}),
    ];
    values[random.below(values.len())].clone()
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}
