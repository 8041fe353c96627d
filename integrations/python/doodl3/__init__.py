"""Exports a PyTorch model, so that doodl3 can evaluate its checkpoints without Python.

    import doodl3
    doodl3.export(model, inputs, targets, "cross_entropy", "doodl3")

writes a program, a probe batch and a manifest; the configuration of doodl3 names the first two.
"""

from ._export import ExportError, Manifest, export
from ._version import __version__

__all__ = ["ExportError", "Manifest", "__version__", "export"]
