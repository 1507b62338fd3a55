"""Plots of the results, one picture for each question; a bench that was not run has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Series = Mapping[str, Sequence[float]]
Draw = Callable[[Any, Series], None]
_COLOURS = ("#1f5fa8", "#d97706", "#4d7c0f")
_WIDTH, _HEIGHT = 6.0, 3.0


def draw(results: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write a picture for each bench that has what it shows."""
    for bench, name, title, needed, paint in _PLOTS:
        series = results.get(bench, {}).get("series", {})
        if all(series.get(key) for key in needed):
            figure, axes = plt.subplots(figsize=(_WIDTH, _HEIGHT), layout="constrained")
            paint(axes, series)
            axes.set_title(title, fontsize=10)
            axes.grid(alpha=0.3)
            figure.savefig(folder / name, dpi=110, metadata={"Software": None})
            plt.close(figure)


def _decision(axes: Any, series: Series) -> None:
    for key, colour in (("p50_us", _COLOURS[0]), ("p99_us", _COLOURS[1])):
        axes.plot(series["waiting"], series[key], "o-", color=colour, label=key.partition("_")[0])
    axes.set(xscale="log", xlabel="tasks that wait", ylabel="µs", ylim=(0, None))
    axes.legend()


def _bars(bars: Mapping[str, str]) -> Draw:
    """Return what draws bars beside each other for each round."""

    def paint(axes: Any, series: Series) -> None:
        width = 0.8 / len(bars)
        for number, (key, label) in enumerate(bars.items()):
            places = [index + (number - (len(bars) - 1) / 2) * width for index in range(len(series[key]))]
            axes.bar(places, series[key], width=0.9 * width, color=_COLOURS[number], label=label)
        axes.set(xlabel="round", ylabel="finished a second", xticks=range(len(series[next(iter(bars))])))
        axes.margins(y=0.3)  # room for the legend
        axes.legend(fontsize=8)

    return paint


def _shares(curves: Mapping[str, str], bound: float | None = None) -> Draw:
    """Return what draws how large a share took at most so long."""

    def paint(axes: Any, series: Series) -> None:
        for (key, label), colour in zip(curves.items(), _COLOURS, strict=False):
            values = sorted(series[key])
            axes.plot(values, [(n + 1) / len(values) for n in range(len(values))], color=colour, label=label)
        if bound:
            axes.axvline(bound, color="#888888", linestyle=":", label=f"p99 demanded, {bound:g} ms")
        axes.set(xscale="log", xlabel="ms", ylabel="share")
        axes.legend(fontsize=8)

    return paint


_LATENCY = {"create_ms": "create → Job", "end_ms": "pod ended → task ended"}
_BESIDE = {"alone_ms": "alone", "beside_ms": "beside a flood"}
_ENDED = {"bare_per_s": "smallest Jobs", "same_pod_per_s": "Jobs with an attempt's pod", "tasks_per_s": "LongTasks"}
_DRAINED = {"deep_per_s": "one deep", "shallow_per_s": "50 shallow"}
_PLOTS: tuple[tuple[str, str, str, tuple[str, ...], Draw], ...] = (
    ("decision", "decision.png", "One admission", ("waiting", "p50_us", "p99_us"), _decision),
    (
        "throughput",
        "throughput.png",
        "To their end, in turn",
        tuple(_ENDED),
        _bars(_ENDED),
    ),
    ("latency", "latency.png", "At 20 tasks a second", tuple(_LATENCY), _shares(_LATENCY, 60)),
    (
        "drain",
        "drain.png",
        "One deep queue and 50 shallow ones",
        tuple(_DRAINED),
        _bars(_DRAINED),
    ),
    ("neighbour", "neighbour.png", "Create → Job of tenant B", tuple(_BESIDE), _shares(_BESIDE)),
)
#: File names of all pictures, with what they show.
NAMES: dict[str, str] = {name: title for _, name, title, _, _ in _PLOTS}
