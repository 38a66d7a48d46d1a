"""Turns numbers into tables, and tables, plots and numbers into a report.

A ratio is the median of the ratios within each round, and says how many times better Celeriac is.
"""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.run import Series
from benchmarks.systems import CELERIAC, CELERY
from benchmarks.workload import Metric
from benchmarks.workloads import WORKLOADS

_MISSING = "-"

Row = tuple[str, ...]


# -- tables: a row for each system -----------------------------------------------------------------


def rows(series: Series) -> list[Row]:
    """The table of a workload: headings first, then a row for each system that took part."""
    metrics = series.workload.metrics
    headings = ("", *(f"{metric.name} ({metric.unit})".replace(" ()", "") for metric in metrics))
    names = dict.fromkeys(name for metric in metrics for name in series.samples[metric.name])
    return [headings, *((name, *(_cell(series, m, name) for m in metrics)) for name in names)]


def _cell(series: Series, metric: Metric, name: str) -> str:
    """The median with its extremes, and how many times better Celeriac is than this one."""
    samples = series.samples[metric.name]
    if name not in samples:
        return _MISSING
    found = _spread(metric, samples[name])
    ratio = None if name == CELERIAC else ratio_to(metric, samples, name)
    return found if ratio is None else f"{found}; {ratio:.1f}x"


def ratio_to(metric: Metric, samples: dict[str, list[float]], name: str) -> float | None:
    """The median over the rounds that both finished; None where there is none."""
    pairs = zip(samples.get(CELERIAC, ()), samples.get(name, ()), strict=False)
    if not metric.compare:
        return None
    # Of nothing there is no ratio.
    ratios = [metric.ratio(mine, theirs) for mine, theirs in pairs if mine and theirs]
    return statistics.median(ratios) if ratios else None


def _spread(metric: Metric, values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):,.{metric.digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{metric.digits}f}-{max(values):,.{metric.digits}f})"


def goals(series: Sequence[Series]) -> list[str]:
    """What Celeriac was to reach, a line for each goal."""
    lines = []
    for each in series:
        for metric in each.workload.metrics:
            samples = each.samples[metric.name]
            if metric.goal is None or CELERIAC not in samples:
                continue
            if metric.goal.of == "ratio":
                value, bound = (
                    ratio_to(metric, samples, CELERY),
                    f">= {metric.goal.bound:g} x Celery",
                )
            else:
                value = statistics.median(samples[CELERIAC])
                bound = f"{'>=' if metric.better == 'higher' else '<='} {metric.goal.bound:g}"
            if value is not None:
                verdict = "met" if metric.met(value) else "missed"
                what = f"{each.workload.name}, {metric.name}"
                lines.append(f"{what}: {value:,.{metric.digits or 1}f}, goal {bound}: {verdict}")
    return lines


def text(series: Sequence[Series], broker: str) -> str:
    """All tables, in columns for a terminal; and what was to be reached, which is said of Redis."""
    parts = [
        f"{each.workload.name}: {each.workload.summary}\n{_columns(rows(each))}" for each in series
    ]
    reached = goals(series) if broker == "redis" else []
    return "\n\n".join([*parts, "\n".join(reached)])


def _columns(table: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join(lines)


def failures(series: Sequence[Series]) -> list[str]:
    """What went wrong, a paragraph each."""
    return [
        f"{each.workload.name}, {system}: {message}"
        for each in series
        for system, message in each.failures.items()
    ]


# -- the report ------------------------------------------------------------------------------------


class Kept(msgspec.Struct):
    """What is kept of one workload: the form in which it lies in the JSON file."""

    workload: str
    facts: dict[str, str]
    samples: dict[str, dict[str, list[float]]]
    failures: dict[str, str]
    unable: list[str]


def write(
    folder: Path, broker: str, facts: dict[str, str], series: Sequence[Series]
) -> Iterator[Path]:
    """Write numbers, page and plots of a broker; yield their paths.

    Workloads that were measured in an earlier run, and not in this one, stay as they were.
    """
    # Only a report needs it.
    from benchmarks import plots

    folder.mkdir(parents=True, exist_ok=True)
    document, page = folder / f"{broker}.json", folder / f"{broker}.md"
    kept = {one.workload: one for one in _read(document)}
    for each in series:
        kept[each.workload.name] = _kept(each, facts)
        yield from plots.draw(each, folder / f"{broker}-{each.workload.name}")
    ordered = [kept[name] for name in dict.fromkeys((*WORKLOADS, *kept)) if name in kept]
    document.write_bytes(msgspec.json.format(msgspec.json.encode(ordered)) + b"\n")
    yield document
    page.write_text("\n".join(_page(folder, broker, ordered, series)) + "\n")
    yield page


def _read(document: Path) -> list[Kept]:
    return msgspec.json.decode(document.read_bytes(), type=list[Kept]) if document.exists() else []


def _kept(series: Series, facts: dict[str, str]) -> Kept:
    return Kept(series.workload.name, facts, series.samples, series.failures, sorted(series.unable))


_TITLES = {"redis": "Redis", "amqp": "RabbitMQ", "sqlite": "the embedded SQLite file"}


def _page(
    folder: Path, broker: str, kept: Sequence[Kept], series: Sequence[Series]
) -> Iterator[str]:
    known = WORKLOADS | {each.workload.name: each.workload for each in series}
    yield f"# Measured on {_TITLES[broker]}"
    yield ""
    yield "Written by the benchmark suite; by hand it is changed in vain. Medians (lowest-highest) of"
    yield "the rounds; `x` says how many times better Celeriac is. Every single number is in"
    yield f"`{broker}.json` beside this page, what is measured and how in `benchmarks/README.md`."
    for one in kept:
        workload = known[one.workload]
        found = Series(workload, one.samples, one.failures, set(one.unable))
        summary = workload.summary
        yield from ("", f"## {one.workload}", "", f"{summary[0].upper()}{summary[1:]}.", "")
        headings, *rest = rows(found)
        yield _markdown(headings)
        yield _markdown(("---", *("---:" for _ in headings[1:])))
        yield from map(_markdown, rest)
        picture = f"{broker}-{one.workload}.svg"
        if (folder / picture).exists():
            yield from ("", f"![{one.workload}]({picture})")
        if one.unable:
            yield from ("", f"Cannot do this: {', '.join(one.unable)}.")
        for name in one.failures:
            yield from ("", f"Failed: {name}; see the JSON file.")
    yield from ("", "## Where", "")
    runs: dict[str, list[str]] = {}
    for one in kept:
        runs.setdefault(_markdown_list(one.facts), []).append(one.workload)
    for where, workloads in runs.items():
        yield from (f"{', '.join(workloads)}:", "", where, "")


def _markdown_list(facts: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _markdown(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"
