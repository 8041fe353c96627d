"""Writes tensors as safetensors: eight bytes of length, a header in JSON, and the numbers.

<https://huggingface.co/docs/safetensors>
"""

from __future__ import annotations

import ctypes
import json
import os
from typing import Mapping, Union

import torch

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: Union[str, os.PathLike[str]]) -> None:
    """Writes tensors of any shapes, by name, to the file ``path``; a file that is there is replaced at once."""
    header, blocks, end = {}, [], 0
    # Wide types first, so that each begins where its numbers may.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        if tensor.dtype not in _TYPES:
            raise TypeError(f"{name} is of type {tensor.dtype}, which safetensors files are not written with here")
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        # Through the memory, since NumPy may be missing and has no bfloat16.
        block = ctypes.string_at(flat.data_ptr(), flat.numel() * flat.element_size()) if flat.numel() else b""
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(block)],
        }
        end += len(block)
        blocks.append(block)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    unfinished = f"{os.fspath(path)}.unfinished"
    with open(unfinished, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for block in blocks:
            file.write(block)
    os.replace(unfinished, path)
