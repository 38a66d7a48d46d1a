"""Turns numbers into a table, and table and numbers into a dated report.

A ratio is the median of the ratios within each round, and says how many times better Celeriac is.
"""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.run import Series
from benchmarks.systems import CELERIAC, CELERY
from benchmarks.workload import Metric

HEADINGS = ("workload", "metric", "unit", CELERIAC, CELERY, "ratio", "goal", "")
_MISSING = "-"
_LEFT = {0, 1, 2, 7}
"""Columns of words; the others hold numbers."""

Row = tuple[str, ...]


def rows(series: Sequence[Series]) -> list[Row]:
    """One row a metric, as text."""
    return [_row(each, metric) for each in series for metric in each.workload.metrics]


def _row(series: Series, metric: Metric) -> Row:
    samples = series.samples[metric.name]
    ratio = _ratio(metric, samples)
    return (
        series.workload.name,
        metric.name,
        metric.unit,
        _spread(metric, samples.get(CELERIAC)),
        _spread(metric, samples.get(CELERY)),
        _MISSING if ratio is None else f"{ratio:.2f} x",
        _goal(metric),
        _verdict(metric, samples.get(CELERIAC), ratio),
    )


def _ratio(metric: Metric, samples: dict[str, list[float]]) -> float | None:
    """The median over the rounds that both systems finished; None where there is none."""
    pairs = zip(samples.get(CELERIAC, ()), samples.get(CELERY, ()), strict=False)
    ratios = [metric.ratio(mine, theirs) for mine, theirs in pairs] if metric.compare else []
    return statistics.median(ratios) if ratios else None


def _spread(metric: Metric, values: list[float] | None) -> str:
    """The median, and the extremes where there was more than one round."""
    if not values:
        return _MISSING
    middle = _number(metric, statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({_number(metric, min(values))}-{_number(metric, max(values))})"


def _number(metric: Metric, value: float) -> str:
    return f"{value:,.{metric.digits}f}"


def _goal(metric: Metric) -> str:
    if metric.goal is None:
        return _MISSING
    if metric.goal.of == "ratio":
        return f">= {metric.goal.bound:g} x"
    return f"{'>=' if metric.better == 'higher' else '<='} {metric.goal.bound:g}"


def _verdict(metric: Metric, values: list[float] | None, ratio: float | None) -> str:
    """Say whether the goal was met; nothing where there is no goal or no number."""
    if metric.goal is None or not values:
        return ""
    value = ratio if metric.goal.of == "ratio" else statistics.median(values)
    if value is None:
        return ""
    return "met" if metric.met(value) else "missed"


def table(lines: Sequence[Row]) -> str:
    """The rows under their headings, in columns for a terminal."""
    cells = [HEADINGS, *lines]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(_aligned(row, widths) for row in (HEADINGS, rule, *lines))


def _aligned(row: Row, widths: Sequence[int]) -> str:
    padded = (
        text.ljust(width) if column in _LEFT else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def failures(series: Sequence[Series]) -> list[str]:
    """What went wrong, a paragraph each."""
    return [
        f"{each.workload.name}, {system}: {message}"
        for each in series
        for system, message in each.failures.items()
    ]


def write(folder: Path, facts: dict[str, str], series: Sequence[Series]) -> list[Path]:
    """Write the report as JSON and as Markdown, named by its date; returns both paths."""
    folder.mkdir(exist_ok=True)
    stem = facts["date"][:16].replace(":", "")
    document, page = folder / f"{stem}.json", folder / f"{stem}.md"
    document.write_bytes(msgspec.json.format(msgspec.json.encode(_document(facts, series))) + b"\n")
    page.write_text("\n".join(_page(facts, series)) + "\n")
    return [document, page]


def _document(facts: dict[str, str], series: Sequence[Series]) -> dict[str, object]:
    """Facts and every single number."""
    measured = [
        {
            "workload": each.workload.name,
            "metric": metric.name,
            "unit": metric.unit,
            "better": metric.better,
            "rounds": each.samples[metric.name],
            "ratio": _ratio(metric, each.samples[metric.name]),
        }
        for each in series
        for metric in each.workload.metrics
    ]
    return {"facts": facts, "measured": measured, "failures": failures(series)}


def _page(facts: dict[str, str], series: Sequence[Series]) -> Iterator[str]:
    yield f"# Benchmarks, {facts['date'][:10]}"
    yield ""
    yield "Medians (lowest-highest); the ratio says how many times better Celeriac is."
    yield "How it was measured: `benchmarks/README.md`; single numbers: the JSON file beside this."
    yield ""
    yield _markdown(HEADINGS)
    yield _markdown(tuple("---" if column in _LEFT else "---:" for column in range(len(HEADINGS))))
    yield from (_markdown(row) for row in rows(series))
    for each in series:
        yield from ("", f"- `{each.workload.name}`: {each.workload.summary}")
    for message in failures(series):
        yield from ("", "Failed:", "", "```", message, "```")
    yield from ("", "## Where", "")
    yield from (f"- {name}: {value}" for name, value in facts.items())


def _markdown(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"
