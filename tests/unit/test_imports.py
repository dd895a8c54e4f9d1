"""The boundaries between folders: what each may import. A rule per folder; `docs/architecture.md` explains them."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CLIENT = "zerorpc_cluster"
FOLDERS = {
    **{name: REPOSITORY / name for name in ("bench", "broker", "cluster", "scripts", "worker", "zmtp")},
    CLIENT: REPOSITORY / "clients" / "python" / CLIENT,
}
PACKAGES = tuple(FOLDERS)

CORE = (
    "broker.core",
    "cluster.wire",
    "cluster.histogram",
    "zerorpc_cluster.calls",
    "zerorpc_cluster.events",
    "zerorpc_cluster.errors",
)
"""The pure part: no socket, no clock, no thread, no chance."""

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "zmtp": (),
    "cluster.wire": (),
    "cluster.histogram": (),
    "cluster.runtime": ("zmtp",),
    "cluster": (),
    "broker.core.state": ("cluster.wire", "cluster.histogram"),
    "broker.core.introspection": ("broker.core.state", "broker.core.errors", "cluster.wire", "cluster"),
    "broker.core.scheduling": ("broker.core.state", "broker.core.errors", "cluster.wire"),
    "broker.core.deployment": (
        "broker.core.scheduling",
        "broker.core.state",
        "broker.core.errors",
        "cluster.wire",
    ),
    "broker.core.handlers": (
        "broker.core.deployment",
        "broker.core.scheduling",
        "broker.core.introspection",
        "broker.core.state",
        "broker.core.errors",
        "cluster.wire",
    ),
    "broker.io": ("broker.core", "broker.settings", "cluster", "zmtp"),
    "broker.http": ("broker.core", "broker.io", "cluster"),
    "worker.models": ("cluster",),
    "worker.jobs": ("worker.models", "cluster"),
    "worker.loop": ("worker.jobs", "worker.models", "worker.settings", "cluster", "zmtp"),
    "worker.http": ("worker.loop", "worker.jobs", "cluster"),
    "worker.process": ("cluster",),
    "worker": ("cluster", "zmtp"),
    "broker": ("cluster", "zmtp"),
    "bench": ("cluster", "zmtp", "scripts", "worker", "broker", "zerorpc_cluster"),
    "zerorpc_cluster": ("zmtp",),
    "scripts": ("cluster", "zmtp", "bench", "worker", "broker"),
}
"""What a folder may import of this repository beside itself. The longest name that fits a module counts."""

PURE_STANDARD_LIBRARY = {
    "__future__",
    "bisect",
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "fnmatch",
    "functools",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "struct",
    "typing",
}
PARSERS = {
    "cluster.wire.events": {"msgpack"},
    "cluster.wire.unpacking": {"msgpack"},
    "cluster.wire.descriptions": {"msgpack", "pydantic"},
    "zerorpc_cluster.events": {"msgpack"},
}
"""The edge of the core, where bytes are parsed, and the libraries that each module needs for it."""

SOCKET_LIBRARIES = {"socket", "zmq", "select", "selectors"}
SOCKETS = {
    "broker.io.loop",
    "broker.io.sockets",
    "cluster.runtime.forks",
    "cluster.runtime.waker",
    "worker.loop.connection",
    "worker.loop.liveness",
    "zmtp.connection",
    "zmtp.dealer",
    "zmtp.listen",
    "zmtp.endpoint",
    "zmtp.router",
    "zerorpc_cluster.loop_driver",
    "zerorpc_cluster.thread_driver",
}
"""The modules that touch a socket; `scripts` and `bench`, which only use the cluster, are free to."""


def modules() -> dict[str, Path]:
    found = {}
    for folder in FOLDERS.values():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            if "peers" not in parts and "services" not in parts:
                found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: a relative import hides where its names come from"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(name if name in MODULES else node.module for name in names)
    return found


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def is_in(module: str, folder: str) -> bool:
    return f"{module}.".startswith(f"{folder}.")


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_its_rule_allows(folder: str) -> None:
    ruled = [
        name
        for name in MODULES
        if is_in(name, folder) and max((f for f in MAY_IMPORT if is_in(name, f)), key=len) == folder
    ]
    assert ruled, f"there is no module in {folder}: correct the rule"
    for module in ruled:
        for other in IMPORTS[module]:
            if other.partition(".")[0] in PACKAGES and not is_in(other, folder):
                allowed = any(
                    is_in(other, one) if one != "cluster" else other.startswith("cluster") for one in MAY_IMPORT[folder]
                )
                assert allowed, f"{module} imports {other}; {folder} may import {MAY_IMPORT[folder] or 'nothing'}"


def test_every_module_has_a_rule() -> None:
    assert not [name for name in MODULES if not any(is_in(name, folder) for folder in MAY_IMPORT)]


@pytest.mark.parametrize("module", [name for name in MODULES if any(is_in(name, one) for one in CORE)])
def test_the_core_imports_nothing_that_acts(module: str) -> None:
    foreign = {name.partition(".")[0] for name in IMPORTS[module]} - set(PACKAGES)
    assert foreign <= PURE_STANDARD_LIBRARY | PARSERS.get(module, set()), f"{module} imports {foreign}"


@pytest.mark.parametrize("folder", ["zmtp", "cluster", "broker", "worker", CLIENT])
def test_few_modules_touch_a_socket(folder: str) -> None:
    touching = {
        name
        for name in MODULES
        if is_in(name, folder) and {one.partition(".")[0] for one in IMPORTS[name]} & SOCKET_LIBRARIES
    }
    assert touching <= SOCKETS


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {name: {one for one in imports if one in MODULES and one != name} for name, imports in IMPORTS.items()}
    while leaves := [name for name, imports in left.items() if not imports & left.keys()]:
        for name in leaves:
            del left[name]
    assert not left, f"these import each other in a circle, or something that does: {sorted(left)}"
