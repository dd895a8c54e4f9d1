"""The iris model: its predictions, its errors, its saved form."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from iris_model import iris_files
from iris_model.iris_predict import SPECIES, IrisModel
from ml_model_abc import MLModelException, MLModelSchemaValidationException

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
FIELDS = tuple(FLOWER)


@pytest.fixture(scope="module")
def model() -> IrisModel:
    return IrisModel()


def test_it_predicts_what_the_estimator_predicts_for_every_row(model: IrisModel) -> None:
    from sklearn import datasets, svm

    iris = datasets.load_iris()
    estimator = svm.SVC(gamma=0.001, C=100.0).fit(iris.data[:-1], iris.target[:-1])
    expected = [SPECIES[i] for i in estimator.predict(iris.data)]
    rows = [dict(zip(FIELDS, map(float, row), strict=True)) for row in iris.data]
    assert [model.predict(row)["species"] for row in rows] == expected
    assert set(expected) == set(SPECIES)


def test_its_output_fits_its_schema(model: IrisModel) -> None:
    output = model.predict(FLOWER)
    assert model.output_schema.validate(output) == {"species": "setosa"}
    assert type(output["species"]) is str


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({**FLOWER, "petal_width": "abc"}, "Key 'petal_width' error:\n'abc' should be instance of 'float'"),
        ({**FLOWER, "petal_width": 1}, "Key 'petal_width' error:\n1 should be instance of 'float'"),
        ({k: v for k, v in FLOWER.items() if k != "petal_width"}, "Missing key: 'petal_width'"),
        ({**FLOWER, "colour": 1.0}, "Wrong key 'colour' in"),
        (None, "None should be instance of 'dict'"),
    ],
)
def test_the_error_for_bad_input_names_the_key(model: IrisModel, data: Any, text: str) -> None:
    with pytest.raises(MLModelSchemaValidationException) as raised:
        model.predict(data)
    assert str(raised.value).startswith(f"Failed to validate input data: {text}")


def test_a_batch_is_predicted_as_its_rows_are(model: IrisModel) -> None:
    from sklearn import datasets

    rows = [dict(zip(FIELDS, map(float, row), strict=True)) for row in datasets.load_iris().data]
    assert model.predict_batch(rows) == [model.predict(row) for row in rows]


@pytest.mark.parametrize("bad", [{**FLOWER, "petal_width": "abc"}, None, {**FLOWER, "sepal_width": float("nan")}])
def test_a_bad_row_of_a_batch_has_its_own_error_and_the_others_their_species(model: IrisModel, bad: Any) -> None:
    with pytest.raises((MLModelSchemaValidationException, ValueError), match=r"\S") as raised:
        model.predict(bad)
    first, error, last = model.predict_batch([FLOWER, bad, FLOWER])
    assert first == last == model.predict(FLOWER)
    assert (type(error), str(error)) == (raised.type, str(raised.value))


def test_a_row_of_huge_numbers_is_not_a_bad_row(model: IrisModel) -> None:
    huge = dict.fromkeys(FIELDS, 1e308)
    assert model.predict_batch([huge, FLOWER])[1] == model.predict(FLOWER)


def test_a_batch_of_bad_rows_only_needs_no_estimator(model: IrisModel) -> None:
    assert [type(output) for output in model.predict_batch([None, 1])] == [MLModelSchemaValidationException] * 2


def test_the_command_line_trains_it_again(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "iris_train"), "-gamma", "0.01", "-c", "10", "-folder", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "SVC(gamma=0.01, C=10.0)" in printed
    assert iris_files.load(tmp_path).C == 10


@pytest.mark.parametrize("option", [["-c", "0"], ["-gamma", "nan"], ["-gamma", "x"]])
def test_training_refuses_wrong_parameters(option: list[str]) -> None:
    command = [str(Path(sys.executable).parent / "iris_train"), *option]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert option[0] in result.stderr


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    shutil.copytree(iris_files.FOLDER, tmp_path / "files")
    return tmp_path / "files"


def test_a_file_of_another_library_version_is_refused_with_both_versions(saved: Path) -> None:
    import sklearn

    note = json.loads((saved / "saved_by.json").read_text())
    (saved / "saved_by.json").write_text(json.dumps({**note, "version": "0.19.2"}))
    with pytest.raises(
        MLModelException,
        match=rf"saved by scikit-learn 0\.19\.2, and {sklearn.__version__} is installed: run iris_train",
    ):
        iris_files.load(saved)


@pytest.mark.parametrize("spoil", ["svc.skops", "saved_by.json"])
def test_a_spoilt_file_is_refused_in_a_sentence(saved: Path, spoil: str) -> None:
    (saved / spoil).write_bytes(b"\x00garbage")
    with pytest.raises(MLModelException, match="run iris_train"):
        iris_files.load(saved)
    (saved / spoil).unlink()
    with pytest.raises(MLModelException, match="run iris_train"):
        iris_files.load(saved)


class Intruder:
    """A type that is not part of a saved estimator."""


def test_a_file_that_holds_anything_but_an_estimator_is_not_loaded(saved: Path) -> None:
    import skops.io

    skops.io.dump(Intruder(), saved / "svc.skops")
    with pytest.raises(MLModelException, match="cannot be loaded"):
        iris_files.load(saved)
