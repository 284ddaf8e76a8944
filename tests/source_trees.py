"""Syntax trees of the sources, for tests that read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_STATEMENTS = ast.stmt | ast.excepthandler | ast.match_case


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """A node and the statements below it without expressions, a tenth of all nodes."""
    todo = [node]
    for each in todo:
        yield each
        children = ast.iter_child_nodes(each)
        todo += [child for child in children if isinstance(child, _STATEMENTS)]
