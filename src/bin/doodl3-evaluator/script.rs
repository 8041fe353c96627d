//! TorchScript modules whose parameters and buffers can be replaced.
//!
//! tch's own `CModule` lists parameters but no buffers, and keeps its pointer to itself; running statistics of batch
//! normalisation would stay those of the module's file whatever the checkpoint says. So this module calls libtorch's
//! C interface itself. It and `program/dispatch.rs` are the only ones of doodl3 with unsafe code, and their own
//! interfaces are safe.
#![expect(unsafe_code, reason = "calls libtorch, each block with its reason")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;

use tch::{Device, TchError, Tensor};
use torch_sys::{C_tensor, CModule_};

use crate::torch_error::TorchError;

/// A TorchScript module in evaluation mode.
pub(crate) struct Script {
    module: NonNull<CModule_>,
}

/// A tensor inside a module; writing to it changes the module.
pub(crate) struct Slot {
    /// Name with the path of submodules, such as `features.0.weight`.
    pub(crate) name: String,
    /// Shares the module's memory.
    pub(crate) tensor: Tensor,
    /// Whether it is a buffer, which no optimiser changes.
    pub(crate) is_buffer: bool,
}

unsafe extern "C" {
    /// In `script_buffers.cpp`.
    fn doodl3_named_buffers(
        module: *const CModule_,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *const c_char, *mut C_tensor),
        fail: extern "C" fn(*mut c_void, *const c_char),
    );
}

/// What the callbacks below collect.
#[derive(Default)]
struct Collected {
    tensors: Vec<(String, Tensor)>,
    error: Option<String>,
}

extern "C" fn collect(context: *mut c_void, name: *const c_char, tensor: *mut C_tensor) {
    // SAFETY: `context` is the `Collected` that `slots` passes and borrows to nobody else meanwhile; `name` is a
    // C string that outlives the call; `tensor` is new and owned by the callee.
    let (collected, name, tensor) =
        unsafe { (&mut *context.cast::<Collected>(), CStr::from_ptr(name), Tensor::from_ptr(tensor)) };
    collected.tensors.push((name.to_string_lossy().into_owned(), tensor));
}

extern "C" fn fail(context: *mut c_void, message: *const c_char) {
    // SAFETY: as in `collect`.
    let (collected, message) = unsafe { (&mut *context.cast::<Collected>(), CStr::from_ptr(message)) };
    collected.error = Some(message.to_string_lossy().into_owned());
}

impl Script {
    /// Loads the module at `path`, saved by `torch.jit.save`.
    pub(crate) fn load(path: &Path, device: Device) -> Result<Self, TorchError> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(TchError::from)?;
        // As the C interface numbers them.
        let number = match device {
            Device::Cuda(number) => {
                i32::try_from(number).map_err(|_| TorchError::new("there is no such device"))?
            }
            _ => -1,
        };
        // SAFETY: `path` is a C string; the pointer that comes back is owned by us, or null with an error.
        let module = unsafe { torch_sys::atm_load_on_device(path.as_ptr(), number) };
        check()?;
        let script =
            Self { module: NonNull::new(module).ok_or_else(|| TorchError::new("there is no module"))? };
        // SAFETY: the module is alive.
        unsafe { torch_sys::atm_eval(script.module.as_ptr()) };
        check()?;
        Ok(script)
    }

    /// The module's parameters and buffers.
    pub(crate) fn slots(&self) -> Result<Vec<Slot>, TorchError> {
        let mut collected = Collected::default();
        let context = (&raw mut collected).cast();
        // SAFETY: the module is alive, and `collect` gets the context that it expects.
        unsafe { torch_sys::atm_named_parameters(self.module.as_ptr(), context, collect) };
        check()?;
        let parameters = collected.tensors.len();
        // SAFETY: the same. `CModule_` stands for the `torch::jit::Module` that the C++ side takes.
        unsafe { doodl3_named_buffers(self.module.as_ptr(), context, collect, fail) };
        if let Some(error) = collected.error {
            return Err(TchError::Torch(error).into());
        }
        let slots = collected.tensors.into_iter().enumerate();
        Ok(slots
            .map(|(index, (name, tensor))| Slot { name, tensor, is_buffer: index >= parameters })
            .collect())
    }

    /// Runs `forward`, which must return one tensor.
    pub(crate) fn forward(&self, inputs: &[Tensor]) -> Result<Tensor, TorchError> {
        // The C interface wants mutable pointers, but only copies the handles.
        let pointers: Vec<_> = inputs.iter().map(|input| input.as_ptr().cast_mut()).collect();
        // SAFETY: the module and the inputs are alive, and there are as many pointers as we say.
        let output =
            unsafe { torch_sys::atm_forward(self.module.as_ptr(), pointers.as_ptr(), pointers.len() as i32) };
        check()?;
        if output.is_null() {
            return Err(TorchError::new("there is no output"));
        }
        // SAFETY: the tensor is new and owned by us.
        Ok(unsafe { Tensor::from_ptr(output) })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // SAFETY: the module is alive, and nobody uses it after this.
        unsafe { torch_sys::atm_free(self.module.as_ptr()) };
        check().ok();
    }
}

/// The error of the last call, if it failed.
fn check() -> Result<(), TorchError> {
    // SAFETY: gives a C string made by `strdup`, which is ours to free, or null.
    let message = unsafe { torch_sys::get_and_reset_last_err() };
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: as above; it is read before it is freed, and freed once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        text
    };
    Err(TchError::Torch(text).into())
}
