"""A short identifier of everything that determines the results of a benchmark.

Stored rows are reused only if their identifier has not changed.
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
    """Return eight hexadecimal digits that depend on the values and the code.

    Parameters
    ----------
    values : mapping
        Values that JSON can represent.
    functions : sequence of callable
        Functions with code to include, without comments, docstrings and layout.
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
    """Return a sentence about files with rows from other settings, or ``""``.

    Parameters
    ----------
    kept : Path
        The file of these settings, whether or not it exists.
    stem : str
        Common beginning of the names of such files.
    """
    names = sorted(
        path.name
        for path in kept.parent.glob(f"{stem}*.json")
        if path != kept and path.stem.removeprefix(stem)[:1] in ("", "-")
    )
    if not names:
        return ""
    return (
        f"{', '.join(names)} in {kept.parent} contain rows from other settings, or "
        "from before settings were recorded. These rows are not used. If no relevant "
        f"setting has changed since, rename the file to {kept.name}."
    )
