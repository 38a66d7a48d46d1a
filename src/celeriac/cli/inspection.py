"""``celeriac report`` and ``celeriac check``: what an app says of itself, without running it."""

import sys
import warnings
from collections.abc import Sequence
from itertools import groupby

import click
from msgspec.structs import asdict

from celeriac.cli.options import app_option, load_whole, print_json
from celeriac.findings import Finding, Level, findings
from celeriac.report import bugreport


@click.command()
@app_option
def report(spec: str) -> None:
    """Print versions, addresses and settings for a bug report, secrets masked."""
    click.echo(bugreport(load_whole(spec)), nl=False)


@click.command()
@app_option
@click.option("--strict", is_flag=True, help="Let notes fail, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def check(spec: str, strict: bool, as_json: bool) -> None:
    """Look for mistakes in the app and its tasks. Runs nothing, connects to nothing.

    Exit status: 0 without errors, 1 with errors (with --strict: or notes), 2 if it cannot be loaded.
    """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        app = load_whole(spec)
        found = findings(app, warned)
    if as_json:
        print_json([document(one) for one in found])
    else:
        click.echo(text(found) if found else f"{len(app.tasks)} tasks: nothing found")
    failing = found if strict else [one for one in found if one.kind.level is Level.ERROR]
    sys.exit(1 if failing else 0)


def document(finding: Finding) -> dict[str, str]:
    """Return a finding for programs."""
    kind = finding.kind
    return {"level": kind.level, **asdict(finding), "why": kind.why, "remedy": kind.remedy}


def text(found: Sequence[Finding]) -> str:
    """Return findings for people: each code once, with all places."""
    blocks = []
    for code, group in groupby(found, key=lambda one: one.code):
        ones = list(group)
        kind = ones[0].kind
        lines = [f"{kind.level} {code}", *(f"  {one.place}: {one.what}" for one in ones)]
        blocks.append("\n".join([*lines, f"  why: {kind.why}", f"  do:  {kind.remedy}"]))
    errors = sum(one.kind.level is Level.ERROR for one in found)
    blocks.append(f"{_count(errors, 'error')}, {_count(len(found) - errors, 'note')}")
    return "\n\n".join(blocks)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
