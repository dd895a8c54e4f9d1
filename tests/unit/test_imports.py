"""The structure that the imports show: the routing core decides and never acts."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
OUTSIDE_THE_CORE = {"socket", "zmq", "time", "datetime", "random", "secrets", "os", "threading", "asyncio", "select"}
PURE_STANDARD_LIBRARY = {
    "__future__",
    "bisect",
    "collections",
    "contextlib",
    "dataclasses",
    "fnmatch",
    "itertools",
    "json",
    "struct",
    "typing",
}
CODEC = {"cluster.events", "cluster.descriptions"}
"""The edge of the core, where bytes are parsed; these may use msgpack and pydantic, and nothing that acts."""

CODEC_LIBRARIES = {"msgpack", "pydantic"}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: a relative import hides where its names come from"
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(name if (file_of(name)).exists() else node.module for name in modules)
    return found


def file_of(module: str) -> Path:
    path = REPOSITORY / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reached_from(module: str) -> dict[str, set[str]]:
    """Every module of the project that importing this one imports, with what each imports."""
    reached: dict[str, set[str]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached[name] = imports_of(file_of(name))
        waiting += [other for other in reached[name] if other.partition(".")[0] in ("broker", "worker", "cluster")]
    return reached


def test_the_routing_core_imports_no_socket_no_clock_and_no_library() -> None:
    reached = reached_from("broker.routing")
    assert {"broker.catalogue", "broker.dispatch", "broker.introspection", *CODEC} <= set(reached), (
        "the search follows imports"
    )
    for module, imports in reached.items():
        foreign = {name for name in imports if name.partition(".")[0] not in ("broker", "cluster")}
        roots = {name.partition(".")[0] for name in foreign}
        allowed = PURE_STANDARD_LIBRARY | (CODEC_LIBRARIES if module in CODEC else set())
        assert not roots & OUTSIDE_THE_CORE, f"{module} imports {roots & OUTSIDE_THE_CORE}"
        assert roots <= allowed, f"{module} imports {roots - allowed}"


@pytest.mark.parametrize(("package", "only"), [("broker", []), ("worker", ["server.py"]), ("cluster", [])])
def test_one_module_touches_libzmq(package: str, only: list[str]) -> None:
    def touches(path: Path) -> bool:
        return "zmq" in {name.partition(".")[0] for name in imports_of(path)}

    assert [path.name for path in (REPOSITORY / package).glob("*.py") if touches(path)] == only


def test_broker_and_worker_know_only_what_they_have_in_common() -> None:
    for package, other in (("broker", "worker"), ("worker", "broker"), ("cluster", "broker"), ("cluster", "worker")):
        for path in (REPOSITORY / package).glob("*.py"):
            assert not [name for name in imports_of(path) if name.partition(".")[0] == other], path
