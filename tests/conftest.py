"""Fixtures shared by all tests."""

from __future__ import annotations

import functools
import gc
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import docstring_parser
import numpy as np
import pytest
from hypothesis import settings

# A test may take longer than usual on a busy machine.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
# Tests of any folder can import helper modules from here.
sys.path.insert(0, str(Path(__file__).parent))
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For a test marked ``every(n)``, mark all cases except every n-th one as slow."""
    numbers: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("every"):
            test = item.nodeid.partition("[")[0]
            if numbers[test] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            numbers[test] += 1


def pytest_collection_finish() -> None:
    """Exclude imported and collected objects from further garbage collection.

    Leaks of tests are still detected, because their objects are newer. Collections are
    less frequent than by default, because syntax trees, models and windows consist of
    many objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session", autouse=True)
def docstrings_are_parsed_once() -> Iterator[None]:
    """Cache the parsed sources of settings; parsing them takes half of a command's
    time.
    """
    with pytest.MonkeyPatch.context() as patch:
        parse = functools.cache(docstring_parser.parse_from_object)
        patch.setattr(docstring_parser, "parse_from_object", parse)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files next to the checkout; skips if it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found: {SHARED_DATA} does not exist")
    return SHARED_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Make failures reproducible: if torch is loaded, it starts from a fixed seed."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


#: Measurements of networks, by architecture.
_SPEEDS: dict[object, float] = {}
_STORAGE: dict[object, float] = {}
#: Tests of the measurement itself.
_MEASURED_EACH_TIME = {"inference", "networks"}


def _architecture(network: Any) -> str:
    """Everything except the weights that determines a network's speed and memory."""
    plain = (bool, int, str, tuple, type(None))
    parts = [
        (
            type(module).__qualname__,
            [(k, v) for k, v in vars(module).items() if isinstance(v, plain)],
            [(tuple(p.shape), p.dtype) for p in module.parameters(recurse=False)],
        )
        for module in network.modules()
    ]
    return f"{parts} {getattr(network, 'spec', None)}"


@pytest.fixture(autouse=True)
def networks_are_measured_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cache the measured memory and speed of networks, which takes up to a second each.

    Most tests load the same few networks.
    """
    if _MEASURED_EACH_TIME & set(request.path.parts):
        return
    from napari_geosr.inference import compute, memory

    time_of, storage_of = compute.seconds_per_voxel, memory.count_storage

    def seconds_per_voxel(
        network: Any, device: str, threads: int | None, most_voxels: int = 1 << 40
    ) -> float:
        if compute.known_speed(network, device, threads) is None:
            key = _architecture(network), device, threads
            if key not in _SPEEDS:
                _SPEEDS[key] = time_of(network, device, threads, most_voxels)
            compute.learn_speed(network, device, threads, _SPEEDS[key])
        return time_of(network, device, threads, most_voxels)

    def count_storage(
        network: Any,
        window: Sequence[int],
        kind: str = "cpu",
        core: tuple[slice, ...] | None = None,
    ) -> float:
        key = _architecture(network), tuple(window), kind, str(core)
        if key not in _STORAGE:
            _STORAGE[key] = storage_of(network, window, kind, core)
        return _STORAGE[key]

    monkeypatch.setattr(compute, "seconds_per_voxel", seconds_per_voxel)
    monkeypatch.setattr(memory, "count_storage", count_storage)


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Make an empty folder; pytest would search thousands for a free number."""
    place, numbers = tmp_path_factory.mktemp("own"), itertools.count()

    def make() -> Path:
        folder = place / str(next(numbers))
        folder.mkdir()
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def no_list_of_a_person(new_folder: Callable[[], Path]) -> Iterator[None]:
    """Also applies to fixtures of a module or session, which precede that of a test."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(new_folder()))
        yield


@pytest.fixture(autouse=True)
def own_list_of_jobs(
    new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep jobs of tests, and of their processes, off the user's list."""
    monkeypatch.setenv("XDG_STATE_HOME", str(new_folder()))
