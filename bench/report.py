"""Writes the tables of docs/performance.md, between its markers, and the plots in docs/performance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench import half_rate
from bench.systems import REPOSITORY
from bench.workloads import ALL, ROW

mpl.use("Agg")
from matplotlib import pyplot as plt

DOCUMENT = REPOSITORY / "docs" / "performance.md"
FOLDER = REPOSITORY / "docs" / "performance"
RESULTS = FOLDER / "results.json"

_CURVE_LABELS = {
    "clients": ("connected clients", "calls", "broker CPU, µs per call"),
    "clients of zmq.proxy": ("clients connected to `zmq.proxy`", "calls", "proxy CPU, µs per call"),
    "workers": ("workers", "calls", "broker CPU, µs per call"),
    "procedures": ("procedures", "calls", "broker CPU, µs per call"),
    "bytes": ("bytes each way", "calls", "broker CPU, µs per call"),
    "streams": ("concurrent streams", "items", "broker CPU, µs per item"),
}
"""For each curve: the label of its sizes, the unit of its throughput, and the label of its cost."""


_CALLS_TARGETS = {1: 1.0, 4: 1.0, 16: 1.2, 64: 1.3, 256: 2.0}
_CPU_TARGETS = {1: 1.0, 16: 0.9, 64: 0.6, 256: 0.45}
_ECHO_TARGETS = {64: 0.8, 256: 0.55}
"""Targets by calls in flight: against the best other model server, and of echo against `zmq.proxy`."""


class Results:
    """The results of a run of the benchmark."""

    def __init__(self, path: Path = RESULTS) -> None:
        self.all: dict[str, Any] = json.loads(path.read_text())
        self.points: list[dict[str, Any]] = self.all["compare"]

    def of(self, workload: str) -> list[dict[str, Any]]:
        """Return the points of a workload."""
        return [point for point in self.points if point["workload"] == workload]

    def measured(self, system: str, in_flight: int, workload: str = ROW.key) -> dict[str, float]:
        """Return the figures of a system under a load."""
        return next(
            point["measured"]
            for point in self.of(workload)
            if (point["system"], point["in_flight"]) == (system, in_flight)
        )

    def best_peer(self, in_flight: int, workload: str = ROW.key) -> tuple[str, dict[str, float]]:
        """Return the title and figures of the other model server with the most calls per second under a load."""
        points = [one for one in self.of(workload) if one["family"] and one["in_flight"] == in_flight]
        best = max(points, key=lambda one: float(one["measured"]["calls_a_second"]))
        return best["title"], best["measured"]

    @property
    def has_peers(self) -> bool:
        """Whether other model servers were measured."""
        return any(point["family"] for point in self.points)

    def curve(self, name: str) -> dict[str, Any]:
        """Return the curve with this name."""
        return next(curve for curve in self.all["growth"] if curve["name"] == name)


def comparison_table(results: Results) -> str:
    """Return the table of all systems under all loads, for one row."""
    lines = [
        "| system | " + " | ".join(map(str, ROW.in_flight)) + " | CPU, µs per call | p50 / p99, ms | MiB |",
        "|---|" + "---|" * (len(ROW.in_flight) + 3),
    ]
    for key, title in _systems(results.of(ROW.key)):
        rows = {load: results.measured(key, load) for load in ROW.in_flight}
        calls = " | ".join(map(_calls, rows.values()))
        cpu = " / ".join(f"{row['cpu_us']:,.0f}" for row in rows.values())
        at_64 = f"{rows[64]['p50_ms']:.2f} / {rows[64]['p99_ms']:.2f}"
        lines.append(f"| {title} | {calls} | {cpu} | {at_64} | {rows[256]['memory_mib']:,.0f} |")
    return "\n".join(lines)


def workload_tables(results: Results) -> str:
    """Return a table for each workload beside one row."""
    parts = []
    for workload in ALL[1:]:
        loads = workload.in_flight
        lines = [
            f"**{workload.title[0].upper()}{workload.title[1:]}:**",
            "",
            f"| system | {' | '.join(map(str, loads))} | CPU, µs per call | p99, ms |",
            "|---|" + "---|" * (len(loads) + 2),
        ]
        for key, title in _systems(results.of(workload.key)):
            rows = [results.measured(key, load, workload.key) for load in loads]
            cpu = " / ".join(f"{row['cpu_us']:,.0f}" for row in rows)
            p99 = " / ".join(f"{row['p99_ms']:,.1f}" for row in rows)
            lines.append(f"| {title} | {' | '.join(map(_calls, rows))} | {cpu} | {p99} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def half_rate_table(results: Results) -> str:
    """Return the table of latencies at half of the greatest rate."""
    lines = ["| system | calls/s | p50, ms | p99, ms | CPU, µs per call |", "|---|---|---|---|---|"]
    for point in results.of(half_rate.KEY):
        row = point["measured"]
        lines.append(
            f"| {point['title']} | {_calls(row)} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['cpu_us']:,.0f} |"
        )
    return "\n".join(lines)


def _systems(points: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the keys and titles of the systems that have been measured."""
    return list({point["system"]: point["title"] for point in points}.items())


def _calls(row: dict[str, float]) -> str:
    return f"{row['calls_a_second']:,.0f}" + (f" ({row['failed']:,.0f} failed)" if row["failed"] else "")


def target_table(results: Results) -> str:
    """Return the table of the targets."""
    ours, stock, proxy = half_rate.OURS, "stock", "proxy"
    lines = ["| measure | target | measured | |", "|---|---|---|---|"]

    def row(measure: str, wanted: float, value: float, *, at_most: bool = False) -> None:
        reached = value <= wanted if at_most else value >= wanted
        sign = "≤" if at_most else "≥"
        lines.append(f"| {measure} | {sign} {wanted:g} | {value:.2f} | {'met' if reached else '**missed**'} |")

    def calls(system: str, load: int) -> float:
        return results.measured(system, load)["calls_a_second"]

    row("calls/s at 64 in flight vs. one stock server", 10, calls(ours, 64) / calls(stock, 64))
    row("calls/s at 64 in flight vs. `zmq.proxy`, 2 stock servers", 7, calls(ours, 64) / calls(proxy, 64))
    if results.has_peers:
        for load, wanted in _CALLS_TARGETS.items():
            title, best = results.best_peer(load)
            row(f"calls/s at {load} in flight vs. {title}", wanted, calls(ours, load) / best["calls_a_second"])
        for load, wanted in _CPU_TARGETS.items():
            title, best = results.best_peer(load)
            ratio = results.measured(ours, load)["cpu_us"] / best["cpu_us"]
            row(f"server CPU per call at {load} in flight vs. {title}", wanted, ratio, at_most=True)
        own, *_, at_rate_of_peer = (one for one in results.of(half_rate.KEY) if one["system"] == ours)
        peer = min((one for one in results.of(half_rate.KEY) if one["family"]), key=_p99_ms)
        for what, point in (("its own", own), ("the best other server's", at_rate_of_peer)):
            ratio = _p99_ms(point) / _p99_ms(peer)
            row(f"p99 at half of {what} greatest rate vs. {peer['title']} at half of its own", 1, ratio, at_most=True)
    p50 = results.measured(ours, 1)["p50_ms"] / results.measured(stock, 1)["p50_ms"]
    row("p50 latency at 1 in flight vs. one stock server", 1, p50, at_most=True)
    for load, wanted in _ECHO_TARGETS.items():
        ratio = calls("echo-broker", load) / calls("echo-proxy", load)
        row(f"echo calls/s at {load} in flight vs. `zmq.proxy`", wanted, ratio)
    if "growth" in results.all:
        workers, clients = results.curve("workers"), results.curve("clients")
        by_workers = dict(zip(workers["sizes"], workers["calls_a_second"], strict=True))
        by_clients = dict(zip(clients["sizes"], clients["broker_cpu_us"], strict=True))
        row("calls/s with 16 sleeping workers vs. 1", 15, by_workers[16] / by_workers[1])
        row("broker CPU per call with 5,000 clients vs. 10", 1.2, by_clients[5_000] / by_clients[10], at_most=True)
    return "\n".join(lines)


def _p99_ms(point: dict[str, Any]) -> float:
    p99_ms: float = point["measured"]["p99_ms"]
    return p99_ms


def growth_tables(results: Results) -> str:
    """Return the tables of the curves."""
    parts = []
    for curve in results.all["growth"]:
        what, counted, cost = _CURVE_LABELS[curve["name"]]
        lines = [f"| {what} | {counted}/s | {cost} |", "|---|---|---|"]
        for size, calls, cpu in zip(curve["sizes"], curve["calls_a_second"], curve["broker_cpu_us"], strict=True):
            lines.append(f"| {size:,} | {calls:,.0f} | {cpu:,.0f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw_plots(results: Results) -> None:
    """Draw the plots."""
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for key, title in _systems(results.of(ROW.key)):
        if key.startswith("echo"):
            continue
        style, width = ("o-", 2.5) if key.startswith("cluster") else ("o--", 1.2)
        values = [results.measured(key, load)["calls_a_second"] for load in ROW.in_flight]
        axes.plot(ROW.in_flight, values, style, linewidth=width, label=title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ROW.in_flight, [str(load) for load in ROW.in_flight])
    axes.set(xlabel="calls in flight", ylabel="calls per second")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(figure, "calls.svg")
    if "growth" not in results.all:
        return
    figure, grid = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for axes in grid.flat[len(results.all["growth"]) :]:
        axes.set_axis_off()
    for axes, curve in zip(grid.flat, results.all["growth"], strict=False):
        what, counted, cost = (text.replace("`", "") for text in _CURVE_LABELS[curve["name"]])
        of_throughput = curve["name"] == "workers"
        values = curve["calls_a_second" if of_throughput else "broker_cpu_us"]
        axes.plot(curve["sizes"], values, "o-")
        axes.set_xscale("log")
        if curve["name"] in ("workers", "bytes"):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set(xlabel=what, ylabel=f"{counted} per second" if of_throughput else cost)
        axes.grid(alpha=0.3)
    _save(figure, "growth.svg")


def _save(figure: Any, name: str) -> None:
    figure.savefig(FOLDER / name, metadata={"Date": None})
    plt.close(figure)


def origin(results: dict[str, Any]) -> str:
    """Return when, where and how results were measured."""
    machine = ", ".join(f"{name}: {value}" for name, value in results["machine"].items())
    return f"{results['made']}; {machine}; {results['how']}"


def replace_part(text: str, name: str, part: str) -> str:
    """Return a document with another text between its markers of that name."""
    pattern = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    found = pattern.search(text)
    assert found is not None, f"the document has no marker for {name}"
    return f"{text[: found.start()]}{found[1]}{part}\n{found[2]}{text[found.end() :]}"


def update_document(results: Results | None = None) -> None:
    """Update the tables in docs/performance.md, and the plots."""
    results = results or Results()
    text = DOCUMENT.read_text()
    parts = {
        "machine": origin(results.all),
        "ratios": target_table(results),
        "compare": comparison_table(results),
    }
    if results.has_peers:
        parts |= {"workloads": workload_tables(results), "half-rate": half_rate_table(results)}
    if "growth" in results.all:
        parts["growth"] = growth_tables(results)
    for name, part in parts.items():
        text = replace_part(text, name, part)
    DOCUMENT.write_text(text)
    draw_plots(results)


if __name__ == "__main__":
    update_document()
