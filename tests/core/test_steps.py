"""Steps: running a generator to its end."""

from __future__ import annotations

from napari_geosr.core.steps import BlockDone, ResultReady, run_to_end


def test_run_to_end_returns_the_result_and_closes():
    closed = []

    def steps():
        try:
            yield BlockDone(done=1, total=1)
            yield ResultReady(result=42)
        finally:
            closed.append(True)

    seen = []
    assert run_to_end(steps(), seen.append) == 42
    assert closed == [True]
    assert isinstance(seen[0], BlockDone)
