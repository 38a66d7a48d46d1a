"""Which signals are fired, in which process, with which words (SIG-01 to SIG-08, TASK-35).

One worker runs a task of every fate; its app wrote down everything that it heard.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from celeriac import Celery, signals
from celeriac.message import Publish
from tests.fixtures.gate import Gate
from tests.fixtures.messages import message
from tests.fixtures.system import parent
from tests.fixtures.worker import APPS, WorkerProcess, connected

WAIT = 10.0
FATES = ["succeed", "fail", "retry", "ignore", "reject", "die", "send", "overtime"]
WORKER_SIGNALS = {"worker_ready", "worker_shutting_down", "worker_shutdown"}
PARENT_SIGNALS = {"task_received", "task_unknown", "task_revoked", "task_rejected"}
LATER = {"beat_", "event"}
"""How signals of beat and of green pools begin."""
PUBLICATION = {"before_task_publish", "after_task_publish"}

Line = dict[str, Any]


class History:
    """What an app heard during the life of one worker."""

    def __init__(self, heard: Path, worker: WorkerProcess, pids: dict[str, int]) -> None:
        self.lines: list[Line] = [json.loads(line) for line in heard.read_text().splitlines()]
        self.worker = worker
        self.pids = pids

    def named(self, what: str) -> list[Line]:
        return [line for line in self.lines if line["what"] == what]

    def one(self, what: str) -> Line:
        [line] = self.named(what)
        return line

    def of(self, id: str) -> list[Line]:
        """Return what was heard in children about one task, in order."""
        ours = [line for line in self.lines if line.get("id") == id]
        return [
            line for line in ours if line["what"] not in PARENT_SIGNALS | {"after_task_publish"}
        ]

    def names(self, id: str) -> list[str]:
        return [line["what"] for line in self.of(id)]

    @property
    def spare(self) -> int:
        return int(self.one("worker_ready")["pid"])


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    folder = tmp_path_factory.mktemp("signals")
    heard = folder / "heard"
    heard.touch()
    # Not the app itself: its receivers would hear what this process does.
    app = Celery("signalling")
    gate = Gate()
    with (
        connected(app, folder) as url,
        WorkerProcess(f"{APPS}.signalling", url, "-n", "w@h", SIGNALS_HEARD=str(heard)) as worker,
    ):
        worker.ready()
        pids = live(app, gate, worker)
        worker.stop()
        gate.close()
        yield History(heard, worker, pids)


def live(app: Celery, gate: Gate, worker: WorkerProcess) -> dict[str, int]:
    """Send a task of every fate, and wait until all are over; return the processes there are."""
    app.send_task("run", ("pause", gate.address), task_id="pause")
    run = gate.visitor()
    pids = {"parent": worker.pid, "template": parent(run.pid)}
    for fate in FATES:
        args = () if fate == "overtime" else (fate,)
        sent = app.send_task(fate if fate == "overtime" else "run", args, task_id=fate)
        if fate == "ignore":
            worker.wait_for(r"run\[ignore\] ignored")
        else:
            sent.get(WAIT, propagate=False)
    app.AsyncResult("sent").get(WAIT)
    app.send_task("run", ("succeed",), task_id="late", expires=-1).get(WAIT, propagate=False)
    app.send_task("nobody.knows", task_id="unknown").get(WAIT, propagate=False)
    odd = msgspec.structs.replace(message("odd"), headers=b"[]")
    app.broker.publish([Publish(queue="celery", message=odd)])
    worker.wait_for("message odd of queue celery cannot be read")
    run.let_go()
    app.AsyncResult("pause").get(WAIT)
    return pids


@pytest.mark.follows("SIG-06")
class TestWhere:
    def test_nothing_is_called_in_the_workers_parent(self, history: History) -> None:
        assert history.pids["parent"] not in {line["pid"] for line in history.lines}

    @pytest.mark.parametrize(
        "name",
        [
            "import_modules",
            "celeryd_init",
            "celeryd_after_setup",
            "worker_init",
            "worker_before_create_process",
            "after_setup_logger",
            "after_setup_task_logger",
        ],
    )
    def test_what_belongs_to_the_app_in_the_template(self, history: History, name: str) -> None:
        lines = history.named(name)
        assert {line["pid"] for line in lines} == {history.pids["template"]}
        assert name == "worker_before_create_process" or len(lines) == 1

    @pytest.mark.follows("SIG-05")
    def test_process_signals_in_every_child(self, history: History) -> None:
        begun = [line["pid"] for line in history.named("worker_process_init")]
        assert len(set(begun)) == len(begun)
        # Two processes, two more for those that were killed, one spare.
        assert len(begun) == 5
        assert history.spare in begun

    @pytest.mark.follows("SIG-06")
    @pytest.mark.parametrize(
        "name",
        [
            "task_prerun",
            "task_postrun",
            "task_success",
            "task_retry",
            "before_task_publish",
            "body",
        ],
    )
    def test_runs_in_their_child(self, history: History, name: str) -> None:
        children = {line["pid"] for line in history.named("worker_process_init")} - {history.spare}
        found = {line["pid"] for line in history.named(name)}
        assert found
        assert found <= children

    @pytest.mark.follows("SIG-06")
    @pytest.mark.parametrize("name", sorted(WORKER_SIGNALS | PARENT_SIGNALS))
    def test_what_the_parent_decides_in_the_spare_child(self, history: History, name: str) -> None:
        assert {line["pid"] for line in history.named(name)} == {history.spare}

    @pytest.mark.follows("PROT-01")
    @pytest.mark.parametrize("fate", ["die", "overtime"])
    def test_the_handlers_of_killed_runs_in_the_spare_child(
        self, history: History, fate: str
    ) -> None:
        told = [line for line in history.of(fate) if line["pid"] == history.spare]
        assert [line["what"] for line in told] == ["on_failure", "task_failure", "after_return"]
        name = "WorkerLostError" if fate == "die" else "TimeLimitExceeded"
        assert (told[0]["said"], told[2]["said"]) == (name, "FAILURE")


class TestWhen:
    @pytest.mark.follows("TASK-34", "TASK-35")
    @pytest.mark.parametrize(
        ("id", "signals", "handlers"),
        [
            ("succeed", ["task_success"], ["on_success", "after_return"]),
            ("fail", ["task_failure"], ["on_failure", "after_return"]),
            ("ignore", [], []),
            ("reject", ["task_failure"], []),
        ],
    )
    def test_what_a_run_calls(
        self, history: History, id: str, signals: list[str], handlers: list[str]
    ) -> None:
        names = history.names(id)
        heard = [name for name in names if name.startswith("task_")]
        assert heard == ["task_prerun", *signals, "task_postrun"]
        assert [name for name in names if name not in heard] == ["before_start", "body", *handlers]
        assert names[0] == "task_prerun"
        assert names[-1] == "task_postrun"

    def test_a_retry_is_a_run_of_its_own(self, history: History) -> None:
        names = history.names("retry")
        end = names.index("task_postrun") + 1
        assert sorted(names[:end]) == sorted(
            [
                *("task_prerun", "before_start", "body", "on_retry", "task_retry", "task_postrun"),
                "before_task_publish",  # of the next run
            ]
        )
        assert names[end:] == history.names("succeed")

    @pytest.mark.parametrize(
        ("id", "state"),
        [
            ("succeed", "SUCCESS"),
            ("fail", "FAILURE"),
            ("ignore", "IGNORED"),
            ("reject", "FAILURE"),
        ],
    )
    def test_the_last_words_tell_the_state(self, history: History, id: str, state: str) -> None:
        *_, postrun = history.of(id)
        assert postrun["said"]["state"] == state

    def test_every_delivery_is_received_unless_it_is_refused(self, history: History) -> None:
        received = [line["id"] for line in history.named("task_received")]
        # A retry is delivered twice.
        assert sorted(received) == sorted([*FATES, "retry", "sent", "pause"])

    def test_what_is_refused_is_told(self, history: History) -> None:
        assert history.one("task_revoked")["id"] == "late"
        said = history.one("task_rejected")["said"]["exc"]
        assert said.startswith("DecodeError('cannot read task headers")
        # Once when it is parked, once when it is given up.
        unknown = history.named("task_unknown")
        assert [line["id"] for line in unknown] == ["unknown", "unknown"]
        assert unknown[0]["said"]["exc"].startswith("NotRegistered(")

    @pytest.mark.follows("SIG-03")
    def test_a_delivery_is_told_of_with_all_that_is_known(self, history: History) -> None:
        received = next(line for line in history.named("task_received") if line["id"] == "succeed")
        told = received["request"]
        assert (told["name"], told["args"], told["argsrepr"]) == (
            "run",
            ["succeed"],
            "('succeed',)",
        )
        assert (told["root_id"], told["hostname"]) == ("succeed", "w@h")
        assert told["delivery_info"]["routing_key"] == "celery"
        late = history.one("task_revoked")
        assert late["request"]["args"] == ["succeed"]
        assert late["said"] == {"terminated": False, "signum": None, "expired": True}
        unread, unknown = history.one("task_rejected"), history.named("task_unknown")[0]
        assert unread["message"]["headers"] == {}
        assert unknown["message"]["headers"]["task"] == unknown["said"]["name"] == "nobody.knows"
        assert unknown["message"]["content_type"] == "application/json"

    @pytest.mark.follows("SIG-03")
    def test_the_sender_of_what_happens_to_a_worker_has_the_app(self, history: History) -> None:
        names = [*WORKER_SIGNALS, "celeryd_init", "worker_init", "worker_process_init"]
        names += ["task_received", "task_unknown"]
        for name in names:
            assert {line["app"] for line in history.named(name)} == {"signalling"}, name

    def test_the_life_of_a_worker(self, history: History) -> None:
        order = [
            "import_modules",
            "celeryd_init",
            "worker_init",
            "after_setup_logger",
            "after_setup_task_logger",
            "celeryd_after_setup",
            "worker_ready",
            "worker_shutting_down",
            "worker_shutdown",
        ]
        seen = [line["what"] for line in history.lines if line["what"] in order]
        assert seen == order
        told = history.one("worker_shutting_down")["said"]
        assert told == {"sig": "SIGTERM", "how": "Warm", "exitcode": 0}

    def test_a_child_that_ends_says_so(self, history: History) -> None:
        ended = [line["said"] for line in history.named("worker_process_shutdown")]
        assert {"pid": ended[0]["pid"], "exitcode": 0} in ended


@pytest.mark.follows("SIG-03")
class TestWords:
    EXPECTED = {
        "before_task_publish": "body declare exchange headers properties retry_policy routing_key",
        "after_task_publish": "body exchange headers routing_key",
        "task_received": "request",
        "task_prerun": "args kwargs task task_id",
        "task_postrun": "args kwargs retval state task task_id",
        "task_success": "result runtime",
        "task_retry": "einfo reason request",
        "task_failure": "args einfo exception kwargs task_id traceback",
        "task_revoked": "expired request signum terminated",
        "task_rejected": "exc message",
        "task_unknown": "exc id message name",
        "after_setup_logger": "colorize format logfile logger loglevel",
        "after_setup_task_logger": "colorize format logfile logger loglevel",
        "celeryd_init": "conf instance options",
        "celeryd_after_setup": "conf instance",
        "import_modules": "",
        "worker_init": "",
        "worker_before_create_process": "",
        "worker_process_init": "",
        "worker_process_shutdown": "exitcode pid",
        "worker_ready": "",
        "worker_shutting_down": "exitcode how sig",
        "worker_shutdown": "",
    }

    @pytest.mark.parametrize("name", EXPECTED)
    def test_the_arguments_are_celerys(self, history: History, name: str) -> None:
        lines = history.named(name)
        assert lines
        for line in lines:
            assert line["names"] == self.EXPECTED[name].split()

    @pytest.mark.parametrize(
        "name", ["task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"]
    )
    def test_the_sender_is_the_task(self, history: History, name: str) -> None:
        assert {line["sender"] for line in history.named(name)} <= {"run", "overtime"}

    def test_the_sender_of_a_revocation_is_the_task(self, history: History) -> None:
        assert history.one("task_revoked")["sender"] == "run"

    def test_the_sender_of_a_publication_is_its_name(self, history: History) -> None:
        assert {line["sender"] for line in history.named("before_task_publish")} == {"run"}
        assert {line["sender"] for line in history.named("after_task_publish")} == {"run"}

    @pytest.mark.parametrize(
        "name",
        sorted(WORKER_SIGNALS | {"worker_process_init", "celeryd_init", "celeryd_after_setup"}),
    )
    def test_the_sender_of_what_happens_to_a_worker_is_its_name(
        self, history: History, name: str
    ) -> None:
        assert {line["sender"] for line in history.named(name)} == {"w@h"}


@pytest.mark.follows("SIG-02")
def test_a_fault_of_a_receiver_reaches_nobody(history: History) -> None:
    assert history.worker.count(r"receiver .* of signal task_prerun failed") > 5
    assert history.worker.count("a receiver's own fault") > 5
    assert history.names("succeed")[1:], "the run went on"


def test_threads_of_the_app_are_told_of(history: History) -> None:
    history.worker.wait_for(r"WARNING.*started threads \(watcher\).*worker_process_init")


@pytest.mark.follows("SIG-03")
def test_every_signal_has_been_heard(history: History) -> None:
    silent = {"task_internal_error", "task_sent", "setup_logging", "user_preload_options"}
    silent |= {"heartbeat_sent", *(name for name in signals.CATALOGUE if name[:5] in LATER)}
    assert {line["what"] for line in history.lines} >= signals.CATALOGUE.keys() - silent
