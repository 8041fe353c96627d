//! The stack machine that a pickle is a program for.

use std::collections::{BTreeSet, HashMap};

use super::{Id, Items, MAX_ENTRIES, MAX_LISTED, MAX_VALUES, Pickle, Value, is_known, makes_dict};
use crate::checkpoint::error::Fault;
use crate::checkpoint::names::clip;

/// Why the machine stopped early.
pub(super) enum Stop {
    Fault(Fault),
    End,
    Stack,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) struct Machine<'a> {
    /// What is still to be read.
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    tuple_items: Vec<Id>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Entries of all containers so far; one value may be entered many times.
    entries: usize,
    unknown_globals: BTreeSet<String>,
}

// Values that every pickle begins with.
const NONE: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;
const EMPTY_TUPLE: Id = 3;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            values: vec![
                Value::None,
                Value::Bool(false),
                Value::Bool(true),
                Value::Tuple(Items { start: 0, length: 0 }),
            ],
            tuple_items: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            entries: 0,
            unknown_globals: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Pickle<'a>, Stop> {
        loop {
            let [opcode] = self.take_array()?;
            if opcode == b'.' {
                let root = self.pop()?;
                let Self { values, tuple_items, unknown_globals, .. } = self;
                return Ok(Pickle { values, tuple_items, root, unknown_globals });
            }
            self.step(opcode)?;
            if self.values.len() > MAX_VALUES || self.stack.len() > MAX_ENTRIES || self.entries > MAX_ENTRIES
            {
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
                if self.marks.len() > MAX_ENTRIES {
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
                let mark = self.marks.pop().ok_or(Stop::Stack)?;
                self.tuple(mark);
            }
            0x85..=0x87 => {
                let from = self.below_top(usize::from(opcode - 0x84))?;
                self.tuple(from);
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

    /// Where on the stack the uppermost `count` values begin.
    fn below_top(&self, count: usize) -> Result<usize, Stop> {
        let from = self.stack.len().checked_sub(count).ok_or(Stop::Stack)?;
        if self.marks.last().is_some_and(|&mark| mark > from) { Err(Stop::Stack) } else { Ok(from) }
    }

    /// Makes a tuple of the stack from `from` on.
    fn tuple(&mut self, from: usize) {
        let items = Items { start: self.tuple_items.len() as u32, length: (self.stack.len() - from) as u32 };
        self.entries += items.length as usize;
        self.tuple_items.extend(self.stack.drain(from..));
        self.push(Value::Tuple(items));
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, Stop> {
        let from = self.below_top(count)?;
        self.entries += count;
        Ok(self.stack.split_off(from))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Stop> {
        let mark = self.marks.pop().ok_or(Stop::Stack)?;
        self.entries += self.stack.len() - mark;
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
