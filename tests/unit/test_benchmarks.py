"""The benchmark suite: what becomes of its numbers. That it measures, only a run shows."""

from contextlib import ExitStack
from pathlib import Path

from benchmarks import report
from benchmarks.run import Series, run
from benchmarks.servers import Servers
from benchmarks.systems import PEERS, System, system
from benchmarks.workload import Effort, Goal, Metric, NotSupported, Workload
from benchmarks.workloads import SHORT, WORKLOADS

RATE = Metric(
    name="rate", unit="tasks/s", better="higher", digits=0, goal=Goal(of="ratio", bound=4)
)
TIME = Metric(name="p50", unit="ms", goal=Goal(of="value", bound=0.45))


def series(*rounds: tuple[str, float, float]) -> Series:
    samples: dict[str, dict[str, list[float]]] = {"rate": {}, "p50": {}}
    for name, rate, time in rounds:
        samples["rate"].setdefault(name, []).append(rate)
        samples["p50"].setdefault(name, []).append(time)
    workload = Workload(name="sample", summary="do it", metrics=(RATE, TIME), measure=lambda *_: {})
    return Series(workload, samples, {}, set())


TWO_ROUNDS = series(
    ("celeriac", 1000, 0.5), ("celery", 100, 2.0), ("celeriac", 3000, 0.4), ("celery", 150, 2.4)
)


def test_a_ratio_is_formed_within_a_round_and_is_above_one_where_celeriac_is_ahead() -> None:
    assert report.ratio_to(RATE, TWO_ROUNDS.samples["rate"], "celery") == 15
    assert report.ratio_to(TIME, TWO_ROUNDS.samples["p50"], "celery") == 5
    assert report.rows(TWO_ROUNDS) == [
        ("", "rate (tasks/s)", "p50 (ms)"),
        ("celeriac", "2,000 (1,000-3,000)", "0.45 (0.40-0.50)"),
        ("celery", "125 (100-150); 15.0x", "2.20 (2.00-2.40); 5.0x"),
    ]


def test_goals_are_ratios_to_celery_or_values() -> None:
    assert report.goals([TWO_ROUNDS]) == [
        "sample, rate: 15.0, goal >= 4 x Celery: met",
        "sample, p50: 0.45, goal <= 0.45: met",
    ]
    slow = series(("celeriac", 300, 0.6), ("celery", 100, 2.0))
    assert [line.rpartition(": ")[2] for line in report.goals([slow])] == ["missed", "missed"]


def test_a_report_has_every_number_a_page_and_plots(tmp_path: Path) -> None:
    written = list(report.write(tmp_path, "redis", {"cores": "2"}, [TWO_ROUNDS]))
    names = {"redis.json", "redis.md", "redis-sample.svg", "redis-sample.png"}
    assert {path.name for path in written} == names
    page = (tmp_path / "redis.md").read_text()
    assert "![sample](redis-sample.svg)" in page
    assert "| celery | 125 (100-150); 15.0x |" in page
    before = (tmp_path / "redis-sample.svg").read_bytes()
    list(report.write(tmp_path, "redis", {"cores": "2"}, [TWO_ROUNDS]))
    assert (tmp_path / "redis-sample.svg").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == names


def test_who_cannot_do_something_is_left_out() -> None:
    def measure(system: System, effort: Effort) -> dict[str, float]:
        if not system.peer.awaits:
            raise NotSupported
        return {"rate": 1.0, "p50": 1.0}

    with ExitStack() as cleanup:
        both = [system(PEERS[name], "sqlite", Servers(cleanup)) for name in ("celeriac", "huey")]
        workload = Workload(name="sample", summary="do it", metrics=(RATE, TIME), measure=measure)
        found = run(workload, both, 2, Effort())
    assert found.samples["rate"] == {"celeriac": [1.0, 1.0]}
    assert found.unable == {"huey"}


def test_every_library_has_an_application_and_the_short_form_is_known() -> None:
    folder = Path(report.__file__).parent / "apps"
    assert {path.name for path in folder.glob("*_app.py")} == {f"{n}_app.py" for n in PEERS}
    assert set(SHORT) <= WORKLOADS.keys()
