"""Settings of classical algorithms in a study are chosen using held-out views."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import io, reconstruct, simulate
from napari_geosr.io.projections import read_projections
from napari_geosr.operations.reconstruct.fewer_views import fewer_views
from napari_geosr.operations.study import cell as study_cells
from napari_geosr.operations.study import report as study_report
from napari_geosr.operations.study import study
from napari_geosr.operations.study.algorithms import find_algorithm

N, ROWS, VIEWS = 32, 24, 48


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made = simulate(
        "blobs",
        tmp_path_factory.mktemp("scan"),
        size=N,
        rows=ROWS,
        projections=VIEWS,
        radius=(3, 5),
        photons=3e3,
    )
    return made.files


@pytest.fixture(scope="module")
def foam(tmp_path_factory):
    out = tmp_path_factory.mktemp("foam")
    return simulate("foam", out, size=64, rows=ROWS, projections=100).files


@pytest.fixture
def row_of(files, tmp_path, monkeypatch):
    """The row of a study with one cell."""
    for name in ("curves_png", "table_png", "volumes_png"):
        monkeypatch.setattr(study_report, name, lambda *_: b"")
    scan = read_projections(files["projections"], centre=19.5)
    true = {key: io.read(files[path]) for key, path in _TRUE.items()}

    def row(algorithm, count, **more):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        given = {"counts": (count,), "algorithms": (algorithm,), "threads": 1}
        return study(scan, folder, **given, **more, **true).rows[1]

    return row


_TRUE = {"reference": "truth", "mask": "sample"}


@pytest.mark.parametrize(
    ("best", "near"),
    [
        (10, {5, 10, 20}),
        (20, {10, 20, 40}),
        (2, {2, 5, 10, 20}),
        (80, {10, 20, 40, 80}),
    ],
)
def test_settings_of_the_least_error_on_rows_that_are_not_judged(
    row_of, monkeypatch, best, near
):
    tried = {}

    def off_by(context, few, rows, should_stop, **changes):
        """Nearly the truth, with an error that grows away from the best iterations."""
        if not changes:  # in which the sample is found
            return (yield from real(context, few, rows, should_stop))
        assert (few.n_angles, changes["algorithm"]) == (8, "cgls")
        n = changes["options"]["iterations"]
        tried[n] = rows
        changes["options"] = {"iterations": 10}
        slices = yield from real(context, context.scan, rows, should_stop, **changes)
        if n == best:
            return slices
        return slices.replace(data=np.asarray(slices.data) * (1 + 0.02 * abs(n - best)))

    real = study_cells.StudyContext.in_memory_steps
    monkeypatch.setattr(study_cells.StudyContext, "in_memory_steps", off_by)
    row = row_of("cgls", 8)
    assert set(tried) == near
    assert row["settings"] == {"iterations": best, "tuned_on": "views left out"}
    # The second half, apart from a gap, is evaluated.
    assert {first < end <= ROWS // 2 for first, end in tried.values()} == {True}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "count"),
    [
        ("cgls", 85),
        pytest.param("cgls", 50, marks=pytest.mark.slow),
        pytest.param("sirt", 50, marks=pytest.mark.slow),
        pytest.param("tv", 50, marks=pytest.mark.slow),
    ],
)
def test_the_settings_chosen_are_those_nearest_to_the_truth(
    foam, tmp_path, algorithm, count
):
    """Evaluated here only on the rows used for assessment."""
    scan = read_projections(foam["projections"], centre=35.5)
    true = {key: io.read(foam[path]) for key, path in _TRUE.items()}
    row = study(
        scan, tmp_path, counts=(count,), algorithms=(algorithm,), threads=1, **true
    ).rows[1]
    first = ROWS // 2 + 2
    truth, sample = (np.asarray(v.data)[first : first + 4] for v in true.values())
    scan, edge, found = (
        fewer_views(scan.rows(first, first + 4), count),
        slice(4, 68),
        {},
    )
    for given in find_algorithm(algorithm).candidates:
        made = reconstruct(scan, algorithm=algorithm, options=given, size=72, threads=1)
        off = (np.asarray(made.data)[:, edge, edge] - truth)[sample != 0]
        (value,) = given.values()
        found[value] = 10 * np.log10(np.square(off).mean())
    chosen = row["settings"][next(iter(given))]
    assert found[chosen] < min(found.values()) + 0.3
    assert max(found.values()) > min(found.values()) + 5  # the choice matters
