// What torch-sys lacks of TorchScript modules: the buffers of a TorchScript module by name (running statistics of batch
// normalisation, position tables, masks). Compiled by build.rs, called from script.rs.

#include <exception>
#include <torch/csrc/jit/api/module.h>

extern "C" {

// Calls `each` with the name of every buffer of `*module` and a tensor that shares its memory, which the callee then
// owns. Should libtorch throw, `fail` gets the message; no exception leaves this function.
void doodl3_named_buffers(const torch::jit::Module *module, void *context,
                          void (*each)(void *context, const char *name, at::Tensor *buffer),
                          void (*fail)(void *context, const char *message)) {
  try {
    for (const auto &buffer : module->named_buffers()) {
      each(context, buffer.name.c_str(), new at::Tensor(buffer.value));
    }
  } catch (const std::exception &error) {
    fail(context, error.what());
  } catch (...) {
    fail(context, "an exception of unknown type");
  }
}
}
