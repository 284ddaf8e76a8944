"""Every loss of a method has a title for users."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from napari_geosr import learning
from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.method import Method
from napari_geosr.learning.methods import (
    METHODS,
    config_class,
    loss_title,
    loss_titles,
)
from napari_geosr.operations.train.export import _task

_FOLDER = Path(learning.__file__).parent
_FILES = [*sorted((_FOLDER / "methods").glob("*.py")), _FOLDER / "adversarial.py"]
_MAKERS = ("loss", "generator_loss", "critic_loss", "critics_loss", "validate")


def named_losses(path: Path) -> set[str]:
    """Names of losses in the functions of a method that create them."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(function, ast.FunctionDef) and function.name in _MAKERS):
            continue
        for node in ast.walk(function):
            keys: list[ast.expr | None] = []
            if isinstance(node, ast.Dict):
                keys = list(node.keys)
            elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in (
                "losses",
                "found",
                "terms",
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
    assert max(map(len, loss_titles().values())) <= 20


@pytest.fixture
def of_another_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A method in one file, and one that cannot be imported."""
    from napari_geosr.learning import methods as module

    class Brought(Method):
        task = "translate"
        loss_titles: ClassVar[dict[str, str]] = {"phase": "phases differ"}

    def load(name: str) -> Any:
        if name == "broken":
            raise ConfigError("it cannot be imported.")
        return SimpleNamespace(Method=Brought)

    found = SimpleNamespace(names=lambda: ["brought", "broken"], load=load)
    monkeypatch.setattr(module, "METHODS", found)
    loss_titles.cache_clear()
    yield
    loss_titles.cache_clear()


@pytest.mark.usefixtures("of_another_package")
def test_a_method_of_another_package_brings_its_own() -> None:
    assert loss_title("phase") == "phases differ"
    assert loss_title("loss") == "training"
    assert loss_title("unknown") == "unknown"


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("factor", [1, 2])
def test_methods_say_their_task(name: str, factor: int) -> None:
    method = METHODS.load(name).Method(config_class(name).create())
    method.upscale_factor = factor
    others = {"pix2pix": "translate", "cyclegan": "translate", "ddpm": "generate"}
    kept = others.get(name, "denoise") if factor == 1 else "super-resolution"
    assert _task(method) == ("segment" if name == "ptdr" else kept)
