//! A reader of Python pickles that never executes code.
//!
//! A pickle is a program for a stack machine (`pickletools.py` documents every opcode). This reader
//! knows the opcodes that dictionaries of numbers, strings and numpy arrays need, in protocols 2 to
//! 5, and implements five constructors itself: `numpy.ndarray` with `_reconstruct` and
//! `_frombuffer`, `numpy.dtype`, `_codecs.encode` (how protocol 2 writes bytes) and numpy's
//! `scalar`. Anything else is an error that names it.
//!
//! Memory is bounded for every input: byte strings are ranges of the input, an opcode creates at
//! most one small object, the number of opcodes is limited, and arrays are read only when they are
//! needed.

use std::collections::HashMap;
use std::ops::Range;

/// Limit on opcodes, more than a checkpoint has: the original's has some 30 for each of its 40
/// arrays, however large they are. At about 100 bytes per opcode, this bounds the memory that a
/// hostile file can claim.
const MAX_OPCODES: usize = 1 << 18;
/// Limit on nested dictionaries, more than a checkpoint has.
const MAX_DEPTH: usize = 32;

/// An object on the stack: a number, a range of the input, or an index into the arena. Cheap to
/// copy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A string: a range of the input that is UTF-8.
    Text(Span),
    Bytes(Span),
    /// The result of `_codecs.encode(text, "latin1")`: the bytes are the text's code points.
    Latin1(Span),
    /// The members are a list in the arena.
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Dtype(Dtype),
    Array(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    start: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Global {
    Ndarray,
    Reconstruct,
    FromBuffer,
    Scalar,
    Dtype,
    Encode,
}

/// Type of an array's elements, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    F16,
    F32,
    F64,
    I32,
    I64,
}

impl Dtype {
    fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    fn value(self, bytes: &[u8]) -> f32 {
        let eight = || std::array::from_fn(|i| bytes[i]);
        match self {
            Self::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            Self::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            Self::I32 => i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as f32,
            Self::F64 => f64::from_le_bytes(eight()) as f32,
            Self::I64 => i64::from_le_bytes(eight()) as f32,
        }
    }
}

/// An array whose data has not been read yet.
#[derive(Debug, Clone)]
struct ArrayHeader {
    shape: Vec<usize>,
    dtype: Dtype,
    is_fortran: bool,
    data: Object,
}

/// A number, boolean, string or `None` in a dictionary.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A string.
    Text(String),
    /// `None`.
    None,
}

/// An array in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// The leaves of nested dictionaries by their path, which is the keys joined by `/`.
#[derive(Debug, Default, PartialEq)]
pub struct Leaves {
    /// The arrays.
    pub arrays: HashMap<String, Array>,
    /// Everything else.
    pub scalars: HashMap<String, Scalar>,
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Object>,
    marks: Vec<usize>,
    memo: HashMap<usize, Object>,
    lists: Vec<Vec<Object>>,
    dicts: Vec<Vec<(Object, Object)>>,
    arrays: Vec<Option<ArrayHeader>>,
}

/// The leaves of the pickled dictionary in `input`.
///
/// # Errors
/// If the pickle is malformed or refers to something unknown; the message has the name and the
/// byte.
pub fn leaves(input: &[u8]) -> Result<Leaves, String> {
    let mut machine = Machine {
        input,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        lists: Vec::new(),
        dicts: Vec::new(),
        arrays: Vec::new(),
    };
    let root = machine.run().map_err(|reason| format!("byte {}: {reason}", machine.at))?;
    let mut leaves = Leaves::default();
    // A hostile file may refer to the same data many times; a checkpoint refers to each byte once.
    let mut budget = input.len();
    machine.collect(root, String::new(), 0, &mut budget, &mut leaves)?;
    Ok(leaves)
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Object, String> {
        for _ in 0..MAX_OPCODES {
            let opcode = self.take(1)?[0];
            match opcode {
                // PROTO
                0x80 => {
                    let version = self.take(1)?[0];
                    if version > 5 {
                        return Err(format!("protocol {version} is not supported, expected 2 to 5"));
                    }
                }
                // FRAME: only says how much to read ahead.
                0x95 => _ = self.take(8)?,
                // STOP
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.stack.push(Object::None),
                0x88 => self.stack.push(Object::Bool(true)),
                0x89 => self.stack.push(Object::Bool(false)),
                b'J' => {
                    let bytes = self.take(4)?;
                    let value = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    self.stack.push(Object::Int(value.into()));
                }
                b'K' => {
                    let value = self.take(1)?[0];
                    self.stack.push(Object::Int(value.into()));
                }
                b'M' => {
                    let bytes = self.take(2)?;
                    let value = u16::from_le_bytes([bytes[0], bytes[1]]);
                    self.stack.push(Object::Int(value.into()));
                }
                // LONG1
                0x8a => {
                    let length = usize::from(self.take(1)?[0]);
                    let bytes = self.take(length)?;
                    if length > 8 {
                        return Err(format!("an integer of {length} bytes, expected at most 8"));
                    }
                    let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 };
                    let value = i64::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(sign)));
                    self.stack.push(Object::Int(value));
                }
                // BINFLOAT is big-endian.
                b'G' => {
                    let bytes = self.take(8)?;
                    let value = f64::from_be_bytes(std::array::from_fn(|i| bytes[i]));
                    self.stack.push(Object::Float(value));
                }
                0x8c => self.text(1)?,
                b'X' => self.text(4)?,
                0x8d => self.text(8)?,
                // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8, and Python 2's strings.
                b'C' | b'U' => self.bytes(1)?,
                b'B' | b'T' => self.bytes(4)?,
                0x8e | 0x96 => self.bytes(8)?,
                b')' => self.tuple(0)?,
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let count = self.since_mark()?;
                    self.tuple(count)?;
                }
                b']' => {
                    self.lists.push(Vec::new());
                    self.stack.push(Object::List(self.lists.len() - 1));
                }
                b'a' => self.append(1)?,
                b'e' => {
                    let count = self.since_mark()?;
                    self.append(count)?;
                }
                b'}' => {
                    self.dicts.push(Vec::new());
                    self.stack.push(Object::Dict(self.dicts.len() - 1));
                }
                b's' => self.set_items(2)?,
                b'u' => {
                    let count = self.since_mark()?;
                    self.set_items(count)?;
                }
                // MEMOIZE, BINPUT, LONG_BINPUT
                0x94 => self.remember(self.memo.len())?,
                b'q' => {
                    let index = self.take(1)?[0];
                    self.remember(index.into())?;
                }
                b'r' => {
                    let index = self.length(4)?;
                    self.remember(index)?;
                }
                // BINGET, LONG_BINGET
                b'h' => {
                    let index = self.take(1)?[0];
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = self.length(4)?;
                    self.recall(index)?;
                }
                b'0' => _ = self.pop()?,
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.global(&module, &name)?;
                }
                // STACK_GLOBAL
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (module, name) = (self.as_text(module)?.to_owned(), self.as_text(name)?.to_owned());
                    self.global(&module, &name)?;
                }
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                other => return Err(format!("opcode 0x{other:02x} is not one that a checkpoint needs")),
            }
        }
        Err(format!("more than {MAX_OPCODES} opcodes, which no checkpoint needs"))
    }

    fn take(&mut self, length: usize) -> Result<&[u8], String> {
        let range = self.range(length)?;
        Ok(&self.input[range])
    }

    fn range(&mut self, length: usize) -> Result<Range<usize>, String> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.input.len());
        let end = end.ok_or_else(|| format!("the file ends before the next {length} bytes"))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// A length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, String> {
        let bytes = self.take(width)?;
        let value = u64::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0)));
        usize::try_from(value).map_err(|_| format!("a length of {value}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.input[self.at..];
        let length = rest.iter().take(256).position(|b| *b == b'\n').ok_or("a name does not end")?;
        let text = std::str::from_utf8(&rest[..length]).map_err(|_| "a name is not UTF-8")?.to_owned();
        self.at += length + 1;
        Ok(text)
    }

    fn span(&mut self, width: usize) -> Result<Span, String> {
        let length = self.length(width)?;
        let Range { start, end } = self.range(length)?;
        Ok(Span { start, end })
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let span = self.span(width)?;
        std::str::from_utf8(&self.input[span.start..span.end]).map_err(|_| "a string is not UTF-8")?;
        self.stack.push(Object::Text(span));
        Ok(())
    }

    fn bytes(&mut self, width: usize) -> Result<(), String> {
        let span = self.span(width)?;
        self.stack.push(Object::Bytes(span));
        Ok(())
    }

    fn pop(&mut self) -> Result<Object, String> {
        if self.marks.last().is_some_and(|mark| *mark >= self.stack.len()) {
            return Err("an opcode pops below the last mark".into());
        }
        self.stack.pop().ok_or_else(|| "an opcode pops from an empty stack".into())
    }

    fn since_mark(&mut self) -> Result<usize, String> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.len() - mark)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Object>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() < floor + count {
            return Err("an opcode pops from an empty stack".into());
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let members = self.pop_many(count)?;
        self.lists.push(members);
        self.stack.push(Object::Tuple(self.lists.len() - 1));
        Ok(())
    }

    fn append(&mut self, count: usize) -> Result<(), String> {
        let members = self.pop_many(count)?;
        match self.stack.last() {
            Some(Object::List(list)) => self.lists[*list].extend(members),
            _ => return Err("an opcode appends to an object that is not a list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, count: usize) -> Result<(), String> {
        let members = self.pop_many(count)?;
        match self.stack.last() {
            Some(Object::Dict(dict)) if count.is_multiple_of(2) => {
                self.dicts[*dict].extend(members.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err("an opcode sets items of an object that is not a dictionary".into()),
        }
    }

    fn remember(&mut self, index: usize) -> Result<(), String> {
        let object = *self.stack.last().ok_or("an opcode memoizes from an empty stack")?;
        self.memo.insert(index, object);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), String> {
        let object = *self.memo.get(&index).ok_or_else(|| format!("nothing was memoized as {index}"))?;
        self.stack.push(object);
        Ok(())
    }

    fn as_text(&self, object: Object) -> Result<&str, String> {
        match object {
            Object::Text(span) | Object::Bytes(span) => {
                std::str::from_utf8(&self.input[span.start..span.end]).map_err(|_| "expected a string".into())
            }
            _ => Err("expected a string".into()),
        }
    }

    fn as_tuple(&self, object: Object) -> Result<&[Object], String> {
        match object {
            Object::Tuple(tuple) => Ok(&self.lists[tuple]),
            _ => Err("expected a tuple".into()),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = match (module, name) {
            ("numpy", "ndarray") => Global::Ndarray,
            ("numpy", "dtype") => Global::Dtype,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
            ("_codecs", "encode") => Global::Encode,
            _ => {
                return Err(format!(
                    "the pickle refers to {module}.{name}, which no checkpoint needs; no code was executed"
                ));
            }
        };
        self.stack.push(Object::Global(global));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let callee = self.pop()?;
        let arguments = self.as_tuple(arguments)?.to_vec();
        let Object::Global(global) = callee else {
            return Err("the pickle calls an object that is not a constructor".into());
        };
        let object = match (global, arguments.as_slice()) {
            (Global::Reconstruct, [Object::Global(Global::Ndarray), ..]) => {
                self.arrays.push(None);
                Object::Array(self.arrays.len() - 1)
            }
            (Global::Dtype, [name, ..]) => Object::Dtype(dtype(self.as_text(*name)?)?),
            (Global::Encode, [Object::Text(span), encoding]) if self.as_text(*encoding)? == "latin1" => {
                Object::Latin1(*span)
            }
            (Global::FromBuffer, [data, Object::Dtype(dtype), shape, order]) => {
                let is_fortran = self.as_text(*order)? == "F";
                self.array(*data, *dtype, *shape, is_fortran)?
            }
            (Global::Scalar, [Object::Dtype(dtype), data]) => {
                self.lists.push(Vec::new());
                let shape = Object::Tuple(self.lists.len() - 1);
                self.array(*data, *dtype, shape, false)?
            }
            _ => return Err(format!("{global:?} is called with unexpected arguments")),
        };
        self.stack.push(object);
        Ok(())
    }

    fn array(&mut self, data: Object, dtype: Dtype, shape: Object, is_fortran: bool) -> Result<Object, String> {
        let header = self.header(data, dtype, shape, is_fortran)?;
        self.arrays.push(Some(header));
        Ok(Object::Array(self.arrays.len() - 1))
    }

    fn header(&self, data: Object, dtype: Dtype, shape: Object, is_fortran: bool) -> Result<ArrayHeader, String> {
        let shape = self.as_tuple(shape)?.iter().map(|length| match length {
            Object::Int(length) => usize::try_from(*length).map_err(|_| format!("an array of length {length}")),
            _ => Err("an array's shape is not a tuple of integers".to_owned()),
        });
        let shape = shape.collect::<Result<Vec<_>, _>>()?;
        let elements = shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length));
        let bytes = elements.and_then(|n| n.checked_mul(dtype.size())).ok_or("an array's size overflows")?;
        let length = match data {
            Object::Bytes(span) => span.end - span.start,
            Object::Latin1(span) => {
                std::str::from_utf8(&self.input[span.start..span.end]).map_err(|_| "not UTF-8")?.chars().count()
            }
            _ => return Err("an array has no data".into()),
        };
        if length != bytes {
            return Err(format!("an array of shape {shape:?} has {length} bytes, expected {bytes}"));
        }
        Ok(ArrayHeader { shape, dtype, is_fortran, data })
    }

    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let state = self.as_tuple(state)?.to_vec();
        let object = *self.stack.last().ok_or("an opcode builds an object from an empty stack")?;
        match (object, state.as_slice()) {
            // (version, byte order, ...)
            (Object::Dtype(_), [Object::Int(_), order, ..]) => match self.as_text(*order)? {
                "<" | "|" | "=" => Ok(()),
                other => Err(format!("byte order {other:?}; expected little-endian")),
            },
            // (version, shape, dtype, is_fortran, data)
            (Object::Array(array), [_, shape, Object::Dtype(dtype), Object::Bool(is_fortran), data]) => {
                self.arrays[array] = Some(self.header(*data, *dtype, *shape, *is_fortran)?);
                Ok(())
            }
            _ => Err("an object is built from an unexpected state".into()),
        }
    }

    /// Reads an array; `budget` is how many bytes may still be read.
    fn read(&self, array: &ArrayHeader, budget: &mut usize) -> Result<Array, String> {
        let latin1;
        let bytes = match array.data {
            Object::Bytes(span) => &self.input[span.start..span.end],
            Object::Latin1(span) => {
                let text = std::str::from_utf8(&self.input[span.start..span.end]).map_err(|_| "not UTF-8")?;
                let codes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
                latin1 = codes.map_err(|_| "a latin1 string has a code point beyond 255")?;
                latin1.as_slice()
            }
            _ => return Err("an array has no data".into()),
        };
        *budget = budget.checked_sub(bytes.len()).ok_or("its arrays refer to the same bytes again and again")?;
        let mut values: Vec<f32> = bytes.chunks_exact(array.dtype.size()).map(|b| array.dtype.value(b)).collect();
        if array.is_fortran && array.shape.len() > 1 {
            values = row_major(&values, &array.shape);
        }
        Ok(Array { shape: array.shape.clone(), values })
    }

    fn collect(
        &self,
        object: Object,
        path: String,
        depth: usize,
        budget: &mut usize,
        leaves: &mut Leaves,
    ) -> Result<(), String> {
        // This also stops at a dictionary that contains itself.
        if depth > MAX_DEPTH {
            return Err(format!("dictionaries are nested more than {MAX_DEPTH} deep"));
        }
        // Each visit costs one, so that shared dictionaries cannot turn a small file into a large
        // tree.
        *budget = budget.checked_sub(1).ok_or("its dictionaries refer to the same members again and again")?;
        let scalar = match object {
            Object::Dict(dict) => {
                for (key, value) in &self.dicts[dict] {
                    let key = self.as_text(*key)?;
                    let path = if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
                    self.collect(*value, path, depth + 1, budget, leaves)?;
                }
                return Ok(());
            }
            Object::Array(array) => {
                let header = self.arrays[array].as_ref().ok_or_else(|| format!("{path}: an array has no contents"))?;
                let array = self.read(header, budget).map_err(|reason| format!("{path}: {reason}"))?;
                leaves.arrays.insert(path, array);
                return Ok(());
            }
            Object::None => Scalar::None,
            Object::Bool(value) => Scalar::Bool(value),
            Object::Int(value) => Scalar::Int(value),
            Object::Float(value) => Scalar::Float(value),
            Object::Text(_) => {
                let text = self.as_text(object)?.to_owned();
                *budget = budget
                    .checked_sub(text.len())
                    .ok_or("its dictionaries refer to the same strings again and again")?;
                Scalar::Text(text)
            }
            // Lists of settings and the like, which are not part of the model.
            _ => return Ok(()),
        };
        leaves.scalars.insert(path, scalar);
        Ok(())
    }
}

fn dtype(name: &str) -> Result<Dtype, String> {
    Ok(match name {
        "f2" | "<f2" | "float16" => Dtype::F16,
        "f4" | "<f4" | "float32" => Dtype::F32,
        "f8" | "<f8" | "float64" => Dtype::F64,
        "i4" | "<i4" | "int32" => Dtype::I32,
        "i8" | "<i8" | "int64" => Dtype::I64,
        other => return Err(format!("dtype {other:?} is not supported, expected f2, f4, f8, i4 or i8")),
    })
}

/// Converts values from column-major to row-major order.
fn row_major(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..values.len() {
        let (at, _) =
            index.iter().zip(shape).fold((0, 1), |(at, stride), (i, length)| (at + i * stride, stride * length));
        out.push(values[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: &[u8]) -> String {
        leaves(input).unwrap_err()
    }

    #[test]
    fn a_pickle_that_calls_anything_else_is_refused_by_name_and_runs_nothing() {
        // What pickle.dumps gives for an object whose __reduce__ is (os.system, ("echo hi",)).
        let system = b"\x80\x04\x95\x22\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x07echo hi\x94\x85\x94R\x94.";
        assert!(error(system).contains("posix.system"), "{}", error(system));
        assert!(error(b"\x80\x02cbuiltins\neval\nq\x00.").contains("builtins.eval"));
        for (input, part) in [
            (b"".as_slice(), "ends before"),
            (b"\x80\x09.", "protocol 9"),
            (b".", "empty stack"),
            (b"}(K\x01u.", "not a dictionary"),
            (b"(.", "mark"),
            (b"h\x05.", "memoized as 5"),
            (b"B\xff\xff\xff\xffab.", "ends before"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.", "ends before"),
            (b"\x97.", "0x97"),
            (b"}K\x01K\x02s.", "expected a string"),
        ] {
            assert!(error(input).contains(part), "{part}: {}", error(input));
        }
    }

    #[test]
    fn millions_of_nested_tuples_end_early_and_cost_little_memory() {
        // (((...((),)...),),) and then () () () ...: 80 bytes of memory and more for each byte of
        // the file.
        for opcode in [b"\x85".as_slice(), b")"] {
            let input = [b"\x80\x04)".as_slice(), &opcode.repeat(5_000_000), b"."].concat();
            assert!(error(&input).contains("more than 262144 opcodes"), "{}", error(&input));
        }
    }

    #[test]
    fn dictionaries_that_contain_themselves_or_each_other_many_times_end_in_an_error() {
        // d = {}; d["a"] = d; and bytes to spend, which are read and dropped.
        let itself = [b"B\x64\x00\x00\x00".as_slice(), &[0; 100], b"0}q\x00U\x01ah\x00s."].concat();
        assert!(error(&itself).contains("deep"), "{}", error(&itself));
        // d0 = {}; d1 = {"a": d0, "b": d0}; d2 = {"a": d1, "b": d1}; ...: 2^30 leaves in 600 bytes.
        let mut input = b"}q\x00".to_vec();
        for i in 0..30_u8 {
            input.extend_from_slice(b"}(U\x01ah");
            input.push(i);
            input.extend_from_slice(b"U\x01bh");
            input.push(i);
            input.extend_from_slice(b"uq");
            input.push(i + 1);
        }
        input.push(b'.');
        assert!(error(&input).contains("again and again"));
    }

    #[test]
    fn column_major_values_are_put_in_row_major_order() {
        assert_eq!(row_major(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0], &[2, 3]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
