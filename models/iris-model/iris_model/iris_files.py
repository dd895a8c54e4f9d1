"""The saved form of the estimator: a skops file, which holds data and no code, and a note of the library version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from ml_model_abc import MLModelException

if TYPE_CHECKING:
    from sklearn.svm import SVC

FOLDER = Path(__file__).parent / "model_files"
_ESTIMATOR = "svc.skops"
_NOTE = "saved_by.json"


def save(estimator: SVC, folder: Path = FOLDER) -> None:
    """Write the estimator, and the version of the library that saves it."""
    import sklearn
    import skops.io

    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(estimator, folder / _ESTIMATOR)
    note = {"library": "scikit-learn", "version": sklearn.__version__, "parameters": _parameters(estimator)}
    (folder / _NOTE).write_text(json.dumps(note, indent=1) + "\n")


def _parameters(estimator: SVC) -> dict[str, float]:
    return {"gamma": float(estimator.gamma), "c": float(estimator.C)}


def load(folder: Path = FOLDER) -> SVC:
    """Read the estimator.

    Raises:
        MLModelException: if the files are missing, were saved by another version of scikit-learn, or hold types that
            are not part of an SVC.
    """
    import sklearn
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        note = json.loads((folder / _NOTE).read_text())
        saved_by = note["version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MLModelException(
            f"no saved model in {folder} ({type(error).__name__}: {error}): run iris_train to make one"
        ) from error
    if saved_by != sklearn.__version__:
        raise MLModelException(
            f"the model in {folder} was saved by scikit-learn {saved_by}, and {sklearn.__version__} is installed: "
            f"run iris_train to train it again, or install scikit-learn=={saved_by}"
        )
    try:
        estimator: SVC = skops.io.load(folder / _ESTIMATOR, trusted=[])
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, UntrustedTypesFoundException) as error:
        raise MLModelException(
            f"the model in {folder} cannot be loaded ({type(error).__name__}: {error}): run iris_train to make it again"
        ) from error
    return estimator
