"""A typed Python client, made from a service's OpenRPC document.

The types of inputs and outputs are datamodel-code-generator's work; the class around the stock ZeroRPC client is the
template's.
"""

import json
import re
from typing import Any

from datamodel_code_generator import generate
from datamodel_code_generator.enums import DataModelType, InputFileType
from datamodel_code_generator.format import Formatter, PythonVersion

from scripts.describe.templates import template
from scripts.describe.untrusted import SCHEMAS, check_definitions, identifier, literal, plain_schema

_OWN_METHODS = ("close",)
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "object": "dict[str, Any]"}


def render(document: dict[str, Any]) -> str:
    """Return the source of a module that needs only zerorpc.

    Raises:
        DocumentError: if the document has names that are not identifiers.
    """
    title = literal(f"A client of {document['info']['title']}, made from its OpenRPC document. Needs zerorpc.")
    methods: list[dict[str, Any]] = []
    for method in document["methods"]:
        taken = [*_OWN_METHODS, *(other["name"] for other in methods)]
        methods.append(_method(method, taken))
    return template("client.py.jinja").render(title=title, types=_types(document), methods=methods)


def _method(method: dict[str, Any], taken: list[str]) -> dict[str, Any]:
    parameters: dict[str, str] = {}
    for param in method["params"]:
        parameters[identifier(param["name"], ["self", "cast", *parameters])] = _type(param["schema"])
    result = method["result"]["schema"]
    is_stream = bool(method.get("x-stream"))
    return {
        "name": identifier(method["name"], taken),
        "procedure": literal(method["name"]),
        "summary": literal(method["summary"]),
        "params": parameters,
        "result": f"Iterator[{_type(result.get('items', {}))}]" if is_stream else _type(result),
    }


def _types(document: dict[str, Any]) -> str:
    """Return the definitions of the types that the schemas describe."""
    schemas = document["components"]["schemas"]
    definitions = {_class(name): plain_schema(schema) for name, schema in schemas.items()}
    text = json.dumps({"$defs": definitions})
    text = re.sub(rf'"\$ref": "{SCHEMAS}(\w+)"', lambda found: f'"$ref": "#/$defs/{_class(found[1])}"', text)
    source = generate(
        text,
        input_file_type=InputFileType.JsonSchema,
        output_model_type=DataModelType.TypingTypedDict,
        target_python_version=PythonVersion.PY_311,
        use_closed_typed_dict=False,
        skip_root_model=True,
        formatters=[Formatter.BUILTIN],
        custom_file_header="# Types of inputs and outputs.",
    )
    assert isinstance(source, str)
    return check_definitions(source.replace("from __future__ import annotations\n", "").strip())


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a schema of the document."""
    schema = plain_schema(schema)
    reference = schema.get("$ref")
    if reference is not None:
        return _class(reference.removeprefix(SCHEMAS))
    if schema.get("type") == "array":
        return f"list[{_type(schema.get('items', {}))}]"
    return _PLAIN.get(str(schema.get("type")), "Any")


def _class(name: str) -> str:
    return identifier("".join(part[:1].upper() + part[1:] for part in identifier(name).split("_")))
