"""The example models: a stock client calls each through the broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zerorpc
from example_models import digits_train
from sklearn.datasets import load_digits

from tests.processes import Cluster, cluster

pytestmark = pytest.mark.one_process

EXAMPLES = "example_models.config:Examples"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("examples")) as made:
        made.start_worker(APP_SETTINGS=EXAMPLES)
        made.wait_for_workers(1)
        yield made


def test_all_of_them_are_one_service(examples: Cluster) -> None:
    names = [model["qualified_name"] for model in examples.client().get_models()]
    assert names == ["iris_model", "topic_model", "digit_model", "next_word_model", "story_model"]


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("Three cultivars differ in alcohol, malic acid and flavanoids.", "wine"),
        ("Sepal and petal of setosa and versicolor were measured by Fisher.", "iris"),
        ("Body mass index and blood pressure of the patients, after one year.", "diabetes"),
    ],
)
def test_the_topic_of_a_sentence(examples: Cluster, text: str, topic: str) -> None:
    client = examples.client()
    answer = client.topic_model_predict({"text": text})
    assert answer["topic"] == topic
    assert client.topic_model_predict_batch([{"text": text}] * 3)[2]["topic"] == topic


def test_the_digits_of_the_data_set(examples: Cluster) -> None:
    digits = load_digits()
    rows = [{"pixels": image.tolist()} for image in digits.images[:500]]
    answers = examples.client().digit_model_predict_batch(rows)
    right = sum(answer["digit"] == digit for answer, digit in zip(answers, digits.target.tolist(), strict=False))
    assert right > 470


def test_the_onnx_model_can_be_trained_again(tmp_path: Path) -> None:
    assert digits_train.train(tmp_path / "digits.onnx") > 0.94
    assert (tmp_path / "digits.onnx").stat().st_size < 10_000


def test_the_next_word(examples: Cluster) -> None:
    client = examples.client()
    words = client.next_word_model_predict({"word": "Python"})["words"]
    assert len(words) == 5
    assert 0 < sum(words.values()) <= 1
    with pytest.raises(zerorpc.RemoteError) as raised:
        client.next_word_model_predict({"word": "zyzzyva"})
    assert (raised.value.name, "'zyzzyva'" in raised.value.msg) == ("MLModelException", True)


def test_a_story_is_told_word_by_word(examples: Cluster) -> None:
    client = examples.client()
    asked = {"start": "python", "words": 30, "seed": 7}
    words = list(client.story_model_predict_stream(asked))
    assert words[0] == "python"
    assert client.story_model_predict(asked) == {"text": " ".join(words)}
    endless = client.story_model_predict_stream({"start": "python", "words": 100_000})
    assert next(endless) == "python"


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("topic_model", {"text": ""}),
        ("topic_model", {"text": "x" * 10_001}),
        ("digit_model", {"pixels": [[0] * 8] * 7}),
        ("digit_model", {"pixels": [[17] * 8] * 8}),
        ("next_word_model", {}),
        ("story_model", {"start": "python", "words": 0}),
    ],
)
def test_what_does_not_fit_is_refused(examples: Cluster, model: str, data: dict[str, Any]) -> None:
    client = examples.client()
    with pytest.raises(zerorpc.RemoteError) as raised:
        client(f"{model}_predict", data)
    assert raised.value.name == "MLModelSchemaValidationException"
    with pytest.raises(zerorpc.RemoteError) as raised:
        list(client(f"{model}_predict_stream", data if model == "story_model" else [data]))
    assert raised.value.name == "MLModelSchemaValidationException"


def test_their_examples_are_in_the_service_s_document(examples: Cluster) -> None:
    client = examples.client()
    shown = {one["name"]: one["examples"] for one in client.get_service_schema()["methods"] if one.get("examples")}
    for name in ("topic_model", "digit_model", "next_word_model", "story_model"):
        (example,) = shown[f"{name}_predict"]
        assert client(f"{name}_predict", example["params"][0]["value"]) == example["result"]["value"]
