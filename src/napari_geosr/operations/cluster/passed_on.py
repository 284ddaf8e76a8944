"""Passes the environment of a job to its processes on other nodes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

#: Prefixes of the environment variables that a process on another node needs and that
#: ``oarsh`` does not pass on.
_PASSED_ON = (
    "CONDA",
    "CUDA",
    "DASK",
    "GLOO",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "NAPARI_GEOSR",
    "NCCL",
    "PATH",
    "PYTHON",
    "TORCH",
    "VIRTUAL_ENV",
    "XDG",
)
#: Variables whose values are only valid on their own node.
_OF_NODE = ("CUDA_VISIBLE_DEVICES",)


def export_lines(more: Mapping[str, str]) -> str:
    """Return shell-script lines that set the variables that other nodes need.

    Variables with unusual names or with unprintable characters, such as line breaks,
    are omitted, because a shell may not parse them correctly.

    Parameters
    ----------
    more : mapping of str to str
        Further variables; they take precedence.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PASSED_ON) and name not in _OF_NODE
    }
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in (passed | dict(more)).items()
        if name.isidentifier() and value.isprintable()
    )
