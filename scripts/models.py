"""Loads, unloads and routes models while the cluster runs, through the broker's administrators' address. For example:

    scripts/models.py list
    scripts/models.py clients
    scripts/models.py load iris_model.iris_predict:IrisModel --set slots=2 --workers 127.0.0.1:8421
    scripts/models.py cancel
    scripts/models.py reload iris_model
    scripts/models.py route iris_model 0.1=90 0.2=10
    scripts/models.py route iris_model 0.2
    scripts/models.py route iris_model
    scripts/models.py unload iris_model 0.1

`COMMAND --help` says more about each.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zerorpc

from scripts.arguments import model_class, setting
from scripts.calling import result_of
from scripts.loading_timeout import SETTING, loading_timeout_s
from scripts.zerorpc_curve import CurveContext

RUN = Path(os.environ.get("CLUSTER_RUN") or Path(__file__).resolve().parents[1] / "run").absolute()
DEFAULT_ADDRESS = os.environ.get("BROKER_ADMIN") or f"ipc://{RUN}/broker-admin.sock"
UNLOADING_TIMEOUT_S = 3600.0
"""How long the calls of a model may take to end, in seconds."""


def main() -> None:
    """Run a command, and print its result."""
    options = _parser().parse_args()
    print(options.do(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default=DEFAULT_ADDRESS, help="the broker's BROKER_ADMIN (default: %(default)s)")
    parser.add_argument("--secret", metavar="FILE", help="an administrator's secret key, if the broker requires one")
    parser.add_argument("--broker-key", metavar="FILE", help="the broker's public key, likewise")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], str], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.set_defaults(do=do)
        return made

    command("list", _list, "list the model versions, their workers, and their shares of the calls")
    command(
        "clients", _clients, "list the clients by the names of their keys: open calls, requests, what they may call"
    )
    load = command("load", _load, "load a model: install its package first; a worker that hosts it loads it again")
    load.add_argument("model", metavar="MODULE:CLASS", help="the model's class", type=model_class)
    load.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=setting,
        help="a setting, as in worker/config.py; may be repeated",
    )
    load.add_argument(
        "--workers",
        metavar="PATTERN",
        action="append",
        default=[],
        help="id, host or metrics address of workers, with * for any text; may be repeated (default: all)",
    )
    command("cancel", _cancel, "cancel the load in progress, and unload the model where it is new")
    for name, do, text in (
        ("unload", _unload, "let a model's calls end, then unload it"),
        ("reload", _reload, "load a model again, from its present code and files"),
    ):
        one = command(name, do, text)
        one.add_argument("name", metavar="NAME", help="the model's qualified name")
        one.add_argument(
            "version", metavar="VERSION", nargs="?", default="", help="such as 0.1, where there are several"
        )
    route = command("route", _route, "distribute calls that name no version over versions")
    route.add_argument("name", metavar="NAME", help="the model's qualified name")
    route.add_argument(
        "weights",
        metavar="VERSION[=WEIGHT]",
        nargs="*",
        type=_weight,
        help="a single version becomes the default; without any, all calls go to the default",
    )
    return parser


def _weight(text: str) -> tuple[str, int]:
    version, equals, weight = text.partition("=")
    if equals and not (weight.isascii() and weight.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} should be version=weight, such as 0.2=10")
    return version, int(weight) if equals else 1


def _ask(options: argparse.Namespace, procedure: str, *args: object) -> Any:
    context = _context(options)
    return result_of(options.address, UNLOADING_TIMEOUT_S, lambda client: client(procedure, *args), context=context)


def _ask_to_load(options: argparse.Namespace, procedure: str, *args: object) -> Any:
    longest_s = loading_timeout_s()
    late = (
        f"the model is not loaded after {longest_s:g} s ({SETTING}); the broker goes on: "
        "scripts/models.py list shows how far it is, and scripts/models.py cancel stops it"
    )
    context = _context(options)
    return result_of(options.address, longest_s, lambda client: client(procedure, *args), late, context)


def _context(options: argparse.Namespace) -> zerorpc.Context:
    """Return the context of the administrator's client: with keys if they are given, and never with a client's."""
    if not options.secret and not options.broker_key:
        return zerorpc.Context()
    if not options.secret or not options.broker_key:
        sys.exit("error: --secret and --broker-key belong together")
    try:
        return CurveContext(options.secret, options.broker_key)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def _list(options: argparse.Namespace) -> str:
    return _table(_ask(options, "list_models"))


def _clients(options: argparse.Namespace) -> str:
    lines = [("client", "open calls", "requests", "may call")]
    for row in _ask(options, "list_clients"):
        most = "" if row["most_calls"] is None else f" of {row['most_calls']}"
        allowed = "everything" if row["allowed"] is None else ", ".join(row["allowed"]) or "nothing"
        lines.append((row["client"], f"{row['open_calls']}{most}", str(row["requests"]), allowed))
    return _aligned(lines)


def _load(options: argparse.Namespace) -> str:
    module_name, class_name = options.model
    entry = {"module_name": module_name, "class_name": class_name, **dict(options.set)}
    return _loaded(_ask_to_load(options, "load_model", entry, options.workers))


def _reload(options: argparse.Namespace) -> str:
    return _loaded(_ask_to_load(options, "reload_model", options.name, options.version))


def _cancel(options: argparse.Namespace) -> str:
    return f"{_ask(options, 'cancel_load')}: cancelled"


def _loaded(done: dict[str, Any]) -> str:
    return f"{done['model']} {done['version']} was loaded on {', '.join(done['workers'])}"


def _unload(options: argparse.Namespace) -> str:
    done = _ask(options, "unload_model", options.name, options.version)
    return f"{done['model']} {done['version']} was unloaded"


def _route(options: argparse.Namespace) -> str:
    before = _shares(_ask(options, "list_models"), options.name)
    rows = _ask(options, "route_model", options.name, dict(options.weights))
    after = _shares(rows, options.name)
    lines = [f"{options.name} {one}: {before.get(one, 0):g} % -> {share:g} %" for one, share in after.items()]
    weights = [weight for _, weight in options.weights]
    if len(weights) > 1 and sum(weights) != 100:
        lines.append(f"the weights add up to {sum(weights)}, not to 100; each version gets its part of that")
    return "\n".join([*lines, "", _table(rows)])


def _shares(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """The share of a model's calls that each version gets, in percent, where it can be called."""
    return {row["version"]: row["share"] for row in rows if row["model"] == name and row["state"] != "unloaded"}


def _table(rows: list[dict[str, Any]]) -> str:
    head = ("model", "version", "state", "calls", "workers", "from")
    lines = [head]
    notes = []
    for row in rows:
        lines.append(
            (row["model"], row["version"], row["state"], f"{row['share']:g} %", str(len(row["workers"])), row["from"])
        )
        notes += [f"{row['model']} {row['version']}: {trouble}" for trouble in row["troubles"]]
    return "\n".join([_aligned(lines), *notes])


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


if __name__ == "__main__":
    main()
