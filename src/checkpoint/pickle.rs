//! A reader of Python pickles that runs nothing.
//!
//! A pickle is a program for a small stack machine that may name any function of any module and call it. Here a name
//! stays a name and a call stays a record of what would have been called, with what ([`Value::Call`]). Values lie in one
//! list and refer to each other by index, so shared and nested values cost what they cost in the file, and nothing
//! recurses. Protocols 2 to 5 are read, as far as `torch.save` and plain data need them.
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py> describes each opcode.

use std::collections::{BTreeSet, HashMap};

use super::error::Fault;
use super::names::clip;

/// Longest pickle that is read.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Most values, and most entries on the stack: some 64 and 16 megabytes. A tensor takes a dozen values.
const MAX_VALUES: usize = 2_000_000;
const MAX_STACK: usize = 4_000_000;

/// Most unknown globals that are listed.
const MAX_LISTED: usize = 100;

/// Index of a value.
pub(super) type Id = u32;

/// What a pickle describes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, which nothing here needs.
    LargeInt,
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function, by module and name.
    Global(&'a str, &'a str),
    /// A call that was not made: what would have been called, its arguments as a tuple, then whatever would have been
    /// given to the result (state, entries).
    Call(Vec<Id>),
    /// Data beside the pickle, by what names them.
    Persistent(Id),
}

/// A pickle's values.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
    unknown_globals: BTreeSet<String>,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that begins `bytes`.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        Machine::new(bytes).run().map_err(|fault| match fault {
            Stop::Fault(fault) => fault,
            Stop::End => Fault::damaged("its pickle ends in the middle"),
            Stop::Stack => Fault::damaged("its pickle takes more from the stack than there is"),
        })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// Names of classes and functions that this reader does not know.
    pub(super) fn unknown_globals(&self) -> impl Iterator<Item = &String> {
        self.unknown_globals.iter()
    }

    /// The number, if it is one that counts something.
    pub(super) fn unsigned(&self, id: Id) -> Option<u64> {
        match *self.get(id) {
            Value::Int(number) => number.try_into().ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match *self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match *self.get(id) {
            Value::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// What a call would have called, with what.
    pub(super) fn call(&self, id: Id) -> Option<((&'a str, &'a str), &[Id])> {
        match self.get(id) {
            Value::Call(parts) => Some((self.global(parts[0])?, self.tuple(parts[1])?)),
            _ => None,
        }
    }
}

/// Classes and functions whose calls this reader understands, or that are plain data beside the tensors.
fn is_known(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter"),
        "builtins" | "__builtin__" => {
            matches!(
                name,
                "set"
                    | "frozenset"
                    | "dict"
                    | "list"
                    | "tuple"
                    | "int"
                    | "float"
                    | "bool"
                    | "str"
                    | "bytes"
                    | "bytearray"
                    | "complex"
                    | "slice"
                    | "range"
                    | "object"
            )
        }
        "_codecs" => name == "encode",
        "torch._utils" => {
            matches!(
                name,
                "_rebuild_tensor"
                    | "_rebuild_tensor_v2"
                    | "_rebuild_tensor_v3"
                    | "_rebuild_parameter"
                    | "_rebuild_parameter_with_state"
            )
        }
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.nn.parameter" => matches!(name, "Parameter" | "Buffer"),
        "torch.storage" => matches!(name, "UntypedStorage" | "TypedStorage"),
        "torch" => {
            matches!(name, "Size" | "device" | "Tensor" | "bfloat16" | "bool" | "uint8")
                || name.ends_with("Storage")
                || ["float", "int", "uint", "complex"].iter().any(|kind| {
                    name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                })
        }
        "numpy" => matches!(name, "dtype" | "ndarray"),
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "scalar" | "_reconstruct"),
        "datetime" => matches!(name, "datetime" | "date" | "time" | "timedelta"),
        "pathlib" => name.ends_with("Path"),
        "argparse" => name == "Namespace",
        _ => false,
    }
}

/// Containers that a call makes empty, to be filled afterwards.
fn makes_dict(module: &str, name: &str) -> bool {
    matches!(
        (module, name),
        ("collections", "OrderedDict" | "defaultdict" | "Counter") | ("builtins", "dict")
    )
}

/// Why the machine stopped early.
enum Stop {
    Fault(Fault),
    End,
    Stack,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Machine<'a> {
    /// What is still to be read.
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    unknown_globals: BTreeSet<String>,
}

// Values that every pickle begins with.
const NONE: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;
const EMPTY_TUPLE: Id = 3;

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            values: vec![Value::None, Value::Bool(false), Value::Bool(true), Value::Tuple(Vec::new())],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            unknown_globals: BTreeSet::new(),
        }
    }

    fn run(mut self) -> Result<Pickle<'a>, Stop> {
        loop {
            let [opcode] = self.take_array()?;
            if opcode == b'.' {
                let root = self.pop()?;
                let Self { values, unknown_globals, .. } = self;
                return Ok(Pickle { values, root, unknown_globals });
            }
            self.step(opcode)?;
            if self.values.len() > MAX_VALUES || self.stack.len() > MAX_STACK {
                return Err(Fault::damaged(format!(
                    "its pickle describes more than {MAX_VALUES} values, no checkpoint needs that"
                ))
                .into());
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one line or two for each opcode")]
    fn step(&mut self, opcode: u8) -> Result<(), Stop> {
        match opcode {
            // PROTO
            0x80 => {
                let [protocol] = self.take_array()?;
                if !(2..=5).contains(&protocol) {
                    return Err(unsupported_protocol(format!("its pickle is of protocol {protocol}")));
                }
            }
            // FRAME
            0x95 => {
                let _length = self.take_array::<8>()?;
            }
            b'(' => {
                self.marks.push(self.stack.len());
                if self.marks.len() > MAX_STACK {
                    return Err(Fault::damaged("its pickle sets too many marks").into());
                }
            }
            b'0' => {
                // POP takes a mark where nothing lies above it.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(*self.stack.last().ok_or(Stop::Stack)?),
            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b')' => self.stack.push(EMPTY_TUPLE),
            b'J' => {
                let number = i32::from_le_bytes(self.take_array()?);
                self.push(Value::Int(number.into()));
            }
            b'K' => {
                let [number] = self.take_array()?;
                self.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take_array()?);
                self.push(Value::Int(number.into()));
            }
            // LONG1, LONG4
            0x8a => {
                let length = self.take_array::<1>()?[0].into();
                self.long(length)?;
            }
            0x8b => {
                let length = self.take_u32()?;
                self.long(length)?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.take_array()?);
                self.push(Value::Float(number));
            }
            // Texts and bytes: BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, BINBYTES, SHORT_BINBYTES, BINBYTES8,
            // BYTEARRAY8, and Python 2's BINSTRING, SHORT_BINSTRING
            b'X' => {
                let length = self.take_u32()?;
                self.text(length)?;
            }
            0x8c => {
                let length = self.take_array::<1>()?[0].into();
                self.text(length)?;
            }
            0x8d => {
                let length = self.take_u64()?;
                self.text(length)?;
            }
            b'B' | b'T' => {
                let length = self.take_u32()?;
                self.bytes(length)?;
            }
            b'C' | b'U' => {
                let length = self.take_array::<1>()?[0].into();
                self.bytes(length)?;
            }
            0x8e | 0x96 => {
                let length = self.take_u64()?;
                self.bytes(length)?;
            }
            // Tuples
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let items = self.pop_many(count)?;
                self.push(Value::Tuple(items));
            }
            // Containers
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            0x8f => self.push(Value::Set(Vec::new())),
            0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::Set(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.extend(&items)?;
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.set_items(&pair)?;
            }
            b'u' => {
                let pairs = self.pop_to_mark()?;
                self.set_items(&pairs)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.take_line()?;
                let name = self.take_line()?;
                self.global(module, name);
            }
            0x93 => {
                let pair = self.pop_many(2)?;
                let (Value::Text(module), Value::Text(name)) = (self.value(pair[0]), self.value(pair[1]))
                else {
                    return Err(
                        Fault::damaged("its pickle names a global by something that is no text").into()
                    );
                };
                let (module, name) = (*module, *name);
                self.global(module, name);
            }
            // REDUCE and NEWOBJ: a call that is recorded, not made
            b'R' | 0x81 => {
                let parts = self.pop_many(2)?;
                self.call(parts)?;
            }
            // NEWOBJ_EX has keyword arguments, too
            0x92 => {
                let parts = self.pop_many(3)?;
                self.call(parts)?;
            }
            // BUILD
            b'b' => {
                let state = self.pop()?;
                let target = *self.stack.last().ok_or(Stop::Stack)?;
                // Attributes of containers (such as a state dict's `_metadata`) are of no use here.
                if let Value::Call(parts) = &mut self.values[target as usize] {
                    parts.push(state);
                }
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            // Memo: BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let [slot] = self.take_array()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.take_array()?);
                self.remember(slot)?;
            }
            0x94 => {
                let slot = self.memo.len() as u32;
                self.remember(slot)?;
            }
            b'h' => {
                let [slot] = self.take_array()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.take_array()?);
                self.recall(slot)?;
            }
            _ => {
                return Err(unsupported_protocol(format!(
                    "its pickle uses the opcode {:?}, which is not read",
                    char::from(opcode)
                )));
            }
        }
        Ok(())
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Stop> {
        let length = usize::try_from(length).map_err(|_| Stop::End)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Stop::End)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Stop::End)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn take_u32(&mut self) -> Result<u64, Stop> {
        self.take_array().map(|bytes| u32::from_le_bytes(bytes).into())
    }

    fn take_u64(&mut self) -> Result<u64, Stop> {
        self.take_array().map(u64::from_le_bytes)
    }

    fn take_line(&mut self) -> Result<&'a str, Stop> {
        let length = self.rest.iter().position(|&byte| byte == b'\n').ok_or(Stop::End)?;
        let line = self.take(length as u64)?;
        let _newline = self.take_array::<1>()?;
        std::str::from_utf8(line)
            .map_err(|_| Fault::damaged("its pickle has a name that is not UTF-8").into())
    }

    fn text(&mut self, length: u64) -> Result<(), Stop> {
        let bytes = self.take(length)?;
        // Python writes lone surrogates, too, which are no UTF-8; such a text is no name of a tensor.
        self.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text));
        Ok(())
    }

    fn bytes(&mut self, length: u64) -> Result<(), Stop> {
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    /// An integer of `length` bytes in two's complement, little endian.
    fn long(&mut self, length: u64) -> Result<(), Stop> {
        let bytes = self.take(length)?;
        let value = if bytes.len() <= 8 {
            let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
            Value::Int(i64::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(sign))))
        } else {
            Value::LargeInt
        };
        self.push(value);
        Ok(())
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, Stop> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(Stop::Stack);
        }
        self.stack.pop().ok_or(Stop::Stack)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, Stop> {
        let from = self.stack.len().checked_sub(count).ok_or(Stop::Stack)?;
        if self.marks.last().is_some_and(|&mark| mark > from) {
            return Err(Stop::Stack);
        }
        Ok(self.stack.split_off(from))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Stop> {
        let mark = self.marks.pop().ok_or(Stop::Stack)?;
        Ok(self.stack.split_off(mark))
    }

    /// Appends to the list, or whatever takes its place, on top of the stack.
    fn extend(&mut self, items: &[Id]) -> Result<(), Stop> {
        let target = *self.stack.last().ok_or(Stop::Stack)?;
        match &mut self.values[target as usize] {
            Value::List(all) | Value::Set(all) | Value::Call(all) => all.extend_from_slice(items),
            _ => return Err(Fault::damaged("its pickle appends to something that is no list").into()),
        }
        Ok(())
    }

    /// Enters keys and values, in turn, into the dictionary on top of the stack.
    fn set_items(&mut self, pairs: &[Id]) -> Result<(), Stop> {
        let target = *self.stack.last().ok_or(Stop::Stack)?;
        let (pairs, odd) = pairs.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(Fault::damaged("its pickle enters a key without a value").into());
        }
        match &mut self.values[target as usize] {
            Value::Dict(all) => all.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Call(all) => all.extend(pairs.as_flattened()),
            _ => {
                return Err(
                    Fault::damaged("its pickle enters keys into something that is no dictionary").into()
                );
            }
        }
        Ok(())
    }

    fn global(&mut self, module: &'a str, name: &'a str) {
        if !is_known(module, name) && self.unknown_globals.len() < MAX_LISTED {
            self.unknown_globals.insert(clip(&format!("{module}.{name}")));
        }
        self.push(Value::Global(module, name));
    }

    /// Records a call of `parts[0]` with the arguments `parts[1]`.
    fn call(&mut self, parts: Vec<Id>) -> Result<(), Stop> {
        if !matches!(self.value(parts[1]), Value::Tuple(_)) {
            return Err(Fault::damaged("its pickle calls something with arguments that are no tuple").into());
        }
        let value = match *self.value(parts[0]) {
            Value::Global(module, name) if makes_dict(module, name) => Value::Dict(Vec::new()),
            _ => Value::Call(parts),
        };
        self.push(value);
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Result<(), Stop> {
        let top = *self.stack.last().ok_or(Stop::Stack)?;
        self.memo.insert(slot, top);
        if self.memo.len() > MAX_VALUES {
            return Err(Fault::damaged("its pickle remembers too many values").into());
        }
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), Stop> {
        let Some(&id) = self.memo.get(&slot) else {
            return Err(Fault::damaged("its pickle recalls a value that it never kept").into());
        };
        self.stack.push(id);
        Ok(())
    }
}

fn unsupported_protocol(what: String) -> Stop {
    Fault::unsupported(what, "save with torch.save and its default pickle protocol").into()
}
