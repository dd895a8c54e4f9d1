"""Models in plain Python: guess the next word, and write a story word by word, in the style of Python's documentation.

Both are Markov chains. Their constructors make the chain from the text that CPython ships for `help()`.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from ml_model_abc import MLModel, MLModelException, MLModelSchemaValidationException
from schema import And, Optional, Schema, SchemaError

MOST_WORDS = 100_000

_WORD = re.compile(r"[a-z]{2,}")


def _chain() -> dict[str, Counter[str]]:
    """How often each word follows another."""
    from pydoc_data import topics

    chain: dict[str, Counter[str]] = defaultdict(Counter)
    for text in topics.topics.values():
        words = _WORD.findall(text.lower())
        for word, following in pairwise(words):
            chain[word][following] += 1
    return dict(chain)


def _check(schema: Schema, data: Any) -> None:
    try:
        schema.validate(data)
    except SchemaError as error:
        raise MLModelSchemaValidationException(f"Failed to validate input data: {error}") from error


def _following(chain: dict[str, Counter[str]], word: str) -> Counter[str]:
    try:
        return chain[word.lower()]
    except KeyError:
        raise MLModelException(f"the word {word[:40]!r} is in none of the texts that this model knows") from None


class NextWordModel(MLModel):
    """Guesses the next word."""

    display_name = "Next Word Model"
    qualified_name = "next_word_model"
    description = "Tells which words follow a word, and how often, in Python's documentation."
    major_version = 0
    minor_version = 1
    input_schema = Schema({"word": And(str, len)})
    output_schema = Schema({"words": {str: float}})
    input_examples = ({"word": "python"},)

    def __init__(self) -> None:
        """Read the texts."""
        self._chain = _chain()

    def predict(self, data: Any) -> dict[str, Any]:
        """Predict the five likeliest next words, each with its share.

        Raises:
            MLModelSchemaValidationException: if the word is missing or empty.
            MLModelException: if the word is not in the texts.
        """
        _check(self.input_schema, data)
        following = _following(self._chain, data["word"])
        return {"words": {word: count / following.total() for word, count in following.most_common(5)}}


class StoryModel(MLModel):
    """Writes stories, word by word."""

    display_name = "Story Model"
    qualified_name = "story_model"
    description = "Goes on from a word, as Python's documentation might."
    major_version = 0
    minor_version = 1
    input_schema = Schema(
        {
            "start": And(str, len),
            Optional("words"): And(int, lambda words: 0 < words <= MOST_WORDS),
            Optional("seed"): int,
        }
    )
    output_schema = Schema({"text": str})
    input_examples = ({"start": "python", "words": 8, "seed": 1},)

    def __init__(self) -> None:
        """Read the texts."""
        self._chain = _chain()

    def predict(self, data: Any) -> dict[str, str]:
        """Write the whole story at once.

        Raises:
            MLModelSchemaValidationException: if the input does not fit the schema.
            MLModelException: if the first word is not in the texts.
        """
        return {"text": " ".join(self.predict_stream(data))}

    def predict_stream(self, data: Any) -> Iterator[str]:
        """Yield one word after the other. Raises what `predict` raises."""
        _check(self.input_schema, data)
        word = data["start"].lower()
        _following(self._chain, word)
        chance = random.Random(data.get("seed", 0))
        for _ in range(data.get("words", 20)):
            yield word
            following = self._chain.get(word)
            if following is None:
                return
            word = chance.choices(list(following), list(following.values()))[0]
