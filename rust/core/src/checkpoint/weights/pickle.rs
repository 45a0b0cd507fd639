//! The part of the pickle language in which `torch.save` writes a dictionary of tensors, and nothing else.
//!
//! A pickle is a program that may call anything; this reader runs none of it. It knows the few words that stand for
//! tensors (those that PyTorch's own `weights_only` loading knows) and refuses all others by name. candle has a reader
//! too, but that one passes over what it does not know, and its memory and its stack are at the mercy of the file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use safetensors::Dtype;

/// A tensor as the pickle describes it; its elements stand in a storage beside the pickle.
#[derive(Debug)]
pub(super) struct PickledTensor {
    pub(super) storage: Rc<Storage>,
    /// In elements, as are the strides.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The elements of one or more tensors.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) dtype: Dtype,
    pub(super) key: Rc<str>,
    pub(super) elements: usize,
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy)]
enum Class {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

/// Tensors are all that a dictionary keeps: what else stands in it (a step counter, say) is nobody's business.
type Dict = Rc<RefCell<Vec<(Rc<str>, Rc<PickledTensor>)>>>;

#[derive(Debug, Clone)]
enum Value {
    Mark,
    Class(Class),
    Text(Rc<str>),
    Int(i64),
    Tuple {
        items: Rc<[Value]>,
        depth: usize,
    },
    Dict(Dict),
    Storage(Rc<Storage>),
    Tensor(Rc<PickledTensor>),
    /// None, a truth value or a fraction.
    Plain,
}

/// Tuples in tuples: the arguments of a parameter reach 3, and a deeper one could exhaust the stack.
const DEEPEST_TUPLE: usize = 8;

/// Sizes fit in 32 bits everywhere in a checkpoint, so that no product of a few of them overflows unseen.
const LARGEST: i64 = u32::MAX as i64;

/// The dimensions of a tensor: that of a convolution has four. A few bytes name a shape again and again.
const MOST_DIMENSIONS: usize = 16;

/// Values on the stack or in the memo: pickles are written in batches of a thousand items, and a few bytes of a hostile
/// one make many values.
const MOST_VALUES: usize = 1 << 18;

type Read<T> = Result<T, String>;

/// The tensors of a pickled dictionary, in its order; the error says what the pickle asks for instead.
pub(super) fn tensors(pickle: &[u8]) -> Read<Vec<(Rc<str>, Rc<PickledTensor>)>> {
    let mut machine = Machine { input: pickle, stack: Vec::new(), memo: HashMap::new() };
    while machine.step()? {}
    match machine.pop()? {
        Value::Dict(dict) => Ok(dict.take()),
        other => Err(format!("holds {}, wanted a dictionary of tensors", other.kind())),
    }
}

struct Machine<'a> {
    input: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    /// Does one operation; false at the end of the program.
    fn step(&mut self) -> Read<bool> {
        let [code] = self.take()?;
        if self.stack.len() > MOST_VALUES || self.memo.len() > MOST_VALUES {
            return Err(format!("keeps more than {MOST_VALUES} values at once"));
        }
        match code {
            b'.' => return Ok(false),
            0x80 => drop(self.take::<1>()?), // protocol
            b'(' => self.stack.push(Value::Mark),
            b'c' => {
                let class = Class::named(self.line()?, self.line()?)?;
                self.stack.push(Value::Class(class));
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take()?) as usize;
                let text = self.input.split_off(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
                self.stack.push(Value::Text(text.ok_or("a string is cut short or not UTF-8")?.into()));
            }
            b'K' => {
                let [byte] = self.take()?;
                self.stack.push(Value::Int(byte.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let long = self.long()?;
                self.stack.push(Value::Int(long));
            }
            b'G' => {
                self.take::<8>()?;
                self.stack.push(Value::Plain);
            }
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Plain),
            b'}' => self.stack.push(Value::Dict(Dict::default())),
            b')' => self.tuple(self.stack.len())?,
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                self.tuple(self.stack.len().checked_sub(count).ok_or("a tuple of more than there is")?)?;
            }
            b't' => {
                let mark = self.mark()?;
                self.stack.remove(mark);
                self.tuple(mark)?;
            }
            b'q' => {
                let [slot] = self.take()?;
                self.memoize(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.take()?);
                self.memoize(slot)?;
            }
            b'h' => {
                let [slot] = self.take()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.take()?);
                self.recall(slot)?;
            }
            b'Q' => {
                let storage = storage(self.pop()?)?;
                self.stack.push(Value::Storage(storage));
            }
            b'R' => {
                let arguments = self.pop_tuple()?;
                let made = match self.pop()? {
                    Value::Class(class) => class.call(&arguments)?,
                    other => return Err(format!("calls {}, wanted a tensor's constructor", other.kind())),
                };
                self.stack.push(made);
            }
            b's' => self.set_items(self.stack.len().checked_sub(2).ok_or("an item without a dictionary")?)?,
            b'u' => {
                let mark = self.mark()?;
                self.stack.remove(mark);
                self.set_items(mark)?;
            }
            // The attributes of a dictionary: PyTorch notes the versions of its modules there.
            b'b' => match (self.pop()?, self.stack.last()) {
                (Value::Dict(_), Some(Value::Dict(_))) => {}
                _ => return Err("gives attributes to something that is no dictionary".to_owned()),
            },
            other => return Err(format!("operation {other:#04x}, which no dictionary of tensors needs")),
        }
        Ok(true)
    }

    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (bytes, rest) = self.input.split_first_chunk::<N>().ok_or("is cut short")?;
        self.input = rest;
        Ok(*bytes)
    }

    fn line(&mut self) -> Read<String> {
        let end = self.input.iter().position(|&byte| byte == b'\n').ok_or("is cut short")?;
        let line = String::from_utf8_lossy(&self.input[..end]).trim_end_matches('\r').to_owned();
        self.input = &self.input[end + 1..];
        Ok(line)
    }

    /// A whole number of up to eight bytes, little endian, two's complement.
    fn long(&mut self) -> Read<i64> {
        let [length] = self.take()?;
        if length > 8 {
            return Err(format!("a whole number of {length} bytes"));
        }
        let mut value = 0_i64;
        for index in 0..length {
            let [byte] = self.take()?;
            value |= i64::from(byte) << (8 * index);
        }
        let unused = 64 - 8 * u32::from(length);
        Ok(if length == 0 { 0 } else { value.wrapping_shl(unused) >> unused })
    }

    fn pop(&mut self) -> Read<Value> {
        self.stack.pop().ok_or_else(|| "takes from an empty stack".to_owned())
    }

    fn pop_tuple(&mut self) -> Read<Rc<[Value]>> {
        match self.pop()? {
            Value::Tuple { items, .. } => Ok(items),
            other => Err(format!("calls with {}, wanted a tuple", other.kind())),
        }
    }

    fn mark(&self) -> Read<usize> {
        let found = self.stack.iter().rposition(|value| matches!(value, Value::Mark));
        found.ok_or_else(|| "a list without a beginning".to_owned())
    }

    /// Everything from `start` on becomes one tuple.
    fn tuple(&mut self, start: usize) -> Read<()> {
        let items: Rc<[Value]> = self.stack.drain(start..).collect();
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        if depth > DEEPEST_TUPLE {
            return Err(format!("tuples in tuples, more than {DEEPEST_TUPLE} deep"));
        }
        self.stack.push(Value::Tuple { items, depth });
        Ok(())
    }

    fn memoize(&mut self, slot: u32) -> Read<()> {
        let value = self.stack.last().ok_or("remembers the top of an empty stack")?;
        self.memo.insert(slot, value.clone());
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Read<()> {
        let value =
            self.memo.get(&slot).ok_or_else(|| format!("recalls {slot}, which it never remembered"))?;
        self.stack.push(value.clone());
        Ok(())
    }

    /// Puts the keys and values from `start` on into the dictionary below them.
    fn set_items(&mut self, start: usize) -> Read<()> {
        let items: Vec<Value> = self.stack.drain(start..).collect();
        let Some(Value::Dict(dict)) = self.stack.last() else {
            return Err("an item without a dictionary".to_owned());
        };
        for pair in items.chunks(2) {
            match pair {
                [Value::Text(key), Value::Tensor(tensor)] => {
                    dict.borrow_mut().push((key.clone(), tensor.clone()));
                }
                [_, _] => {}
                _ => return Err("a key without a value".to_owned()),
            }
        }
        Ok(())
    }
}

impl Class {
    fn named(module: String, name: String) -> Read<Self> {
        Ok(match (module.as_str(), name.as_str()) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Self::Storage(Dtype::BOOL),
            _ => {
                return Err(format!(
                    "asks for {}.{}, wanted tensors only: a pickle that asks for anything else is not \
                     read, and nothing of it was run",
                    brief(&module),
                    brief(&name)
                ));
            }
        })
    }

    fn call(self, arguments: &[Value]) -> Read<Value> {
        match (self, arguments) {
            (Self::OrderedDict, []) => Ok(Value::Dict(Dict::default())),
            (
                Self::RebuildTensor,
                [
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple { items: shape, .. },
                    Value::Tuple { items: strides, .. },
                    _, // whether it wants a gradient
                    _, // hooks; more could say that the numbers are to be negated
                ],
            ) => {
                let (offset, shape, strides) = (size(*offset)?, sizes(shape)?, sizes(strides)?);
                Ok(Value::Tensor(Rc::new(PickledTensor { storage: storage.clone(), offset, shape, strides })))
            }
            (Self::RebuildParameter, [Value::Tensor(tensor), ..]) => Ok(Value::Tensor(tensor.clone())),
            _ => Err(format!("calls {self:?} with other arguments than PyTorch writes")),
        }
    }
}

impl Value {
    fn depth(&self) -> usize {
        if let Self::Tuple { depth, .. } = self { *depth } else { 0 }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Mark => "a mark",
            Self::Class(_) => "a class",
            Self::Text(_) => "a string",
            Self::Int(_) => "a whole number",
            Self::Tuple { .. } => "a tuple",
            Self::Dict(_) => "a dictionary",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Plain => "a plain value",
        }
    }
}

/// The beginning of a name, which in a hostile file may have a million letters.
pub(super) fn brief(name: &str) -> String {
    name.chars().take(100).collect()
}

/// `("storage", type, key, device, elements)`
fn storage(id: Value) -> Read<Rc<Storage>> {
    let Value::Tuple { items, .. } = id else {
        return Err(format!("refers to {} outside, wanted a storage", id.kind()));
    };
    match &items[..] {
        [
            Value::Text(kind),
            Value::Class(Class::Storage(dtype)),
            Value::Text(key),
            _,
            Value::Int(elements),
        ] if &**kind == "storage" => {
            Ok(Rc::new(Storage { dtype: *dtype, key: key.clone(), elements: size(*elements)? }))
        }
        _ => Err("refers to something outside that is no storage".to_owned()),
    }
}

fn sizes(values: &[Value]) -> Read<Vec<usize>> {
    if values.len() > MOST_DIMENSIONS {
        return Err(format!("a tensor of {} dimensions, wanted at most {MOST_DIMENSIONS}", values.len()));
    }
    let each = values.iter().map(|value| match value {
        Value::Int(n) => size(*n),
        other => Err(format!("{} as a size", other.kind())),
    });
    each.collect()
}

fn size(n: i64) -> Read<usize> {
    if (0..=LARGEST).contains(&n) { Ok(n as usize) } else { Err(format!("{n} as a size")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One tensor whose shape and strides are this many ones.
    fn pickle(dimensions: usize) -> Vec<u8> {
        let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ";
        let ones = [&b"("[..], &b"K\x01".repeat(dimensions), b"t"].concat();
        let parts: [&[u8]; 7] = [
            b"}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n(",
            storage,
            b"K\0",
            &ones,
            &ones,
            b"\x89NtRu",
            b".",
        ];
        parts.concat()
    }

    #[test]
    fn a_shape_of_more_dimensions_than_any_tensor_has_is_refused() {
        let read = tensors(&pickle(MOST_DIMENSIONS)).expect("it is a tensor");
        assert_eq!(read[0].1.shape, [1; MOST_DIMENSIONS]);
        let problem = tensors(&pickle(MOST_DIMENSIONS + 1)).expect_err("it is one too many");
        assert!(problem.contains("17 dimensions"), "{problem}");
    }
}
