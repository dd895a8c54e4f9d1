"""A page for people, made from a service's OpenRPC document."""

from typing import Any

from scripts.describe.templates import template


def render(document: dict[str, Any]) -> str:
    """Return the page as HTML: self-contained, without scripts and external resources."""
    by_model: dict[str, dict[str, list[dict[str, Any]]]] = {}  # qualified name -> version, "" first -> methods
    for method in document["methods"]:
        tags = method.get("tags") or [{"name": ""}]
        versions = by_model.setdefault(tags[0]["name"], {"": []})
        versions.setdefault(method.get("x-version", ""), []).append(method)
    page = template("page.html.jinja")
    return page.render(document=document, by_model=by_model, resolved=lambda part: _resolved(document, part))


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or the part that it refers to."""
    reference = part.get("$ref", "")
    found: Any = document if reference.startswith("#/") else part
    for step in reference.removeprefix("#/").split("/") if found is document else ():
        found = found[step]
    return dict(found)
