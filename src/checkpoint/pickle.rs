//! A reader of Python pickles that runs nothing.
//!
//! A pickle is a program for a small stack machine that may name any function of any module and call it. Here a name
//! stays a name and a call stays a record of what would have been called, with what ([`Value::Call`]). Values lie in one
//! list and refer to each other by index, so shared and nested values cost what they cost in the file, and nothing
//! recurses. Protocols 2 to 5 are read, as far as `torch.save` and plain data need them.
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py> describes each opcode.

mod machine;

use std::collections::BTreeSet;

use machine::{Machine, Stop};

use super::error::Fault;

/// Longest pickle that is read.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Most values, and most entries of all containers together: at worst some 130 and 30 megabytes. A tensor takes a dozen
/// of each.
const MAX_VALUES: usize = 2_000_000;
const MAX_ENTRIES: usize = 6_000_000;

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
    Tuple(Items),
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

/// What a tuple holds: a part of the list of all tuples' items. Tuples are by far the most values, and they do not
/// change, so they need no memory of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Items {
    start: u32,
    length: u32,
}

/// A pickle's values.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    tuple_items: Vec<Id>,
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
        match *self.get(id) {
            Value::Tuple(Items { start, length }) => {
                Some(&self.tuple_items[start as usize..start as usize + length as usize])
            }
            _ => None,
        }
    }

    /// The items of a list, a tuple or a set.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::List(items) | Value::Set(items) => Some(items),
            _ => self.tuple(id),
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
