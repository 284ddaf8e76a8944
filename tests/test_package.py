"""The package from outside: fast import, metadata, layers."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ["torch", "scipy", "numba", "skimage", "zarr", "dask", "matplotlib"]
HEAVY += ["h5py", "pandas", "napari", "qtpy"]
QT = ["napari", "qtpy", "magicgui", "superqt", "PyQt6", "PySide6", "vispy"]


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded by a new interpreter that ran `code`."""
    run = (
        f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    )
    out = subprocess.run(
        [sys.executable, "-c", run], capture_output=True, text=True, check=True
    )
    return set(out.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import napari_geosr")
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)
    assert loaded.isdisjoint({"numpy", "pydantic"})


def test_the_command_line_can_handle_ctrl_c_at_once():
    # While modules are imported before `main`, Ctrl-C would cause a traceback.
    code = "before = set(sys.modules)\nfrom napari_geosr.cli import main"
    run = f"import sys\n{code}\nprint(*sorted(set(sys.modules) - before))"
    out = subprocess.run(
        [sys.executable, "-c", run], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["__future__", "napari_geosr", "napari_geosr.cli"]


def test_the_package_lists_its_public_functions_and_version():
    code = (
        "import napari_geosr as g\n"
        "assert {'restore', '__version__'} <= set(dir(g))\n"
        "assert g.__version__[0].isdigit()\n"
        "assert set(g.__all__) == set(dir(g))\n"
        "from napari_geosr import *\n"
        "assert callable(restore) and callable(g.read)\n"
        "try: g.nothing\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit('an attribute that does not exist')"
    )
    modules_after(code)


def test_the_list_of_public_functions_loads_no_torch():
    code = (
        "import napari_geosr as geosr\n"
        "for name in geosr.__all__: getattr(geosr, name)\n"
        "assert 'ct-denoise' in repr(geosr.list_models())"
    )
    loaded = modules_after(code)
    assert loaded.isdisjoint({"torch", *QT}), loaded & {"torch", *QT}


def test_readers_and_model_lists_load_no_torch():
    code = (
        "import napari_geosr.io, napari_geosr.operations.models.catalogue as c\n"
        "import napari_geosr.operations.restore, napari_geosr.operations.measure\n"
        "assert c.list_models()\n"
        "assert c.checked_card('foam-denoise')"
    )
    loaded = modules_after(code)
    assert loaded.isdisjoint({"torch", *QT}), loaded & {"torch", *QT}


def test_the_engine_never_imports_napari_or_qt():
    code = (
        "import importlib, pkgutil, napari_geosr\n"
        "def walk(package):\n"
        "    for m in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        if not m.name.startswith('napari_geosr.gui'):\n"
        "            found = importlib.import_module(m.name)\n"
        "            if m.ispkg:\n"
        "                walk(found)\n"
        "walk(napari_geosr)\n"
    )
    loaded = modules_after(code)
    assert "torch" in loaded
    assert loaded.isdisjoint(QT), loaded & set(QT)


def test_help_loads_no_torch():
    code = (
        "from napari_geosr.cli.app import run\n"
        "assert run(['--help']) == 0\n"
        "assert run(['restore', '--help']) == 0"
    )
    loaded = modules_after(code)
    assert loaded.isdisjoint({"torch", "scipy", "skimage", "zarr", *QT})


FACES = [
    "napari_geosr.learning",
    "napari_geosr.learning.losses",
    "napari_geosr.networks",
    "napari_geosr.operations.models",
    "napari_geosr.operations.restore",
    "napari_geosr.operations.restore.ranking",
    "napari_geosr.operations.train",
]


@pytest.mark.parametrize("name", FACES)
def test_what_is_loaded_on_first_use_is_there(name: str):
    package = import_module(name)
    assert package.__all__
    for public in package.__all__:
        assert getattr(package, public) is not None


def test_settings_of_a_restoration_load_no_engine():
    code = (
        "import sys, napari_geosr.operations.restore.config\n"
        "found = [m for m in sys.modules if m.startswith('napari_geosr.inference.r')]\n"
        "assert not found, found"
    )
    assert "torch" not in modules_after(code)


def test_the_manifest_is_one_file():
    inside = ROOT / "src" / "napari_geosr" / "napari.yaml"
    assert inside.resolve() == (ROOT / "napari.yaml").resolve()
    packaged = files("napari_geosr").joinpath("napari.yaml").read_text(encoding="utf-8")
    assert packaged == (ROOT / "napari.yaml").read_text(encoding="utf-8")


def test_pypi_shows_the_readme_with_its_pictures(monkeypatch):
    """The hook is run without hatchling, which only the isolated build installs."""

    class Interface:
        root = str(ROOT)

    name = "hatchling.metadata.plugin.interface"
    parts = name.split(".")
    for i in range(len(parts)):
        module = ModuleType(".".join(parts[: i + 1]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    module.MetadataHookInterface = Interface
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))
    metadata: dict = {}
    hook["ReadmeHook"]().update(metadata)
    assert metadata["readme"]["content-type"] == "text/markdown"
    text, source = metadata["readme"]["text"], (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", source)) > 30
    assert [link for link in links if not link.startswith("https://")] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    ours = [link for link in pictures if link.startswith(hook["FILES"])]
    assert len(ours) >= 7
    assert all((ROOT / link.removeprefix(hook["FILES"])).exists() for link in ours)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert settings["project"]["dynamic"] == ["readme"]
    assert "custom" in settings["tool"]["hatch"]["metadata"]["hooks"]


def test_npe2_finds_the_installed_manifest():
    out = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "napari_geosr"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stdout + out.stderr
    points = distribution("napari-geosr").entry_points.select(group="napari.manifest")
    assert [p.value for p in points] == ["napari_geosr:napari.yaml"]


def commands() -> list[str]:
    manifest = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))
    return [c["python_name"] for c in manifest["contributions"]["commands"]]


@pytest.mark.gui
@pytest.mark.parametrize("python_name", commands())
def test_every_command_of_the_manifest_exists(python_name):
    module, _, attribute = python_name.partition(":")
    assert callable(getattr(import_module(module), attribute))


def test_ci_runs_the_readme_test_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert command in readme.splitlines()
