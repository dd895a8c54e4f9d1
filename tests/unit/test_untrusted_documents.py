"""The client and the page of a hostile service: its texts, names and schemas stay text."""

import copy
import importlib.util
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts.describe import client, page
from scripts.describe.untrusted import DocumentError, check_definitions

CODE = "__import__('sys').modules.__setitem__('owned', 1)"
TEXTS = [
    f'"""\n{CODE}\n"""',
    f'"""\n    {CODE}\n    def m(self) -> None:\n        """',
    f"'''\n{CODE}\n'''",
    f"'+{CODE}+'",
    f'"+{CODE}+"',
    f"\\\n{CODE}\n",
    f"{{{{ {CODE} }}}}",
    f"\u2028{CODE}\u2028\r{CODE}\r\f{CODE}",
    "</title></pre><script>alert(1)</script><img src=x onerror=alert(1)>\" onclick='alert(1)' x=\"",
]
SCHEMA = "#/components/schemas/"


def document(text: str) -> dict[str, Any]:
    """A document with the text wherever a service may put one."""
    schema = {
        "type": "object",
        "title": text,
        "description": text,
        "properties": {
            text: {"type": "string", "description": text, "default": text, "title": text},
            "class": {"enum": [text, "x"]},
            "const": {"const": text},
            "type": {"type": "string", "customTypePath": "os.system", "customBasePath": "os.system"},
            "remote": {"$ref": f"http://127.0.0.1:1/{text}"},
            "file": {"$ref": "/etc/passwd"},
            "format": {"type": "string", "format": text},
            "pattern": {"type": "string", "pattern": text},
            "nested": {"type": "object", "properties": {text: {"type": "integer"}}, "additionalProperties": False},
        },
        "required": [text],
    }
    method = {
        "name": "m_predict",
        "summary": text,
        "description": text,
        "tags": [{"name": text}],
        "params": [{"name": "data", "schema": {"$ref": f"{SCHEMA}m_input"}, "description": text}],
        "result": {"name": text, "schema": {"type": text}},
        "examples": [{"name": text, "params": [{"name": text, "value": text}], "result": {"name": "r", "value": text}}],
        "errors": [{"$ref": "#/components/errors/E"}],
    }
    return {
        "openrpc": "1.3.2",
        "info": {"title": text, "version": text, "description": text},
        "methods": [method],
        "components": {
            "schemas": {"m_input": schema, "m_text": {"enum": [text]}},
            "errors": {"E": {"code": 1, "message": text, "data": {"when": text, "executed": text}}},
        },
    }


def load(source: str, folder: Path) -> ModuleType:
    """Import the source as a module."""
    path = folder / "made_client.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("made_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.fault(50)
@pytest.mark.parametrize("text", TEXTS)
def test_texts_stay_texts_in_the_client(text: str, tmp_path: Path) -> None:
    module = load(client.render(document(text)), tmp_path)
    assert "owned" not in sys.modules
    assert module.Service.m_predict.__doc__ == text
    assert text in module.MInput.__annotations__
    assert "os" not in vars(module)
    assert "system" not in vars(module)


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.fault(50)
@pytest.mark.parametrize("text", TEXTS)
def test_texts_stay_texts_in_the_page(text: str) -> None:
    plain, hostile = _Tags(page.render(document("text"))), _Tags(page.render(document(text)))
    assert hostile.tags == plain.tags
    assert hostile.attributes == plain.attributes


@pytest.mark.fault(50)
@pytest.mark.parametrize("text", [*TEXTS, "a b", "1", "a-b", ""])
@pytest.mark.parametrize("place", ["method", "parameter", "schema"])
def test_a_name_that_is_not_an_identifier_is_refused(text: str, place: str) -> None:
    made = document("text")
    if place == "method":
        made["methods"][0]["name"] = text
    elif place == "parameter":
        made["methods"][0]["params"][0]["name"] = text
    else:
        made["components"]["schemas"][text] = {"type": "object"}
    with pytest.raises(DocumentError, match="is not an identifier"):
        client.render(made)


@pytest.mark.fault(50)
@pytest.mark.parametrize("name", ["class", "close", "__init__", "__x", "None", "self"])
def test_names_of_python_and_of_the_client_get_another_form(name: str, tmp_path: Path) -> None:
    made = document("text")
    made["methods"][0]["name"] = made["methods"][0]["params"][0]["name"] = name
    second = copy.deepcopy(made["methods"][0])
    second["name"] = "m_predict"
    made["methods"].append(second)
    made["components"]["schemas"]["none"] = {"enum": [1, 2]}
    module = load(client.render(made), tmp_path)
    calls: list[tuple[Any, ...]] = []
    service = module.Service("tcp://127.0.0.1:1")
    service.close()
    service._client = lambda *args: calls.append(args)
    (method,) = [one for one in vars(module.Service) if name in one and one not in ("close", "__init__")]
    getattr(service, method)("data")
    service.m_predict("data")
    assert calls == [(name, "data"), ("m_predict", "data")]


@pytest.mark.fault(50)
@pytest.mark.parametrize(
    "source", ["import os", "from os import system", "x = f()", "x = a.b", "def f(): ...", "x = ("]
)
def test_code_that_does_more_than_define_types_is_refused(source: str) -> None:
    with pytest.raises(DocumentError):
        check_definitions(source)
