"""What a document of a service may put into Python code: identifiers, literals, and schemas of known keywords.

Any service can be asked for its document, so nothing in it is trusted.
"""

import ast
import keyword
from collections.abc import Iterable
from typing import Any

SCHEMAS = "#/components/schemas/"
"""Start of every reference to a schema within a document."""

_WITH_SCHEMA = ("additionalProperties", "items", "not")
_WITH_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems")
_WITH_NAMED_SCHEMAS = ("properties",)
_PLAIN = ("const", "enum", "maxItems", "minItems", "nullable", "required", "type")

_IMPORTED = ("__future__", "typing", "typing_extensions")


class DocumentError(Exception):
    """The document cannot be made into a client; the text says why."""


def identifier(name: object, taken: Iterable[str] = ()) -> str:
    """Return a name as an identifier that is no keyword, none of `taken`, and no special name of Python.

    Raises:
        DocumentError: if the name has other characters than an identifier.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise DocumentError(f"the document has {str(name)[:80]!a} as a name, which is not an identifier")
    made = f"call{name}" if name.startswith("__") else name
    while keyword.iskeyword(made) or made in taken:
        made += "_"
    return made


def literal(text: object) -> str:
    """Return a text as a Python literal in one line."""
    return repr(str(text))


def plain_schema(schema: object) -> dict[str, Any]:
    """Return a schema with the keywords that determine types; references lead to the document's own schemas only.

    Generators of code have keywords of their own, which import modules, and follow references to files and hosts.
    """
    if not isinstance(schema, dict):
        return {}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix(SCHEMAS)
        return {"$ref": SCHEMAS + name} if reference.startswith(SCHEMAS) and name.isidentifier() else {}
    plain = {key: schema[key] for key in _PLAIN if key in schema}
    plain |= {key: plain_schema(schema[key]) for key in _WITH_SCHEMA if isinstance(schema.get(key), dict)}
    if isinstance(schema.get("additionalProperties"), bool):
        plain["additionalProperties"] = schema["additionalProperties"]
    for key in _WITH_SCHEMAS:
        if isinstance(schema.get(key), list):
            plain[key] = [plain_schema(part) for part in schema[key]]
    for key in _WITH_NAMED_SCHEMAS:
        if isinstance(schema.get(key), dict):
            plain[key] = {str(name): plain_schema(part) for name, part in schema[key].items()}
    return plain


def check_definitions(source: str) -> str:
    """Return source code that only defines types.

    Raises:
        DocumentError: if it does anything else: this is the last guard against a document that a generator of code
            does not escape.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise DocumentError(f"a schema of the document becomes code that is not valid: {error.text!a}") from error
    for node in ast.walk(tree):
        is_import = isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module not in _IMPORTED)
        is_call = isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id == "TypedDict")
        if is_import or is_call or isinstance(node, ast.FunctionDef | ast.Lambda | ast.Attribute | ast.Await):
            raise DocumentError(f"a schema of the document becomes code: {ast.unparse(node)[:80]}")
    return source
