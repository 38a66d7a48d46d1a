"""What a worker says of itself when it starts."""

import pytest

from celeriac.worker.banner import banner, guarantee
from tests.fixtures.deliveries import manifest, options


def test_it_names_app_broker_store_guarantee_pool_queues_and_tasks() -> None:
    found = manifest(options("shop.pay"), options("shop.ship"), store="sqlite:////var/results.db")
    text = banner(found, "w1@box", 4, ("celery", "slow"))
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split()) > 1)
    assert text.startswith("celeriac worker w1@box\n")
    assert lines["app"] == "shop"
    assert lines["broker"] == "sqlite:////var/shop.db"
    assert lines["results"] == "sqlite:////var/results.db"
    assert lines["guarantee"] == "at least once: a task may run twice, none is lost"
    assert lines["pool"] == "4 processes"
    assert lines["queues"] == "celery, slow"
    assert "  tasks\n    . shop.pay\n    . shop.ship\n\n" in text
    assert text.endswith("Ctrl-C stops it; -l info shows what it does.\n")


def test_it_says_so_if_there_are_no_tasks() -> None:
    assert "  tasks\n    (none)\n\n" in banner(manifest(), "w1@box", 1, ("celery",))


def test_it_counts_one_process_as_one() -> None:
    assert "1 process\n" in banner(manifest(), "w1@box", 1, ("celery",))


def test_it_shows_no_password() -> None:
    found = manifest(
        broker="redis://:secret@box/0", store="db+postgresql://u:geheim@box/r?password=hidden"
    )
    text = banner(found, "w1@box", 1, ("celery",))
    assert "redis://:**@box/0" in text
    for secret in ("secret", "geheim", "hidden"):
        assert secret not in text


EARLY = {"acks_late": False}


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([], "at least once: a task may run twice, none is lost"),
        ([options("a", **EARLY)], "at most once: a task is lost if its process or worker dies"),
        ([options("a", **EARLY), options("b")], "at least once, but at most once for: a"),
        (
            [*(options(name, **EARLY) for name in "abcdef"), options("g")],
            "at least once, but at most once for: a, b, c and 3 more",
        ),
    ],
    ids=["no tasks", "all early", "one early", "many early"],
)
def test_the_guarantee_in_one_line(tasks: list, words: str) -> None:
    assert guarantee(tasks) == words
