"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked ``every(n)`` mark all cases but each n-th as slow."""
    numbers: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("every"):
            test = item.nodeid.partition("[")[0]
            if numbers[test] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            numbers[test] += 1


def pytest_collection_finish() -> None:
    """What was imported and collected stays: garbage is not looked for in it again.

    Leaks of tests are noticed as before, for what they make is younger.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files, beside the checkout; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found: {SHARED_DATA} does not exist")
    return SHARED_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """What fails once fails again: torch, where it is loaded, starts from one seed."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Make an empty folder; pytest would look through thousands for a free number."""
    place, numbers = tmp_path_factory.mktemp("own"), itertools.count()

    def make() -> Path:
        folder = place / str(next(numbers))
        folder.mkdir()
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def no_list_of_a_person(new_folder: Callable[[], Path]) -> Iterator[None]:
    """Also fixtures of a module or session, which come before that of a test."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(new_folder()))
        yield


@pytest.fixture(autouse=True)
def own_list_of_jobs(
    new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of tests stay off the person's list, in processes of theirs as well."""
    monkeypatch.setenv("XDG_STATE_HOME", str(new_folder()))
