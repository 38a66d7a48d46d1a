"""Print the page of settings, ``docs/reference/settings.md``, from the table.

Usage: ``python scripts/settings_reference.py [--write]``; without ``--write`` the page goes to
standard output. A unit test compares the committed page with what this prints.
"""

import sys
import tomllib
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from celeriac.settings.configuration import ENVIRONMENT
from celeriac.settings.table import DEFAULTS, SAME, Entry, Options, Strings, entries

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "reference" / "settings.md"

INTRODUCTION = """\
# Settings

<!-- Made by scripts/settings_reference.py from src/celeriac/settings/table.py; do not edit. -->

Settings are given as attributes or items of `app.conf`, as keywords of `Celery(...)`, or in a
module or object that `app.config_from_object` is given. Each value is checked when it is given;
an unknown name is an error that names the nearest known one.

**Two columns of defaults.** *Default* holds for programs that import `celeriac`. *Under `import
celery`* holds for programs written for Celery that run on Celeriac's drop-in package: it has
Celery's values, so that moving changes nothing that was relied upon. Most are the same.

**Old names.** The upper-case name from before Celery 4 is understood wherever the new name is. One
source keeps to one style: a source that mixes both is refused, with the list of what to rename.
With `namespace="CELERY"` a source is searched for `CELERY_` and the *new* name in upper case, such
as `CELERY_TASK_ACKS_LATE`.

**What wins.** From the weakest to the strongest: these defaults, `app.add_defaults`, the source of
`app.config_from_object`, what is assigned to `app.conf` directly, and the environment variables
{environment}.

**Not read yet.** {read} of {total} settings have an effect in this version. The others, marked
"no" in the last column, are accepted and checked, so that a configuration can be kept; setting one
to anything but its default issues a `SettingNotReadWarning`, once.

Durations are in seconds unless the name says otherwise; a `timedelta` may stand for them. Where a
truth value or a number is expected, text such as `"true"` or `"30"` is understood.
"""

TYPES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "string",
    bytes: "bytes",
    Strings: "list of strings",
    Options: "dictionary",
    type[Any]: "class",
    NoneType: "None",
    Any: "anything",
}
HEADINGS = {
    "app": "Application",
    "broker": "Broker",
    "task": "Tasks",
    "result": "Results",
    "worker": "Worker",
    "control": "Remote control",
    "event": "Events",
    "beat": "Beat",
    "security": "Signed messages",
    "redis": "Result store: Redis",
    "database": "Result store: SQL database",
    "cache": "Result store: Memcached",
    "mongodb": "Result store: MongoDB",
    "s3": "Result store: S3",
    "gcs": "Result store: Google Cloud Storage",
    "azureblockblob": "Result store: Azure Block Blob",
    "dynamodb": "Result store: DynamoDB",
    "cosmosdbsql": "Result store: CosmosDB",
    "cassandra": "Result store: Cassandra and Astra",
    "elasticsearch": "Result store: Elasticsearch",
    "couchbase": "Result store: Couchbase",
    "arangodb": "Result store: ArangoDB",
}
GENERAL = ("imports", "include", "enable_utc", "timezone", "accept_content")


def area(line: Entry) -> str:
    """The heading under which the setting stands."""
    return HEADINGS["app" if line.name in GENERAL else line.name.partition("_")[0]]


def type_text(line: Entry) -> str:
    """The setting's type in words."""
    kinds = (line.type,) if line.type in TYPES else get_args(line.type)
    return ", ".join(TYPES[kind] for kind in kinds)


def value_text(value: object) -> str:
    """A default as it would be written in Python."""
    return "`" + repr(list(value) if isinstance(value, tuple) else value) + "`"


def row(line: Entry, effect: str) -> str:
    """One line of a table of the page."""
    theirs = line.setting.celery
    cells = (
        f"`{line.name}`",
        effect,
        type_text(line),
        value_text(getattr(DEFAULTS, line.name)),
        "same" if theirs is SAME else value_text(theirs),
        ", ".join(f"`{old}`" for old in line.old_names) or "none",
        "yes" if line.setting.read else "no",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """The whole page."""
    effects = tomllib.loads((HERE / "settings_effects.toml").read_text(encoding="utf-8"))
    lines = sorted(entries(), key=lambda line: list(HEADINGS.values()).index(area(line)))
    return "\n".join(sections(lines, effects))


def sections(lines: list[Entry], effects: dict[str, str]) -> list[str]:
    """The introduction, then a heading and a table for each area."""
    variables = [f"`{variable}`" for variable in ENVIRONMENT]
    text = [
        INTRODUCTION.format(
            environment=", ".join(variables[:-1]) + " and " + variables[-1],
            read=sum(line.setting.read for line in lines),
            total=len(lines),
        )
    ]
    for heading, group in groupby(lines, key=area):
        text += [
            f"## {heading}",
            "",
            "| setting | what it does | type | default | under `import celery` | old name | read |",
            "|---|---|---|---|---|---|---|",
            *(row(line, effects[line.name]) for line in group),
            "",
        ]
    return text


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
