// Calls any operator of libtorch by its name, with arguments by theirs. Compiled by build.rs, called from dispatch.rs,
// which holds the same declarations.

#include <ATen/ScalarOps.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <deque>
#include <exception>
#include <optional>
#include <string>
#include <vector>

namespace {

enum Kind : int32_t { NONE, TENSOR, INTEGER, REAL, BOOLEAN, TEXT, LIST };

// A value on its way in or out. `data` is an `at::Tensor *`, `length` bytes of text, or `length` cells of a list.
struct Cell {
  int32_t kind;
  int64_t integer;
  double real;
  const void *data;
  size_t length;
};

const at::Tensor &tensor(const Cell &cell) { return *static_cast<const at::Tensor *>(cell.data); }

at::Scalar number(const Cell &cell) {
  TORCH_CHECK(cell.kind == INTEGER || cell.kind == REAL || cell.kind == BOOLEAN, "a number is needed");
  return cell.kind == INTEGER ? at::Scalar(cell.integer)
         : cell.kind == REAL  ? at::Scalar(cell.real)
                              : at::Scalar(cell.integer != 0);
}

std::string text(const Cell &cell) {
  TORCH_CHECK(cell.kind == TEXT, "a text is needed");
  return std::string(static_cast<const char *>(cell.data), cell.length);
}

// What the operator wants as `type`. `repeat` is how often a single number counts where a list of fixed length is
// wanted.
c10::IValue value(const Cell &cell, const c10::TypePtr &type, std::optional<int32_t> repeat = std::nullopt) {
  switch (type->kind()) {
  case c10::TypeKind::OptionalType:
    return cell.kind == NONE ? c10::IValue()
                             : value(cell, type->castRaw<c10::OptionalType>()->getElementType(), repeat);
  case c10::TypeKind::TensorType: {
    if (cell.kind == TENSOR) {
      return tensor(cell);
    }
    // As Python's numbers beside tensors: they do not decide the type of the result.
    at::Tensor wrapped = c10::scalar_to_tensor(number(cell));
    wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
    return wrapped;
  }
  case c10::TypeKind::NumberType:
    return c10::IValue(number(cell));
  case c10::TypeKind::IntType:
  case c10::TypeKind::SymIntType:
    TORCH_CHECK(cell.kind == INTEGER || cell.kind == BOOLEAN, "a whole number is needed");
    return cell.integer;
  case c10::TypeKind::FloatType:
  case c10::TypeKind::SymFloatType:
    return number(cell).toDouble();
  case c10::TypeKind::BoolType:
  case c10::TypeKind::SymBoolType:
    return number(cell).toBool();
  case c10::TypeKind::StringType:
    return text(cell);
  case c10::TypeKind::DeviceObjType:
    return c10::Device(text(cell));
  case c10::TypeKind::ListType: {
    const auto element = type->castRaw<c10::ListType>()->getElementType();
    c10::impl::GenericList list(element);
    if (cell.kind == LIST) {
      const auto *cells = static_cast<const Cell *>(cell.data);
      for (size_t index = 0; index < cell.length; ++index) {
        list.push_back(value(cells[index], element));
      }
    } else {
      for (int32_t count = 0; count < repeat.value_or(1); ++count) {
        list.push_back(value(cell, element));
      }
    }
    return list;
  }
  default:
    TORCH_CHECK(cell.kind == NONE, "arguments of type ", type->str(), " cannot be passed");
    return {};
  }
}

// Texts and lists that cells point to, until the callee has read them.
struct Storage {
  std::deque<std::vector<Cell>> lists;
  std::deque<std::string> texts;
};

// The callee owns the tensors.
Cell cell(const c10::IValue &value, Storage &storage) {
  if (value.isTensor()) {
    return value.toTensor().defined() ? Cell{TENSOR, 0, 0, new at::Tensor(value.toTensor()), 0} : Cell{};
  }
  if (value.isBool()) {
    return {BOOLEAN, value.toBool(), 0, nullptr, 0};
  }
  if (value.isInt()) {
    return {INTEGER, value.toInt(), 0, nullptr, 0};
  }
  if (value.isDouble()) {
    return {REAL, 0, value.toDouble(), nullptr, 0};
  }
  if (value.isString()) {
    const auto &text = storage.texts.emplace_back(value.toStringRef());
    return {TEXT, 0, 0, text.data(), text.size()};
  }
  if (value.isNone()) {
    return {};
  }
  TORCH_CHECK(value.isList(), "it gives a value of type ", value.tagKind(), ", which cannot be used");
  auto &cells = storage.lists.emplace_back();
  for (const c10::IValue &element : value.toListRef()) {
    cells.push_back(cell(element, storage));
  }
  return {LIST, 0, 0, cells.data(), cells.size()};
}

std::optional<c10::OperatorHandle> find(const char *name, const char *overload) {
  return c10::Dispatcher::singleton().findSchema({name, overload});
}

// Runs `action`; an exception ends as a message for `fail`, and never leaves this file.
template <typename Action>
void guarded(void *context, void (*fail)(void *context, const char *message), const Action &action) {
  try {
    action();
  } catch (const c10::Error &error) {
    fail(context, error.what_without_backtrace());
  } catch (const std::exception &error) {
    fail(context, error.what());
  } catch (...) {
    fail(context, "an exception of unknown type");
  }
}

} // namespace

extern "C" {

// 0 where libtorch has no such operator, 1 where it has, 2 where the operator opens files.
int32_t doodl3_operator(const char *name, const char *overload) {
  try {
    const auto found = find(name, overload);
    if (!found) {
      return 0;
    }
    for (const auto &argument : found->schema().arguments()) {
      if (argument.name() == "filename") {
        return 2;
      }
    }
    return 1;
  } catch (...) {
    return 0;
  }
}

// Calls the operator `name`.`overload` with `count` arguments; those that are missing get their defaults. Where it makes
// a tensor out of nothing and no device is given, the tensor is made on `device`. `each` gets every result.
void doodl3_call(const char *name, const char *overload, const char *const *names, const Cell *arguments, size_t count,
                 const char *device, void *context, void (*each)(void *context, const Cell *result),
                 void (*fail)(void *context, const char *message)) {
  guarded(context, fail, [&] {
    const auto found = find(name, overload);
    TORCH_CHECK(found, "libtorch has no such operator");
    const auto &schema = found->schema();
    size_t used = 0;
    bool has_tensor = false;
    c10::Stack stack;
    for (const auto &wanted : schema.arguments()) {
      size_t index = 0;
      while (index < count && wanted.name() != names[index]) {
        ++index;
      }
      if (index < count) {
        ++used;
        has_tensor |= arguments[index].kind == TENSOR;
        stack.push_back(value(arguments[index], wanted.type(), wanted.N()));
      } else if (wanted.name() == "device" && !has_tensor) {
        stack.push_back(c10::Device(device));
      } else {
        TORCH_CHECK(wanted.default_value(), "its argument ", wanted.name(), " is missing");
        stack.push_back(*wanted.default_value());
      }
    }
    TORCH_CHECK(used == count, "it is given arguments that it does not have");
    found->callBoxed(stack);
    Storage storage;
    for (const c10::IValue &result : stack) {
      const Cell out = cell(result, storage);
      each(context, &out);
    }
  });
}

// Whether numbers are rounded to a narrower type inside the operators that bear it.
struct Autocast {
  int32_t enabled;
  int32_t cache;
  // As c10 numbers them.
  int32_t dtype;
};

// Puts `state` into force for devices of the type `device`, and what was in force into `state`. A `dtype` below zero
// leaves that as it is.
void doodl3_swap_autocast(const char *device, Autocast *state, void *context,
                          void (*fail)(void *context, const char *message)) {
  guarded(context, fail, [&] {
    const auto type = c10::Device(device).type();
    const Autocast before{at::autocast::is_autocast_enabled(type), at::autocast::is_autocast_cache_enabled(),
                          static_cast<int32_t>(at::autocast::get_autocast_dtype(type))};
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type, state->enabled != 0);
    at::autocast::set_autocast_cache_enabled(state->cache != 0);
    if (state->dtype >= 0) {
      at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(state->dtype));
    }
    *state = before;
  });
}
}
