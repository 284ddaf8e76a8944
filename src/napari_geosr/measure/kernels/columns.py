"""Numbers of the columns in the two tables that the compiled sweeps fill."""

from __future__ import annotations

import numpy as np

COUNT, SUM_Z, SUM_Y, SUM_X = 0, 1, 2, 3
SUM_ZZ, SUM_YY, SUM_XX, SUM_ZY, SUM_ZX, SUM_YX = 4, 5, 6, 7, 8, 9
MIN_Z, MIN_Y, MIN_X, MAX_Z, MAX_Y, MAX_X = 10, 11, 12, 13, 14, 15
FIRST, TOUCHES = 16, 17
N_COLUMNS = 18

# The table of what the boundary of a pore gives: small, as it is hit most often.
# Eight times the Euler number is a whole number, so it is exact as a float.
SURFACE, EULER8 = 0, 1
N_BOUNDARY_COLUMNS = 2


def new_table(n: int) -> np.ndarray:
    """An empty table of sums for labels 0..n, shape (n + 1, N_COLUMNS), int64."""
    return np.zeros((n + 1, N_COLUMNS), np.int64)


def new_boundary(n: int) -> np.ndarray:
    """An empty boundary table, shape (n + 1, N_BOUNDARY_COLUMNS), float64."""
    return np.zeros((n + 1, N_BOUNDARY_COLUMNS))
