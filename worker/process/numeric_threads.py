"""How many threads numeric libraries use. Each of them would take all cores, in each worker."""

import os

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What OpenMP, OpenBLAS, MKL, BLIS, Accelerate and NumExpr read once, when they are imported."""


def limit(threads: int) -> None:
    """Set the variables that are not set. Call it before any model's module is imported.

    Args:
        threads: of each library, at least 1; `OMP_NUM_THREADS`, if it is set, counts instead.
    """
    value = os.environ.get("OMP_NUM_THREADS") or str(threads)
    for name in VARIABLES:
        if not os.environ.get(name):
            os.environ[name] = value
