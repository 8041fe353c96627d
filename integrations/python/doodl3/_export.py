"""The export itself: a program of ``torch.export``, a probe batch, and a manifest that says what they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, TypedDict, Union

import torch
from torch import nn
from torch.nn import functional

from ._safetensors import write_safetensors
from ._version import __version__

Tensors = Union[torch.Tensor, Sequence[torch.Tensor], Mapping[str, torch.Tensor]]
Loss = Union[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]

#: Losses that doodl3 computes from the model's output, in single precision at least.
NAMED: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    # output (examples, …, classes) or (examples, classes, …), target (examples, …)
    "cross_entropy": lambda output, target: _cross_entropy(output, target),
    # output and target of the same shape
    "mean_squared_error": lambda output, target: functional.mse_loss(output, target.to(output.dtype)),
}

PROGRAM, PROBE, MANIFEST = "program.pt2", "probe.safetensors", "manifest.json"


class ExportError(RuntimeError):
    """The model cannot be exported, or what was exported does not compute what the model does."""


class TensorManifest(TypedDict):
    """A tensor of the probe batch."""

    name: str
    shape: list[int]
    dtype: str


class Manifest(TypedDict):
    """What ``manifest.json`` holds."""

    version: int
    #: As the configuration of doodl3 names it; ``returned`` where the program computes the loss itself.
    loss: str
    #: The loss of the model as it was, on the probe batch.
    value: float
    inputs: list[TensorManifest]
    targets: Optional[TensorManifest]
    #: Whether the program runs on batches of any size, or on those of the probe batch's size alone.
    batch: str
    #: The model's names of parameters and buffers by the program's, where they differ.
    names: dict[str, str]
    torch: str
    doodl3: str
    #: SHA-256 of the files, by name.
    sha256: dict[str, str]


def export(
    model: nn.Module,
    inputs: Tensors,
    targets: Optional[torch.Tensor],
    loss: Loss,
    out: Union[str, os.PathLike[str]] = "doodl3",
) -> Manifest:
    """Writes ``program.pt2``, ``probe.safetensors`` and ``manifest.json`` into the folder ``out``.

    model: is exported in evaluation mode and left as it was.
    inputs: the probe batch as ``model`` takes it: a tensor of shape (examples, …), several in the order of the
        arguments, or keyword arguments by name. A few dozen held-out examples are enough.
    targets: what should come out: class indices of shape (examples, …), numbers of the output's shape, or ``None``
        where the model returns its own loss.
    loss: ``"cross_entropy"`` (logits; targets of -100 count for nothing), ``"mean_squared_error"``, ``"returned"``
        (the model returns a scalar), or a function of output and targets that returns a scalar and becomes part of the
        program.
    returns: the manifest. Raises :class:`ExportError` where the program's loss differs from the model's.

    Of an output with several parts ``logits`` or else the first counts. The batch is dynamic where ``torch.export``
    can make it so.
    """
    model = _unwrapped(model)
    arguments, keywords = _arguments(inputs)
    if isinstance(loss, str) and loss not in (*NAMED, "returned"):
        raise ExportError(f"no loss is called {loss!r}: there are {', '.join(NAMED)}, returned, or a function")
    if (targets is None) != (loss == "returned"):
        raise ExportError("targets are needed, and are needed only, where the loss is not 'returned'")
    function = None if isinstance(loss, str) else loss
    if function is not None:
        assert targets is not None
        arguments = [*arguments, targets]
    name = loss if isinstance(loss, str) else "returned"
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)

    with _evaluating(model), _quiet():
        with torch.no_grad():
            inputs_alone = arguments if function is None else arguments[:-1]
            plain = function is None and not keywords and isinstance(model(*_copies(inputs_alone)), torch.Tensor)
        whole = model if plain else _Whole(model, keywords, function).eval()
        tolerance = 1e-5 if all(_is_precise(tensor) for tensor in _floats(model)) else 1e-2
        program, value = _write(whole, arguments, lambda output: _value(output, targets, name), tolerance, folder)

    names = ["input"] if len(arguments) == 1 else [f"input.{index}" for index in range(len(arguments))]
    probe = dict(zip(names, arguments))
    if targets is not None and function is None:
        probe["target"] = targets
    write_safetensors(probe, folder / PROBE)
    state = [*program.graph_signature.parameters, *program.graph_signature.buffers]
    manifest: Manifest = {
        "version": 1,
        "loss": name,
        "value": value,
        "inputs": [_described(name, probe[name]) for name in names],
        "targets": _described("target", probe["target"]) if "target" in probe else None,
        "batch": "dynamic" if _is_dynamic(program) else "fixed",
        "names": {} if plain else {name: name[len(_Whole.PREFIX) :] for name in state if name.startswith(_Whole.PREFIX)},
        "torch": torch.__version__,
        "doodl3": __version__,
        "sha256": {part: hashlib.sha256((folder / part).read_bytes()).hexdigest() for part in (PROGRAM, PROBE)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def _write(
    model: nn.Module,
    arguments: Sequence[torch.Tensor],
    value: Callable[[torch.Tensor], float],
    tolerance: float,
    folder: Path,
) -> tuple[torch.export.ExportedProgram, float]:
    """Writes the program, and puts it in place once its loss is known to be the model's; returns both."""
    program = _program(model, tuple(arguments))
    with tempfile.TemporaryDirectory(dir=folder) as unfinished, torch.no_grad():
        file = Path(unfinished) / PROGRAM
        torch.export.save(program, file)
        own = value(model(*_copies(arguments)))
        exported = value(torch.export.load(file).module()(*_copies(arguments)))
        if not abs(exported - own) <= tolerance * max(abs(own), 1e-6):
            raise ExportError(
                f"the exported program gives the loss {exported:.9g}, and the model {own:.9g}: does its forward depend "
                "on chance, on time, or on what it computed before?"
            )
        os.replace(file, folder / PROGRAM)
    return program, own


class _Whole(nn.Module):
    """A model whose arguments are all positional, whose output is one tensor, and whose loss is part of it."""

    PREFIX = "model."

    def __init__(self, model: nn.Module, keywords: Sequence[str], loss: Optional[Callable[..., torch.Tensor]]) -> None:
        super().__init__()
        self.model = model
        self._keywords = tuple(keywords)
        # In a tuple, so that a loss with tensors of its own adds none to the model's: they become constants.
        self._loss = (loss,)

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        """The first output, of shape (examples, …), or the loss, a scalar."""
        (loss,) = self._loss
        inputs = arguments if loss is None else arguments[:-1]
        if self._keywords:
            output = _first(self.model(**dict(zip(self._keywords, inputs))))
        else:
            output = _first(self.model(*inputs))
        return output if loss is None else loss(output, arguments[-1])


def _first(output: Any) -> torch.Tensor:
    """The part of an output that counts."""
    if isinstance(output, torch.Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    parts = list(output.values()) if isinstance(output, Mapping) else output
    if isinstance(parts, (tuple, list)) and parts and isinstance(parts[0], torch.Tensor):
        return parts[0]
    raise ExportError(f"the model returns {type(output).__name__}, whose first part is no tensor")


def _cross_entropy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy; classes are the last axis of the output, or the second as PyTorch has it."""
    if output.shape[:-1] == target.shape:
        return functional.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))
    return functional.cross_entropy(output, target)


def _value(output: torch.Tensor, targets: Optional[torch.Tensor], loss: str) -> float:
    """The loss of an output, in single precision at least, as doodl3 computes it."""
    if loss == "returned":
        if output.numel() != 1:
            raise ExportError(f"a loss is one number, and this has the shape {tuple(output.shape)}")
        return float(output)
    assert targets is not None
    precise = output if _is_precise(output) else output.float()
    return float(NAMED[loss](precise, targets))


def _program(model: nn.Module, arguments: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    """The model as a program, with a dynamic batch where that can be."""
    size = next((tensor.shape[0] for tensor in arguments if tensor.dim()), 1)
    attempts: list[Any] = []
    # A batch of one is taken for a constant.
    if size > 1:
        batch = getattr(torch.export.Dim, "AUTO", None) or torch.export.Dim("batch", min=1)
        axes = [{0: batch} if tensor.dim() and tensor.shape[0] == size else {} for tensor in arguments]
        # Arguments of `*arguments` are one argument.
        attempts.append((tuple(axes),) if isinstance(model, _Whole) else tuple(axes))
    attempts.append(None)
    problem: Optional[Exception] = None
    for shapes in attempts:
        try:
            return torch.export.export(model, arguments, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # noqa: BLE001 torch.export raises whatever its parts do
            problem = error
    raise ExportError(
        "torch.export cannot make a program of the model; write it with PyTorch's own functions, or give doodl3 a "
        "TorchScript module"
    ) from problem


def _is_dynamic(program: torch.export.ExportedProgram) -> bool:
    """Whether the first axis of every input may vary."""
    inputs = set(program.graph_signature.user_inputs)
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    return all(not isinstance(shape[0], int) for shape in shapes if len(shape))


def _arguments(inputs: Tensors) -> tuple[list[torch.Tensor], list[str]]:
    """Inputs in order, and their names where they are keyword arguments."""
    if isinstance(inputs, torch.Tensor):
        return [inputs], []
    if isinstance(inputs, Mapping):
        return list(inputs.values()), list(inputs)
    return list(inputs), []


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model without what ``torch.compile`` and data-parallel training wrap around it."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, parallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each part is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings about torch.export's own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Copies, for models that write into what they are given."""
    return [tensor.clone() for tensor in tensors]


def _floats(model: nn.Module) -> Iterator[torch.Tensor]:
    """The model's parameters and buffers that are no whole numbers."""
    state = [*model.parameters(), *model.buffers()]
    return (tensor for tensor in state if tensor.is_floating_point())


def _is_precise(tensor: torch.Tensor) -> bool:
    """Whether it is of single or double precision."""
    return tensor.dtype in (torch.float32, torch.float64)


def _described(name: str, tensor: torch.Tensor) -> TensorManifest:
    """A tensor's entry in the manifest."""
    return {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
