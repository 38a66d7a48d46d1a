"""Draws the first number of a workload as bars, one for each system, as SVG and PNG.

Needs matplotlib, which the extra ``bench`` brings.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.run import Series
from benchmarks.systems import CELERIAC

_OURS, _THEIRS = "#2f6f3e", "#b8b8b8"
_HEIGHT, _WIDTH = 0.35, 7.0
# The same picture from the same numbers, byte for byte.
mpl.rcParams.update({"svg.hashsalt": "celeriac", "font.size": 9})


def draw(series: Series, stem: Path) -> Iterator[Path]:
    """Write the plot of a workload with these names; yield the paths, none if there is nothing."""
    if series.workload.curve:
        figure = _lines(series)
    else:
        metric = series.workload.metrics[0]
        values = {n: statistics.median(v) for n, v in series.samples[metric.name].items()}
        if not values:
            return
        figure = _bars(values, f"{metric.name} ({metric.unit}), {metric.better} is better")
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
        path = stem.with_suffix(suffix)
        figure.savefig(path, dpi=120, bbox_inches="tight", metadata=metadata)
        yield path


def _bars(values: dict[str, float], title: str) -> Figure:
    figure = Figure(figsize=(_WIDTH, 0.8 + _HEIGHT * len(values)))
    axes = figure.subplots()
    names = list(values)[::-1]
    colours = [_OURS if name == CELERIAC else _THEIRS for name in names]
    bars = axes.barh(names, [values[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="{:,.4g}", padding=3)
    axes.set_title(title, loc="left")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lines(series: Series) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.5))
    axes = figure.subplots()
    metrics = series.workload.metrics[: series.workload.curve]
    names = dict.fromkeys(name for metric in metrics for name in series.samples[metric.name])
    for name in names:
        found = [metric for metric in metrics if name in series.samples[metric.name]]
        axes.plot(
            [metric.name for metric in found],
            [statistics.median(series.samples[metric.name][name]) for metric in found],
            marker="o",
            label=name,
            color=_OURS if name == CELERIAC else None,
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Room on both sides: small differences are not to look like large ones.
    axes.set_ylim(low / 3, high * 3)
    axes.set_title(f"{series.workload.summary} (tasks/s)", loc="left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
