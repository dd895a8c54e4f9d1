"""The cases of zerorpc-python's tests and their results here: `python -m tests.stock_suite.cases` prints them."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., None])

PUSH = "a Puller or Subscriber answers nobody: it is no server, and its socket is none that the broker takes"
LOCAL = "calls a function of the package and sends nothing"

NOT_APPLICABLE = {
    "test_server": {"test_removed_unscriptable_error_format_args_spec": LOCAL},
    "test_middleware": {
        "test_task_context_pushpull": PUSH,
        "test_task_context_pubsub": PUSH,
        "test_server_inspect_exception_middleware_puller": PUSH,
    },
    "test_middleware_before_after_exec": {
        "test_hook_server_before_exec_puller": PUSH,
        "test_hook_server_after_exec_puller": PUSH,
        "test_hook_server_after_exec_on_error_puller": PUSH,
    },
}
"""Cases that cannot apply, and why: by file."""

CASES = {
    "test_server": (
        "test_server_manual",
        "test_client_server",
        "test_client_server_client_timeout",
        "test_client_server_exception",
        "test_client_server_detailed_exception",
        "test_exception_compat_v1",
        "test_removed_unscriptable_error_format_args_spec",
    ),
    "test_client": ("test_client_connect", "test_client_quick_connect"),
    "test_client_async": ("test_client_server_client_timeout_with_async", "test_client_server_with_async"),
    "test_client_heartbeat": (
        "test_client_server_hearbeat",
        "test_client_server_activate_heartbeat",
        "test_client_server_passive_hearbeat",
        "test_client_hb_doesnt_linger_on_streaming",
        "test_client_drop_empty_stream",
        "test_client_drop_stream",
    ),
    "test_middleware": (
        "test_resolve_endpoint",
        "test_resolve_endpoint_events",
        "test_task_context",
        "test_task_context_relay",
        "test_task_context_relay_fork",
        "test_task_context_pushpull",
        "test_task_context_pubsub",
        "test_server_inspect_exception_middleware",
        "test_server_inspect_exception_middleware_puller",
        "test_server_inspect_exception_middleware_stream",
    ),
    "test_middleware_client": (
        "test_hook_client_before_request",
        "test_hook_client_after_request",
        "test_hook_client_after_request_stream",
        "test_hook_client_after_request_timeout",
        "test_hook_client_after_request_remote_error",
        "test_hook_client_after_request_remote_error_stream",
        "test_hook_client_handle_remote_error_inspect",
        "test_hook_client_handle_remote_error_eval",
        "test_hook_client_handle_remote_error_eval_stream",
        "test_hook_client_after_request_custom_error",
    ),
    "test_middleware_before_after_exec": (
        "test_hook_server_before_exec",
        "test_hook_server_before_exec_puller",
        "test_hook_server_before_exec_stream",
        "test_hook_server_after_exec",
        "test_hook_server_after_exec_puller",
        "test_hook_server_after_exec_stream",
        "test_hook_server_after_exec_on_error",
        "test_hook_server_after_exec_on_error_puller",
        "test_hook_server_after_exec_on_error_stream",
    ),
    "test_reqstream": ("test_rcp_streaming",),
}
"""The cases by file: every test of these files."""

_DIFFERENCES: dict[tuple[str, str], str] = {}
_tests: dict[tuple[str, str], str] = {}


def case(file: str, name: str, *, difference: str = "") -> Callable[[Test], Test]:
    """Say which case a test stands for, and what is not the same as with one server."""
    assert name in CASES[file], f"{file} has no {name}"
    assert (file, name) not in _tests, f"{name} is tested twice"

    def take(test: Test) -> Test:
        _tests[file, name] = f"{test.__module__.rpartition('.')[2]}.{test.__name__}"
        if difference:
            _DIFFERENCES[file, name] = difference
        return test

    return take


def table() -> str:
    """Return all cases in Markdown, with the result of each."""
    package = importlib.import_module("tests.stock_suite")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("test_"):
            importlib.import_module(f"tests.stock_suite.{module.name}")
    lines = ["| file of zerorpc-python | case | result |", "|---|---|---|"]
    for file, names in CASES.items():
        for name in names:
            lines.append(f"| `{file}` | `{name}` | {_result(file, name)} |")
    return "\n".join(lines)


def _result(file: str, name: str) -> str:
    why_not = NOT_APPLICABLE.get(file, {}).get(name)
    assert (why_not is None) == ((file, name) in _tests), f"{name} must be tested here, or have a reason"
    if why_not is not None:
        return f"cannot apply: {why_not}"
    difference = _DIFFERENCES.get((file, name))
    return f"passes; {difference}" if difference else "passes"


if __name__ == "__main__":
    # The tests know this module by its name.
    print(importlib.import_module("tests.stock_suite.cases").table())  # noqa: T201
