"""Sets how long the readers are fuzzed, and makes the helpers importable.

There are a few examples by default; ``GEOSR_FUZZ=2000`` requests 2000 for each test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from reading_process import ReadingProcess


@pytest.fixture(scope="module")
def reader() -> Iterator[ReadingProcess]:
    """A process that reads damaged files and may crash."""
    started = ReadingProcess()
    yield started
    started.close()
