//! libtorch's operators by name, with arguments by name: what a program's nodes are made of.
//!
//! tch binds each operator as a function of its own, and a program names them as texts. So they are called through
//! libtorch's dispatcher, which knows them all; arguments that are left out get the defaults of the operator's schema.
//! Beside `script.rs` this is the only module of doodl3 with unsafe code, and its own interface is safe.
#![expect(unsafe_code, reason = "calls libtorch, each block with its reason")]

use std::ffi::{CStr, CString, c_char, c_void};

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use crate::torch_error::TorchError;

/// What an operator takes or gives.
#[derive(Debug)]
pub(crate) enum Value {
    /// An optional argument that is not there.
    None,
    Tensor(Tensor),
    Integer(i64),
    Real(f64),
    Boolean(bool),
    /// A text, or a device.
    Text(String),
    List(Vec<Self>),
}

impl Clone for Value {
    /// Tensors share their memory with the clone.
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Tensor(tensor) => Self::Tensor(tensor.shallow_clone()),
            Self::Integer(number) => Self::Integer(*number),
            Self::Real(number) => Self::Real(*number),
            Self::Boolean(truth) => Self::Boolean(*truth),
            Self::Text(text) => Self::Text(text.clone()),
            Self::List(values) => Self::List(values.clone()),
        }
    }
}

/// An operator of libtorch.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// With the namespace, such as `aten::add`.
    name: CString,
    /// Such as `Tensor`; empty for the default.
    overload: CString,
}

/// Why an operator cannot be called, whatever its arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// libtorch does not have it.
    Unknown,
    /// It reads or writes files, which nothing in a program may do.
    OpensFiles,
}

/// A value as `dispatch.cpp` sees it.
#[repr(C)]
struct Cell {
    kind: i32,
    integer: i64,
    real: f64,
    data: *const c_void,
    length: usize,
}

/// Kinds of cells, as `dispatch.cpp` numbers them.
const NONE: i32 = 0;
const TENSOR: i32 = 1;
const INTEGER: i32 = 2;
const REAL: i32 = 3;
const BOOLEAN: i32 = 4;
const TEXT: i32 = 5;
const LIST: i32 = 6;

/// Automatic casting as `dispatch.cpp` sees it.
#[repr(C)]
struct Autocast {
    enabled: i32,
    cache: i32,
    dtype: i32,
}

type Fail = extern "C" fn(*mut c_void, *const c_char);

unsafe extern "C" {
    fn doodl3_operator(name: *const c_char, overload: *const c_char) -> i32;
    fn doodl3_call(
        name: *const c_char,
        overload: *const c_char,
        names: *const *const c_char,
        arguments: *const Cell,
        count: usize,
        device: *const c_char,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *const Cell),
        fail: Fail,
    );
    fn doodl3_swap_autocast(device: *const c_char, state: *mut Autocast, context: *mut c_void, fail: Fail);
}

/// What the callbacks below collect.
#[derive(Default)]
struct Outcome {
    results: Vec<Value>,
    error: Option<String>,
}

impl Outcome {
    fn into_result(self) -> Result<Vec<Value>, TorchError> {
        match self.error {
            Some(error) => Err(TchError::Torch(error).into()),
            None => Ok(self.results),
        }
    }
}

extern "C" fn each(context: *mut c_void, result: *const Cell) {
    // SAFETY: `context` is the `Outcome` that `call` passes and borrows to nobody else meanwhile; `result` outlives the
    // call.
    let (outcome, result) = unsafe { (&mut *context.cast::<Outcome>(), &*result) };
    // SAFETY: `dispatch.cpp` made it, and hands each over once.
    outcome.results.push(unsafe { take(result) });
}

extern "C" fn fail(context: *mut c_void, message: *const c_char) {
    // SAFETY: as in `each`; `message` is a C string.
    let (outcome, message) = unsafe { (&mut *context.cast::<Outcome>(), CStr::from_ptr(message)) };
    outcome.error = Some(message.to_string_lossy().into_owned());
}

/// The value of a cell, with the tensors in it.
///
/// # Safety
/// `cell` was made by `dispatch.cpp`, which gave its tensors away, and is taken once.
unsafe fn take(cell: &Cell) -> Value {
    match cell.kind {
        // SAFETY: a new tensor, which is ours.
        TENSOR => Value::Tensor(unsafe { Tensor::from_ptr(cell.data.cast::<C_tensor>().cast_mut()) }),
        INTEGER => Value::Integer(cell.integer),
        REAL => Value::Real(cell.real),
        BOOLEAN => Value::Boolean(cell.integer != 0),
        _ if cell.length == 0 || cell.data.is_null() => match cell.kind {
            TEXT => Value::Text(String::new()),
            LIST => Value::List(Vec::new()),
            _ => Value::None,
        },
        TEXT => {
            // SAFETY: so many bytes of text, which live until the callback returns.
            let bytes = unsafe { std::slice::from_raw_parts(cell.data.cast::<u8>(), cell.length) };
            Value::Text(String::from_utf8_lossy(bytes).into_owned())
        }
        LIST => {
            // SAFETY: so many cells, which live until the callback returns.
            let cells = unsafe { std::slice::from_raw_parts(cell.data.cast::<Cell>(), cell.length) };
            // SAFETY: they were made with the list, and are taken with it.
            Value::List(cells.iter().map(|cell| unsafe { take(cell) }).collect())
        }
        _ => Value::None,
    }
}

/// The cell of a value; lists put theirs into `lists`, where they stay in place.
fn cell(value: &Value, lists: &mut Vec<Vec<Cell>>) -> Cell {
    let plain = Cell { kind: NONE, integer: 0, real: 0., data: std::ptr::null(), length: 0 };
    match value {
        Value::None => plain,
        Value::Tensor(tensor) => Cell { kind: TENSOR, data: tensor.as_ptr().cast(), ..plain },
        Value::Integer(integer) => Cell { kind: INTEGER, integer: *integer, ..plain },
        Value::Real(real) => Cell { kind: REAL, real: *real, ..plain },
        Value::Boolean(truth) => Cell { kind: BOOLEAN, integer: (*truth).into(), ..plain },
        Value::Text(text) => Cell { kind: TEXT, data: text.as_ptr().cast(), length: text.len(), ..plain },
        Value::List(values) => {
            let cells: Vec<Cell> = values.iter().map(|value| cell(value, lists)).collect();
            let (data, length) = (cells.as_ptr().cast(), cells.len());
            // The cells are on the heap: moving the vector into the list of lists leaves them where they are.
            lists.push(cells);
            Cell { kind: LIST, data, length, ..plain }
        }
    }
}

impl Operator {
    /// The operator `name` (with its namespace) in its version `overload`, where libtorch has it.
    pub(crate) fn find(name: &str, overload: &str) -> Result<Self, Refusal> {
        let c_string = |text: &str| CString::new(text).map_err(|_| Refusal::Unknown);
        let overload = if overload == "default" { "" } else { overload };
        let operator = Self { name: c_string(name)?, overload: c_string(overload)? };
        // SAFETY: both are C strings.
        match unsafe { doodl3_operator(operator.name.as_ptr(), operator.overload.as_ptr()) } {
            0 => Err(Refusal::Unknown),
            1 => Ok(operator),
            _ => Err(Refusal::OpensFiles),
        }
    }

    /// Calls it with arguments by name. What it makes out of nothing is made on `device`, unless an argument says where.
    pub(crate) fn call(
        &self,
        arguments: &[(&CStr, Value)],
        device: Device,
    ) -> Result<Vec<Value>, TorchError> {
        let names: Vec<_> = arguments.iter().map(|(name, _)| name.as_ptr()).collect();
        let mut lists = Vec::new();
        let cells: Vec<_> = arguments.iter().map(|(_, value)| cell(value, &mut lists)).collect();
        let device = device_name(device)?;
        let mut outcome = Outcome::default();
        // SAFETY: the strings are C strings, there are as many names and cells as we say, what the cells point to lives
        // in `arguments` and `lists` until the end of this function, and the callbacks get the context that they expect.
        unsafe {
            doodl3_call(
                self.name.as_ptr(),
                self.overload.as_ptr(),
                names.as_ptr(),
                cells.as_ptr(),
                cells.len(),
                device.as_ptr(),
                (&raw mut outcome).cast(),
                each,
                fail,
            );
        }
        outcome.into_result()
    }
}

/// As libtorch writes it.
fn device_name(device: Device) -> Result<CString, TorchError> {
    Ok(CString::new(device_text(device)).map_err(TchError::from)?)
}

/// The device as libtorch writes it: `cpu`, `cuda:0`.
pub(crate) fn device_text(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".into(),
    }
}

/// Automatic casting, as a program wants it for some of its nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Casting {
    pub(crate) enabled: bool,
    pub(crate) cache: bool,
    /// The type that is cast to, as c10 numbers them; `None` for that of the device.
    pub(crate) dtype: Option<i32>,
}

/// Runs `action` with automatic casting on `device`.
pub(crate) fn with_casting<T>(
    casting: Casting,
    device: Device,
    action: impl FnOnce() -> T,
) -> Result<T, TorchError> {
    let Casting { enabled, cache, dtype } = casting;
    let mut state = Autocast { enabled: enabled.into(), cache: cache.into(), dtype: dtype.unwrap_or(-1) };
    let name = device_name(device)?;
    let swap = |state: &mut Autocast| {
        let mut outcome = Outcome::default();
        // SAFETY: a C string, a state that nobody else holds, and the context that the callback expects.
        unsafe { doodl3_swap_autocast(name.as_ptr(), state, (&raw mut outcome).cast(), fail) };
        outcome.into_result().map(drop)
    };
    swap(&mut state)?;
    let result = action();
    swap(&mut state)?;
    Ok(result)
}
