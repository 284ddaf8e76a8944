"""Every loss that a method names is told to people in words."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from napari_geosr import learning
from napari_geosr.learning.loss_titles import loss_title

_FOLDER = Path(learning.__file__).parent
_FILES = [*sorted((_FOLDER / "methods").glob("*.py")), _FOLDER / "adversarial.py"]
_MAKERS = ("loss", "generator_loss", "critic_loss", "critics_loss", "validate")


def named_losses(path: Path) -> set[str]:
    """Words that name losses in the functions of a method that make them."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(function, ast.FunctionDef) and function.name in _MAKERS):
            continue
        for node in ast.walk(function):
            keys: list[ast.expr | None] = []
            if isinstance(node, ast.Dict):
                keys = list(node.keys)
            elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == (
                "losses"
            ):
                keys = [node.slice]
            found |= {str(key.value) for key in keys if isinstance(key, ast.Constant)}
    return found


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_losses_have_titles(path: Path) -> None:
    for name in named_losses(path) - {"loss", "validation", "critic"}:
        assert loss_title(name) != name


def test_there_are_losses_to_look_at() -> None:
    names = set().union(*map(named_losses, _FILES))
    assert {"loss", "cycle", "identity", "pixel", "guess", "perceptual"} <= names


def test_titles_fit_into_half_a_dock() -> None:
    from napari_geosr.learning import loss_titles

    assert max(map(len, loss_titles._TITLES.values())) <= 20
