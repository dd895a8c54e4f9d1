"""`iris_train`: trains the estimator on scikit-learn's iris data and saves it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from iris_model import iris_files

if TYPE_CHECKING:
    from sklearn.svm import SVC

GAMMA = 0.001
C = 100.0


def train(gamma: float = GAMMA, c: float = C) -> SVC:
    """Fit a support vector classifier on the iris data without its last row."""
    from sklearn import datasets, svm

    iris = datasets.load_iris()
    return svm.SVC(gamma=gamma, C=c).fit(iris.data[:-1], iris.target[:-1])


def main() -> None:
    """Train and save. Prints where, and the accuracy on the training data."""
    parser = argparse.ArgumentParser(prog="iris_train", description="Train the iris model and save it.")
    parser.add_argument("-gamma", type=_positive, default=GAMMA, help="kernel coefficient (default: %(default)s)")
    parser.add_argument("-c", type=_positive, default=C, help="regularization parameter (default: %(default)s)")
    parser.add_argument("-folder", type=Path, default=iris_files.FOLDER, help="where to save (default: the package's)")
    options = parser.parse_args()

    from sklearn import datasets

    estimator = train(options.gamma, options.c)
    iris_files.save(estimator, options.folder)
    iris = datasets.load_iris()
    score = estimator.score(iris.data[:-1], iris.target[:-1])
    print(f"SVC(gamma={options.gamma}, C={options.c}) fits {score:.1%} of its data; saved in {options.folder}")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a positive number")
    return value


if __name__ == "__main__":
    main()
