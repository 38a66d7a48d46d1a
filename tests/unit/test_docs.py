"""What the documentation says in tables, held against the code that it speaks of."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from celeriac import states
from celeriac.cli.main import celeriac
from celeriac.completion import Settlement
from celeriac.findings import KINDS
from celeriac.outcome import Ending
from celeriac.signals import CATALOGUE
from celeriac.worker.settlement import Decision, settle
from tests.fixtures.deliveries import options

DOCS = Path(__file__).parents[2] / "docs"
LIMIT = 3
ACK_OPTIONS = ("acks_on_failure", "acks_on_timeout", "reject_on_worker_lost")


def section(page: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    text = (DOCS / page).read_text("utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {heading!r}"
    return found[1]


def rows(text: str, width: int) -> list[list[str]]:
    """Return the cells of all rows of tables that are so many columns wide, without their heads."""
    body = re.sub(r"^\|.*\n\|[-|]+\|$", "", text, flags=re.MULTILINE)
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in body.splitlines()
        if line.startswith("|")
    ]
    return [row for row in cells if len(row) == width]


def code(cell: str) -> str:
    """Return what stands first in code quotes."""
    found = re.match(r"`([^`]+)`", cell)
    assert found, f"nothing is quoted as code in {cell!r}"
    return found[1]


class TestTheSettlementTable:
    PAGE = "explanation/delivery-guarantees.md"

    @pytest.fixture
    def table(self) -> dict[tuple[str, str], tuple[Decision, Decision]]:
        """The page's table: (early, late) by ending and option, the latter often empty."""
        found = {}
        for ending, condition, early, late in rows(section(self.PAGE, "The settlement table"), 4):
            option = code(condition).removesuffix("=False") if condition else ""
            assert option in ("", *ACK_OPTIONS)
            assert (code(ending), option) not in found
            found[code(ending), option] = (_decision(early), _decision(late))
        return found

    @pytest.mark.parametrize("losses", range(LIMIT + 1))
    @pytest.mark.parametrize("option", ["", *ACK_OPTIONS])
    @pytest.mark.parametrize("ending", Ending)
    def test_says_what_is_decided(
        self,
        ending: Ending,
        option: str,
        losses: int,
        table: dict[tuple[str, str], tuple[Decision, Decision]],
    ) -> None:
        early, late = table.get((ending, option)) or table[ending, ""]
        if late.settlement is Settlement.LOSS and losses + 1 >= LIMIT:
            # What the page says of `loss`, below the table.
            late = Decision(Settlement.DEAD, fails=True)
        changes: dict[str, Any] = {option: False} if option else {}
        assert settle(ending, options(acks_late=False, **changes), losses, LIMIT) == early
        assert settle(ending, options(acks_late=True, **changes), losses, LIMIT) == late

    def test_has_no_rows_of_something_else(
        self, table: dict[tuple[str, str], tuple[Decision, Decision]]
    ) -> None:
        assert {ending for ending, _ in table} == set(Ending)
        assert {option for _, option in table} == {"", *ACK_OPTIONS}

    def test_explains_its_words(
        self, table: dict[tuple[str, str], tuple[Decision, Decision]]
    ) -> None:
        used = {decision.settlement or "-" for pair in table.values() for decision in pair}
        explained = {
            row[0].strip("`") for row in rows(section(self.PAGE, "The settlement table"), 2)
        }
        assert used | {"FAILURE"} == explained


def _decision(cell: str) -> Decision:
    word, fails = code(cell), cell.endswith(" FAILURE")
    assert cell == f"`{word}`" + (" FAILURE" if fails else "")
    return Decision(None if word == "-" else Settlement(word), fails)


class TestTheStates:
    PAGE = "explanation/state-machine.md"

    def test_every_state_is_explained(self) -> None:
        text = section(self.PAGE, "The states")
        named = set(re.findall(r"`([A-Z]{4,})`", text))
        assert named == states.ALL_STATES | {states.IGNORED}

    def test_every_ending_is_in_the_list(self) -> None:
        listed = [code(row[0]) for row in rows(section(self.PAGE, "The endings"), 3)]
        assert sorted(listed) == sorted(Ending)

    def test_the_drawing_has_the_states_that_are_stored(self) -> None:
        drawing = section(self.PAGE, "The states").split("```")[1]
        unstored = {states.RECEIVED, states.REJECTED}
        assert set(re.findall(r"\b[A-Z]{4,}\b", drawing)) == states.ALL_STATES - unstored


class TestTheSignals:
    PAGE = "guide/signals.md"

    def test_every_signal_is_listed_with_its_arguments(self) -> None:
        text = (DOCS / self.PAGE).read_text("utf-8")
        listed = {code(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in rows(text, 5)}
        assert listed == {name: signal.providing_args for name, signal in CATALOGUE.items()}


class TestTheCommandLine:
    PAGE = "reference/cli.md"

    def test_the_page_names_the_options_that_there_are(self) -> None:
        for path in _leaves(celeriac, ("celeriac",)):
            listed = _listed(section(self.PAGE, " ".join(path)))
            there = _options(_command(path[1:]), helps=len(path) == 1)
            assert sorted(listed) == sorted(there), path

    def test_the_page_has_no_other_commands(self) -> None:
        text = (DOCS / self.PAGE).read_text("utf-8")
        documented = set(re.findall(r"^## (celeriac.*)$", text, re.MULTILINE))
        assert documented == {" ".join(path) for path in _leaves(celeriac, ("celeriac",))}

    def test_arguments_are_named(self) -> None:
        for path in _leaves(celeriac, ("celeriac",)):
            for parameter in _command(path[1:]).params:
                if isinstance(parameter, click.Argument):
                    name = (parameter.name or "").upper()
                    usage = f"`{' '.join(path)} {name}`"
                    assert usage in section(self.PAGE, " ".join(path))

    def test_every_finding_is_listed(self) -> None:
        listed = [(code(row[0]), row[1]) for row in rows(section(self.PAGE, "celeriac check"), 3)]
        assert listed == [(name, kind.level) for name, kind in KINDS.items()]


def _command(path: tuple[str, ...]) -> click.Command:
    command: click.Command = celeriac
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


def _leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all commands that do something, the program itself first."""
    if len(path) == 1 or not isinstance(command, click.Group):
        yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from _leaves(_command((*path[1:], name)), (*path, name))


def _options(command: click.Command, *, helps: bool) -> list[str]:
    """Return the spellings of all options; help is told once, with the program itself."""
    options = [option for option in command.params if isinstance(option, click.Option)]
    spellings = [name for option in options for name in option.opts]
    if helps:
        context = click.Context(command, **command.context_settings)
        spellings += command.get_help_option_names(context)
    return spellings


def _listed(text: str) -> list[str]:
    """Return the spellings in the first column of the tables of options."""
    quoted = [words for row in rows(text, 2) for words in re.findall(r"`(-[^`]+)`", row[0])]
    return [word.split()[0] for word in quoted]
