"""A short name for all that decides what a benchmark finds.

Rows that were kept are gone on with only where nothing of it was changed.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def digest(values: Mapping[str, Any], functions: Sequence[Callable[..., Any]]) -> str:
    """Eight letters that change with a value or with what a function does.

    Parameters
    ----------
    values : mapping
        Of what JSON can hold.
    functions : sequence of callable
        Their code counts, without comments, docstrings and layout.
    """
    code = {function.__qualname__: _code(function) for function in functions}
    text = json.dumps([values, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _code(function: Callable[..., Any]) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1 and _is_text(body[0]):
            del body[0]
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    value = getattr(node, "value", None) if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def left_out(kept: Path, stem: str) -> str:
    """A sentence about files of rows that other settings gave, or ``""``.

    Parameters
    ----------
    kept : Path
        The file of these settings, whether or not it exists.
    stem : str
        What all such files begin with.
    """
    names = sorted(
        path.name
        for path in kept.parent.glob(f"{stem}*.json")
        if path != kept and path.stem.removeprefix(stem)[:1] in ("", "-")
    )
    if not names:
        return ""
    return (
        f"{', '.join(names)} in {kept.parent} came from other settings, or from before "
        "settings were noted: those rows are left out. If nothing that matters was "
        f"changed since, rename the file to {kept.name}."
    )
