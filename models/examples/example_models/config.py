"""A configuration with all examples: `APP_SETTINGS=example_models.config:Examples make up`."""

from typing import Any, ClassVar


class Examples:
    """The iris model and the examples."""

    models: ClassVar[list[dict[str, Any]]] = [
        {"module_name": "iris_model.iris_predict", "class_name": "IrisModel"},
        {"module_name": "example_models.topics", "class_name": "TopicModel"},
        {"module_name": "example_models.digits", "class_name": "DigitModel"},
        {"module_name": "example_models.words", "class_name": "NextWordModel"},
        {"module_name": "example_models.words", "class_name": "StoryModel"},
    ]
