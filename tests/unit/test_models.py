"""How a worker finds, checks and loads the models of its configuration."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.runtime.settings import ConfigError
from cluster.wire.descriptions import read_description, write_description
from tests.unit.world import describe
from worker.models.configuration import configured_entries
from worker.models.entry import parse_entry
from worker.models.loaded_model import LoadedModel
from worker.models.manager import ModelManager


def load(config: str) -> dict[str, LoadedModel]:
    manager = ModelManager(configured_entries({"APP_SETTINGS": f"tests.services.configs:{config}"}))
    return {model.description.qualified_name: model for model in manager.load()}


@pytest.mark.parametrize("name", ["Config", "ProdConfig", "BetaConfig", "TestConfig", "DevConfig", None])
def test_every_configuration_hosts_the_iris_model(name: str | None) -> None:
    (entry,) = configured_entries({} if name is None else {"APP_SETTINGS": name})
    assert (entry.module_name, entry.class_name) == ("iris_model.iris_predict", "IrisModel")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("NoModule", r"no_such_package\.model\.Model: there is no module 'no_such_package': install"),
        ("NoClass", r"the module has no class 'Nothing': correct class_name"),
        ("NotAModel", r"models\.NoModel is not an MLModel: derive it from"),
        ("IsAbstract", r"models\.Abstract is abstract: define .*predict"),
        ("SameName", r"the qualified name 'echo' is already that of another entry, .* rename one model, or give"),
        ("BadName", r"'not a name' should be an identifier"),
        (
            "UnknownKey",
            r"configs\.UnknownKey\.models\[0\]: 'slot' is not a setting of a model; the settings are .*slots",
        ),
        ("BadSlots", r"models\[0\]: slots=0 is wrong: it should be 1 or more"),
        ("NoClassName", r"models\[0\] lacks 'class_name'"),
        ("NoDictionary", r"models\[0\]='echo': an entry should be a dictionary"),
        ("Empty", r"at least one entry"),
        ("Nowhere", r"is not a configuration; the configurations are .*EchoOnly"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused(config: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        load(config)
    assert "\n" not in str(raised.value)


def test_an_unknown_configuration_is_refused_with_the_names_of_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'Produktion' is not a configuration; the configurations are .*ProdConfig"):
        configured_entries({"APP_SETTINGS": "Produktion"})


def test_a_model_of_ml_base_is_hosted_unchanged() -> None:
    model = load("MlBase")["colour_model"]
    assert (model.description.major_version, model.description.minor_version) == (2, 7)
    assert model.description.input_schema["properties"]["petal_length"]["type"] == "number"
    assert model.predict({"petal_length": 2.0, "petal_width": 1.5}) == {"colour": "red", "area": 3.0}


@pytest.mark.parametrize("data", [{"petal_length": 2.0}, {"petal_length": "x", "petal_width": 1.0}, None, 5])
def test_bad_input_to_a_model_of_ml_base_is_a_schema_error(data: Any) -> None:
    model = load("MlBase")["colour_model"]
    with pytest.raises(Exception, match=r"^Failed to validate input data: ") as raised:
        model.predict(data)
    assert type(raised.value).__name__ == "MLModelSchemaValidationException"


def test_a_model_without_schemas_accepts_everything() -> None:
    description = load("EchoOnly")["echo"].description
    assert (description.input_schema, description.output_schema) == ({}, {})


def test_an_exception_of_a_constructor_is_not_a_wrong_setting() -> None:
    with pytest.raises(OSError, match="weights"):
        load("FailingToLoad")


def hosted(config: str, *only: str) -> list[str]:
    manager = ModelManager(configured_entries({"APP_SETTINGS": f"tests.services.configs:{config}"}), only)
    return [model.description.qualified_name for model in manager.load()]


def test_a_worker_hosts_the_configured_models_that_its_setting_names() -> None:
    assert hosted("SleeperAndEcho") == ["sleeper", "echo"]
    assert hosted("SleeperAndEcho", "echo") == ["echo"]
    assert hosted("MlBase", "colour_model") == ["colour_model"]


def test_the_packages_of_models_that_the_setting_leaves_out_need_not_be_installed() -> None:
    assert hosted("EchoAndNoModule", "echo") == ["echo"]


def test_a_model_that_is_not_configured_cannot_be_hosted() -> None:
    with pytest.raises(ConfigError, match="WORKER_MODELS='echo,ekko': the configuration has no model 'ekko'; its"):
        hosted("SleeperAndEcho", "echo", "ekko")
    with pytest.raises(ConfigError, match=r"its models are echo; another entry cannot be loaded: .*no_such_package"):
        hosted("EchoAndNoModule", "other")


def test_examples_that_json_or_msgpack_cannot_carry_are_left_out() -> None:
    model = load("OddExamples")["oddexamples"].description
    assert model.examples == [{"input": 1, "output": {"of": 1}}], "the others are left out"
    description = replace(describe("id"), models=[model])
    assert read_description(write_description(description)).models == [model]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"slots": "2"}, "the entry: slots='2' is wrong: it should be a whole number"),
        ({"slots": True}, "the entry: slots=True is wrong: it should be a whole number"),
        ({"retry": "no"}, "the entry: retry='no' is wrong: it should be true or false"),
        ({"retry": 0}, "the entry: retry=0 is wrong: it should be true or false"),
        ({"timeout_s": "5"}, "the entry: timeout_s='5' is wrong: it should be a number"),
        ({"max_batch_size": 2.0}, "the entry: max_batch_size=2.0 is wrong: it should be a whole number"),
    ],
)
def test_settings_of_a_model_have_the_right_type(setting: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_entry({"module_name": "m", "class_name": "M", **setting})
    assert str(raised.value) == says
    assert parse_entry({"module_name": "m", "class_name": "M", "timeout_s": 5}).timeout_s == 5.0
