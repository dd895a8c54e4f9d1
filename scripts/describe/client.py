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

_SCHEMAS = "#/components/schemas/"
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "object": "dict[str, Any]"}


def render(document: dict[str, Any]) -> str:
    """Return the source of a module that needs only zerorpc."""
    methods = [
        {
            "name": method["name"],
            "summary": method["summary"],
            "params": [(param["name"], _type(param["schema"])) for param in method["params"]],
            "result": _type(method["result"]["schema"]),
            "item": _type(method["result"]["schema"].get("items", {})),
            "is_stream": bool(method.get("x-stream")),
        }
        for method in document["methods"]
    ]
    return template("client.py.jinja").render(document=document, types=_types(document), methods=methods)


def _types(document: dict[str, Any]) -> str:
    """Return the definitions of the types that the schemas describe."""
    definitions = {_class(name): schema for name, schema in document["components"]["schemas"].items()}
    text = json.dumps({"$defs": definitions})
    text = re.sub(rf'"{_SCHEMAS}(\w+)"', lambda found: f'"#/$defs/{_class(found[1])}"', text)
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
    return source.replace("from __future__ import annotations\n", "").strip()


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a schema of the document."""
    reference = schema.get("$ref")
    if reference is not None:
        return _class(reference.removeprefix(_SCHEMAS))
    if schema.get("type") == "array":
        return f"list[{_type(schema.get('items', {}))}]"
    return _PLAIN.get(schema.get("type", ""), "Any")


def _class(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
