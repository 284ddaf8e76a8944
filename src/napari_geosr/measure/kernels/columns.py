"""Columns of the two tables that the compiled sweeps fill, and how blocks are merged.

The rows of one pore in two blocks are merged into one row; each column has its own
merge rule.
"""

from __future__ import annotations

import numpy as np

#: Merge rule: the sum.
ADD = 0
#: Merge rule: the smaller value.
LOWEST = 1
#: Merge rule: the larger value.
HIGHEST = 2
#: Merge rule: 1 if either value is 1, else 0.
EITHER = 3

_rules: list[int] = []


def _column(rule: int) -> int:
    """Add a column to the table of sums, and return its number."""
    _rules.append(rule)
    return len(_rules) - 1


# The order must not change: `runs.axis_lengths` computes column numbers from offsets.
COUNT = _column(ADD)
SUM_Z = _column(ADD)
SUM_Y = _column(ADD)
SUM_X = _column(ADD)
SUM_ZZ = _column(ADD)
SUM_YY = _column(ADD)
SUM_XX = _column(ADD)
SUM_ZY = _column(ADD)
SUM_ZX = _column(ADD)
SUM_YX = _column(ADD)
MIN_Z = _column(LOWEST)
MIN_Y = _column(LOWEST)
MIN_X = _column(LOWEST)
MAX_Z = _column(HIGHEST)
MAX_Y = _column(HIGHEST)
MAX_X = _column(HIGHEST)
#: Index of the first voxel in the flattened volume, which determines the order of
#: labels.
FIRST = _column(LOWEST)
TOUCHES = _column(EITHER)
N_COLUMNS = len(_rules)
MERGE_RULES = np.array(_rules)

# The boundary table is separate and small because it is written most often. Its columns
# are sums of integers (the surface in units from `crofton.integer_weights`), so they do
# not depend on the order of the cells.
SURFACE = 0
EULER8 = 1
N_BOUNDARY_COLUMNS = 2


def new_table(n: int) -> np.ndarray:
    """Create an empty table of sums for labels 0..n, (n + 1, N_COLUMNS), int64."""
    return np.zeros((n + 1, N_COLUMNS), np.int64)


def new_boundary(n: int) -> np.ndarray:
    """Create an empty boundary table, (n + 1, N_BOUNDARY_COLUMNS), int64."""
    return np.zeros((n + 1, N_BOUNDARY_COLUMNS), np.int64)
