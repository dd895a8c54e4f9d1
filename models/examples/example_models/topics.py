"""A text classifier of scikit-learn: names the data set of scikit-learn that a sentence is about.

The constructor trains it within a second, on the descriptions of the data sets that scikit-learn ships.
"""

import re
from typing import Any

from ml_model_abc import MLModel, MLModelSchemaValidationException
from schema import And, Or, Schema, SchemaError

TOPICS = ("breast cancer", "diabetes", "digits", "iris", "wine")
LONGEST_TEXT = 10_000


class TopicModel(MLModel):
    """Classifies sentences by topic."""

    display_name = "Topic Model"
    qualified_name = "topic_model"
    description = "Tells which of scikit-learn's data sets a sentence speaks of."
    major_version = 0
    minor_version = 1
    input_schema = Schema({"text": And(str, len, lambda text: len(text) <= LONGEST_TEXT)})
    output_schema = Schema({"topic": Or(*TOPICS), "probability": float})
    input_examples = ({"text": "The alcohol and the malic acid of three cultivars."},)

    def __init__(self) -> None:
        """Train on the descriptions that the library ships."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        sentences, topics = _sentences()
        words = TfidfVectorizer(sublinear_tf=True, stop_words="english", ngram_range=(1, 2))
        self._pipeline = make_pipeline(words, LogisticRegression(C=20.0, class_weight="balanced"))
        self._pipeline.fit(sentences, topics)

    def predict(self, data: Any) -> dict[str, Any]:
        """Classify one text.

        Raises:
            MLModelSchemaValidationException: if the text is missing, empty or too long.
        """
        return self._topics([_text(data)])[0]

    def predict_batch(self, rows: list[Any]) -> list[Any]:
        """Classify several texts. Each wrong text gets its own exception."""
        outputs: list[Any] = []
        for row in rows:
            try:
                outputs.append(_text(row))
            except MLModelSchemaValidationException as error:
                outputs.append(error)
        texts = [output for output in outputs if isinstance(output, str)]
        topics = iter(self._topics(texts) if texts else [])
        return [next(topics) if isinstance(output, str) else output for output in outputs]

    def _topics(self, texts: list[str]) -> list[dict[str, Any]]:
        probabilities = self._pipeline.predict_proba(texts)
        best = probabilities.argmax(axis=1)
        return [
            {"topic": str(self._pipeline.classes_[place]), "probability": float(row[place])}
            for row, place in zip(probabilities, best, strict=True)
        ]


def _text(data: Any) -> str:
    try:
        TopicModel.input_schema.validate(data)
    except SchemaError as error:
        raise MLModelSchemaValidationException(f"Failed to validate input data: {error}") from error
    text: str = data["text"]
    return text


def _sentences() -> tuple[list[str], list[str]]:
    """Sentences, and the topic of each."""
    from sklearn import datasets

    sentences: list[str] = []
    topics: list[str] = []
    for topic in TOPICS:
        described: str = getattr(datasets, f"load_{topic.replace(' ', '_')}")().DESCR
        found = [part.strip() for part in re.split(r"(?<=[.:])\s+|\n\s*\n", described) if len(part.split()) > 2]
        sentences += found
        topics += [topic] * len(found)
    return sentences, topics
