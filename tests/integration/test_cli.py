"""The command line: every command, and the one line that each mistake gets."""

import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from time import time

import msgspec
import pytest

from celeriac import __version__
from celeriac.cli.main import main
from celeriac.cli.worker import node_name
from celeriac.message import Publish, QueueSize
from tests.fixtures.apps import working
from tests.fixtures.apps.working import app
from tests.fixtures.commands import Answer, celeriac
from tests.fixtures.messages import message
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, connected

APP = f"{APPS}.working"
WAIT = 10.0
HOST = socket.gethostname()

Told = Callable[..., Answer]

pytestmark = pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with connected(app, tmp_path / "state") as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules, right and wrong ones."""
    modules = {
        "shop": """
            from celeriac import Celery
            app = Celery("shop")
            other = Celery("other")
            number = 7

            @app.task
            def pay(amount):
                return amount
            """,
        "named": """
            from celeriac import Celery
            orders = Celery("orders")
            """,
        "package/__init__": "",
        "package/celery": """
            from celeriac import Celery
            app = Celery("package")
            """,
        "empty": "",
        "broken": """
            def prepare():
                return 1 / 0

            prepare()
            """,
        "incomplete": "import no_such_module",
        "misspelt": "def (",
        "redis": """
            from celeriac import Celery
            app = Celery("redis", broker="mongodb://:geheim@box/0")
            """,
        "setting": """
            from celeriac import Celery
            app = Celery("setting", task_ack_late=True)
            """,
        "silent": """
            from celeriac import Celery
            app = Celery("silent", backend="disabled://")
            """,
        "leaving": "import os; os._exit(7)",
    }
    for name, text in modules.items():
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(text))
    return tmp_path


class TestApp:
    """How ``-A`` is read (APP-39)."""

    @pytest.mark.follows("APP-39")
    @pytest.mark.parametrize(
        "arguments",
        [
            ["-A", "shop", "queues"],
            ["queues", "-A", "shop"],
            ["--app", "shop", "queues"],
            ["--app=shop", "queues"],
            ["-A", "shop:app", "queues"],
            ["-A", "shop.app", "queues"],
            ["-A", "shop:other", "queues"],
            ["-A", "named", "queues"],
            ["-A", "named:orders", "queues"],
            ["-A", "package", "queues"],
            ["-A", "package.celery", "queues"],
            ["-A", "shop", "dead", "list"],
            ["dead", "list", "-A", "shop"],
            ["-A", "wrong", "queues", "-A", "shop"],
        ],
        ids=" ".join,
    )
    def test_it_finds_the_app(self, folder: Path, arguments: list[str]) -> None:
        answer = celeriac(*arguments, folder=folder)
        assert (answer.status, answer.err) == (0, "")

    def test_the_environment_may_name_it(self, folder: Path) -> None:
        assert celeriac("queues", folder=folder, CELERIAC_APP="shop").status == 0
        wrong = celeriac("queues", folder=folder, CELERIAC_APP="no_such")
        assert "there is no module 'no_such' here" in wrong.complaint

    @pytest.mark.parametrize("command", [["worker"], ["queues"]], ids=" ".join)
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("no_such", "-A no_such: there is no module 'no_such' here"),
            ("no_such:app", "-A no_such:app: there is no module 'no_such' here"),
            ("shop:nothing", "-A shop:nothing: module shop has no 'nothing'"),
            ("shop.nothing", "module shop has no 'nothing'"),
            ("shop:number", "shop:number is a int, not a Celery app"),
            ("empty", "module empty holds no Celery app; make one there: app = Celery('empty')"),
            ("setting", "unknown setting 'task_ack_late': did you mean 'task_acks_late'?"),
            ("redis", "broker_url 'mongodb://:**@box/0' names no broker of this version"),
        ],
    )
    def test_it_says_what_is_wrong(
        self, folder: Path, command: list[str], spec: str, words: str
    ) -> None:
        answer = celeriac("-A", spec, *command, folder=folder)
        assert words in answer.complaint
        assert "geheim" not in answer.err

    @pytest.mark.parametrize("command", [["worker"], ["dead", "list"]], ids=" ".join)
    def test_it_says_how_to_name_one(self, folder: Path, command: list[str]) -> None:
        line = celeriac(*command, folder=folder).complaint
        assert line.endswith(f"celeriac -A module {' '.join(command)}")

    @pytest.mark.parametrize("command", ["worker", "queues"])
    @pytest.mark.parametrize(
        ("module", "theirs", "last"),
        [
            ("broken", ["prepare()", "return 1 / 0"], "ZeroDivisionError: division by zero"),
            ("incomplete", ["import no_such_module"], "ModuleNotFoundError: No module named"),
            ("misspelt", ["def ("], "SyntaxError: invalid syntax"),
        ],
    )
    def test_a_fault_of_the_users_code_is_shown_as_such(
        self, folder: Path, command: str, module: str, theirs: list[str], last: str
    ) -> None:
        answer = celeriac("-A", module, command, folder=folder)
        assert (answer.status, answer.out) == (2, "")
        *text, error, line = answer.err.splitlines()
        assert error.startswith(last)
        kind = last.partition(":")[0]
        assert line.startswith(f"celeriac: -A {module}: importing it raised {kind}(")
        for code in theirs:
            assert f"    {code}" in text
        files = [found for found in text if found.startswith("  File ")]
        assert files
        assert all(str(folder) in file for file in files)

    def test_a_module_that_ends_the_process_is_named(self, folder: Path) -> None:
        line = celeriac("-A", "leaving", "worker", folder=folder).complaint
        assert line == "-A leaving: its process ended while importing it"


@pytest.fixture
def told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run a command in this process, which is faster, in a folder with modules."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        sys.modules.pop("shop", None)
        assert isinstance(end.value.code, int | None)
        return Answer(end.value.code or 0, *capsys.readouterr())

    return run


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("nothing", "there is no command 'nothing'; commands are: call, check, dead, purge"),
            ("--nothing queues", "No such option '--nothing' (see celeriac --help)"),
            ("worker --nothing", "No such option '--nothing' (see celeriac worker --help)"),
            ("worker --quit", "Did you mean '--quiet'?"),
            ("worker -l loud", "'loud' is no log level; give a number, or one of: DEBUG, INFO"),
            ("worker -c 0", "0 is not in the range 1<=x<=1000"),
            ("worker -c many", "'many' is not a valid integer"),
            ("worker --grace -1", "-1.0 is not in the range x>=0"),
            ("worker -Q ,", "-Q ',' has an empty name; write queues separated by commas"),
            ("worker -Q mail,,post", "has an empty name"),
            ("worker -n a@b@c", "-n 'a@b@c' makes the name 'a@b@c', which names no worker"),
            ("worker -n @", "which names no worker; write a word, or word@host"),
            ("call", "Missing argument 'NAME' (see celeriac call --help)"),
            ("call shop.pya", "app shop has no task 'shop.pya'; did you mean 'shop.pay'?"),
            ("call other", "app shop has no task 'other'; is its module imported"),
            ("call shop.pay -a 1", "'1' is not a JSON list; write '[1, 2]'"),
            ("call shop.pay -a [1", "'[1' is not a JSON list"),
            ("call shop.pay -k [1]", "'[1]' is not a JSON dict; write '{\"x\": 1}'"),
            ("call shop.pay --eta soon", "'soon' is no time; write ISO 8601, such as 2030"),
            ("call shop.pay --expires soon", "or seconds, such as 60"),
            ("call shop.pay --priority 256", "256 is not in the range 0<=x<=255"),
            ("call shop.pay --countdown 1 --eta 2030-01-01", "give one of them"),
            ("purge -f -Q ,", "has an empty name"),
            ("result", "Missing argument 'TASK_ID'"),
            ("result one --timeout 0", "task one has no result after 0 s (state PENDING); is a"),
            ("dead nothing", "No such command 'nothing'"),
            ("dead list --limit 0", "0 is not in the range x>=1"),
        ],
    )
    def test_each_gets_one_line(self, told: Told, arguments: str, words: str) -> None:
        assert words in told("-A", "shop", *arguments.split()).complaint

    @pytest.mark.parametrize("command", ["queues", "worker", "call shop.pay"])
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("mongodb://:geheim@box/0", "broker_url 'mongodb://:**@box/0' names no broker"),
            ("nonsense", "broker_url 'nonsense' names no broker"),
            ("sqlite://", "names no file; write sqlite:///tasks.db"),
            ("sqlite:////proc/no/tasks.db", "check that the folder exists and that this user"),
        ],
    )
    def test_a_wrong_url(self, folder: Path, command: str, url: str, words: str) -> None:
        answer = celeriac("-A", "shop", *command.split(), folder=folder, url=url)
        assert words in answer.complaint
        assert "geheim" not in answer.err

    @pytest.mark.parametrize("command", ["queues", "worker", "call shop.pay"])
    def test_a_file_that_is_no_database(self, folder: Path, command: str) -> None:
        (folder / "tasks.db").write_text("not a database " * 1000)
        answer = celeriac("-A", "shop", *command.split(), folder=folder, url="sqlite:///tasks.db")
        assert "file is not a database. Stop all workers, keep a copy" in answer.complaint

    def test_a_url_that_no_worker_can_share(self, folder: Path) -> None:
        answer = celeriac("-A", "shop", "worker", folder=folder, url="memory://")
        assert "memory:// lives inside one process" in answer.complaint

    def test_results_that_are_not_kept(self, told: Told) -> None:
        assert "results are disabled" in told("-A", "silent", "result", "one").complaint

    def test_a_worker_has_not_been_seen(self, folder: Path) -> None:
        answer = celeriac("-A", "shop", "call", "shop.pay", folder=folder)
        assert answer.status == 0
        assert re.fullmatch(
            r"celeriac: warning: the task waits in /.*/shop-\w+\.db, where no worker has been seen "
            r"within a minute; start one with: celeriac -A shop worker\n",
            answer.err,
        )

    def test_an_interrupted_question_removes_nothing(self, url: str) -> None:
        working.add.delay(1, 2)
        answer = celeriac("-A", APP, "purge", url=url)
        assert (answer.status, answer.err) == (1, "celeriac: aborted\n")
        assert app.broker.sizes() == {"celery": QueueSize(ready=1)}


@pytest.mark.follows("WORK-11")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "celery@box.example.org"),
        ("w1", "w1@box.example.org"),
        ("w1@%h", "w1@box.example.org"),
        ("%n-1@%d", "box-1@example.org"),
        ("w1@elsewhere", "w1@elsewhere"),
    ],
)
def test_the_name_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, given: str | None, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box.example.org")
    assert node_name(given) == name


class TestHelp:
    @pytest.mark.parametrize(
        "arguments",
        ["--help", "-h", "worker -h", "call -h", "result -h", "queues -h", "purge -h", "dead -h"],
    )
    def test_it_is_there(self, told: Told, arguments: str) -> None:
        answer = told(*arguments.split())
        assert (answer.status, answer.err) == (0, "")
        assert answer.lines[0].startswith("Usage: celeriac")

    def test_the_program_and_the_module_are_the_same(self) -> None:
        answer = celeriac("--version")
        assert (answer.status, answer.out) == (0, f"celeriac, version {__version__}\n")
        program = Path(sys.executable).with_name("celeriac")
        assert subprocess.check_output([program, "--version"], text=True) == answer.out

    def test_without_a_command_it_is_shown(self, told: Told) -> None:
        answer = told()
        assert (answer.status, answer.err.startswith("Usage: celeriac")) == (2, True)


class TestQueues:
    def test_empty(self, url: str) -> None:
        assert celeriac("-A", APP, "queues", url=url).out == "all queues are empty\n"

    def test_what_each_holds_by_place(self, url: str) -> None:
        working.add.delay_many([(1, 1)] * 3)
        working.add.apply_async((1, 1), countdown=60)
        working.add.apply_async((1, 1), queue="mail")
        consumer = app.broker.consumer(["celery"])
        consumer.claim(1, 1000)
        assert [line.split() for line in celeriac("-A", APP, "queues", url=url).lines] == [
            ["queue", "ready", "delayed", "running"],
            ["celery", "2", "1", "1"],
            ["mail", "1", "0", "0"],
        ]
        consumer.close()

    def test_delayed_ones_are_released(self, url: str) -> None:
        working.add.apply_async((1, 1), countdown=60)
        working.add.apply_async((1, 1), queue="mail", countdown=60)
        answer = celeriac("-A", APP, "queues", "--release", "celery", url=url)
        assert answer.lines[0] == "celery: 1 delayed messages are ready"
        assert [line.split() for line in answer.lines[2:]] == [
            ["celery", "1", "0", "0"],
            ["mail", "0", "1", "0"],
        ]

    def test_purge(self, url: str) -> None:
        working.add.delay_many([(1, 1)] * 3)
        working.add.apply_async((1, 1), queue="mail")
        working.add.apply_async((1, 1), queue="post", countdown=60)
        asked = celeriac("-A", APP, "purge", url=url, stdin="y\n")
        assert asked.out.endswith("celery: 3 messages removed\n")
        assert asked.err == "other queues hold messages: mail, post\n"
        forced = celeriac("-A", APP, "purge", "-f", "-Q", "mail, post", url=url)
        assert forced.out == "mail: 1 messages removed\npost: 1 messages removed\n"
        assert forced.err == ""
        assert app.broker.sizes() == {}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def shared(place: Path) -> Iterator[WorkerProcess]:
    url = f"sqlite:///{place / 'work.db'}"
    with WorkerProcess(APP, url, "-n", "w1@%h") as worker:
        yield worker.ready()


@pytest.fixture
def worker(place: Path, shared: WorkerProcess) -> Iterator[WorkerProcess]:
    with connected(app, place):
        yield shared


@pytest.fixture
def here(place: Path) -> str:
    """The URL that the worker works on."""
    return f"sqlite:///{place / 'work.db'}"


class TestTasks:
    def test_call_prints_the_id_and_result_the_value(
        self, worker: WorkerProcess, here: str
    ) -> None:
        called = celeriac("-A", APP, "call", f"{APP}.add", "-a", "[2, 3]", url=here)
        assert (called.status, called.err) == (0, "")
        read = celeriac("-A", APP, "result", called.out.strip(), url=here)
        assert (read.status, read.out, read.err) == (0, "5\n", "")

    def test_call_waits(self, worker: WorkerProcess, here: str) -> None:
        arguments = ["-k", '{"x": 2, "y": 3}', "--wait"]
        answer = celeriac("-A", APP, "call", f"{APP}.add", *arguments, url=here)
        assert (answer.status, answer.lines[1:]) == (0, ["5"])

    def test_call_passes_its_options_on(self, worker: WorkerProcess, here: str) -> None:
        options = ["--countdown", "60", "--expires", "90", "--queue", "later", "--priority", "7"]
        before = time()
        answer = celeriac("-A", APP, "call", f"{APP}.add", *options, url=here)
        assert answer.status == 0
        assert app.broker.sizes() == {"later": QueueSize(delayed=1)}
        read = app.broker.database.read  # type: ignore[attr-defined]
        [[due, priority, headers]] = read("SELECT due, priority, headers FROM message")
        assert before + 60 < due < time() + 60
        assert priority == 7
        assert b'"expires"' in headers
        app.broker.purge("later")

    @pytest.mark.parametrize(
        ("options", "refusal"), [("--eta 2000-01-01", ""), ("--expires 2000-01-01", "was revoked")]
    )
    def test_call_reads_times(
        self, worker: WorkerProcess, here: str, options: str, refusal: str
    ) -> None:
        arguments = ["-a", "[2, 3]", "--wait", *options.split()]
        answer = celeriac("-A", APP, "call", f"{APP}.add", *arguments, url=here)
        if refusal:
            assert (answer.status, refusal in answer.err) == (1, True)
        else:
            assert (answer.status, answer.lines[1:]) == (0, ["5"])

    def test_call_sends_what_only_others_know(self, worker: WorkerProcess, here: str) -> None:
        answer = celeriac(
            "-A", APP, "call", "nobody.knows", "--unregistered", "--queue", "theirs", url=here
        )
        assert (answer.status, answer.err) == (0, "")
        assert app.broker.purge("theirs") == 1

    def test_call_does_not_wait_for_what_is_not_kept(
        self, worker: WorkerProcess, here: str
    ) -> None:
        answer = celeriac("-A", APP, "call", f"{APP}.ignored", "-a", '[""]', "--wait", url=here)
        assert answer.status == 2
        assert "keeps no result (ignore_result); leave out --wait" in answer.err

    @pytest.mark.parametrize(
        ("task", "words"),
        [
            ("fails", "the task failed: ValueError('bad\\nluck')"),
            ("fails_by_limit", "the task failed: TimeLimitExceeded(0.1)"),
        ],
    )
    def test_a_failure_is_one_line(
        self, worker: WorkerProcess, here: str, task: str, words: str
    ) -> None:
        args = ["-a", '["bad\\nluck"]'] if task == "fails" else []
        called = celeriac("-A", APP, "call", f"{APP}.{task}", *args, "--wait", url=here)
        assert (called.status, called.err) == (1, f"{words}\n")
        read = celeriac("-A", APP, "result", called.out.strip(), url=here)
        assert (read.status, read.out, read.err) == (1, "", f"{words}\n")

    def test_its_traceback_can_be_read(self, worker: WorkerProcess, here: str) -> None:
        failed = working.fails.delay("bad luck")
        failed.get(WAIT, propagate=False)
        answer = celeriac("-A", APP, "result", failed.id, "--traceback", url=here)
        assert (answer.status, answer.lines[0]) == (0, "Traceback (most recent call last):")
        assert answer.lines[-1] == "ValueError: bad luck"
        assert "celeriac" not in answer.out.replace(str(Path(working.__file__)), "")

    def test_unknown_tasks_are_shown_in_their_queue(self, worker: WorkerProcess, here: str) -> None:
        app.send_task("nobody.knows")
        assert eventually(lambda: app.broker.sizes()["celery"].unknown)
        answer = celeriac("-A", APP, "queues", url=here)
        assert answer.lines[-1] == (
            "  unknown task nobody.knows: 1 waiting for a worker that knows it"
        )
        # The worker may hold it just now.
        assert eventually(lambda: app.broker.purge("celery") == 1)

    def test_dead_letters_are_listed_with_their_last_words(
        self, worker: WorkerProcess, here: str
    ) -> None:
        assert celeriac("-A", APP, "dead", "list", url=here).out == "there are no dead letters\n"
        for name in ("first", "second"):
            odd = msgspec.structs.replace(message(name), headers=b"[]")
            app.broker.publish([Publish(queue="celery", message=odd)])
            assert eventually(lambda: name in [dead.message.id for dead in app.broker.dead()])  # noqa: B023
        lines = celeriac("-A", APP, "dead", "list", url=here).lines
        assert re.match(r"\d+  20\d\d-.*\+00:00  demo\.task\[second\]  queue celery$", lines[0])
        assert lines[1].startswith("  cannot read task headers")
        assert "demo.task[first]" in lines[2]
        only = celeriac("-A", APP, "dead", "list", "--limit", "1", url=here).lines
        assert only == lines[:2]


class TestWhatAWorkerSays:
    def test_its_banner(self, worker: WorkerProcess, place: Path) -> None:
        lines = worker.text.splitlines()
        assert lines[:9] == [
            f"celeriac worker w1@{HOST}",
            "",
            "  app        working",
            f"  broker     sqlite:///{place / 'work.db'}",
            f"  results    sqlite:///{place / 'work.db'}",
            "  guarantee  at least once: a task may run twice, none is lost",
            "  pool       2 processes",
            "  queues     celery",
            "",
        ]
        listed = [line.strip() for line in lines[10 : 10 + len(app.tasks)]]
        assert listed == [f". {name}" for name in sorted(app.tasks)]

    @pytest.mark.follows("LOG-05")
    def test_nothing_if_it_is_to_be_quiet(self, worker: WorkerProcess, here: str) -> None:
        with WorkerProcess(APP, here, "-q", "-Q", "quiet") as quiet:
            assert quiet.ready().lines[0].endswith("ready.\n")
            quiet.stop()
        with WorkerProcess(APP, here, "-q", "-Q", "quiet", "-l", "error") as silent:
            sent = working.who.apply_async(queue="quiet")
            sent.get(WAIT)
            silent.stop()
            assert silent.text == ""

    @pytest.mark.follows("TASK-21", "LOG-02", "LOG-08")
    def test_tasks_in_the_words_of_celery(self, worker: WorkerProcess) -> None:
        def log(result: object, words: str, process: str) -> None:
            stamp = r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: "
            worker.wait_for(rf"{stamp}{process}\] Task {APP}\.\w+\[{result}\] {words}")

        done = working.add.delay(1, 2)
        done.get(WAIT)
        log(done, r"received$", "INFO/MainProcess")
        log(done, r"succeeded in [\d.e-]+s: 3$", r"INFO/ForkPoolWorker-\d+")
        failed = working.fails.delay("bad luck")
        failed.get(WAIT, propagate=False)
        log(failed, r"raised unexpected: ValueError\('bad luck'\)$", r"ERROR/ForkPoolWorker-\d+")
        worker.wait_for(r"^Traceback \(most recent call last\):$")
        worker.wait_for(r"^ValueError: bad luck$")
        expected = working.fails_as_expected.delay()
        expected.get(WAIT, propagate=False)
        log(expected, r"raised expected: KeyError\('expected'\)$", r"INFO/ForkPoolWorker-\d+")
        again = working.change.delay(1, word="go")
        again.get(WAIT)
        log(again, r"retry: Retry in 0s$", r"INFO/ForkPoolWorker-\d+")
        late = working.add.apply_async((1, 2), expires=-1)
        late.get(WAIT, propagate=False)
        worker.wait_for(rf"INFO/MainProcess\] Discarding revoked task: {APP}\.add\[{late}\]$")
        killed = working.fails_by_limit.delay()
        killed.get(WAIT, propagate=False)

    @pytest.mark.follows("LOG-01", "LOG-02")
    def test_a_tasks_own_words_name_the_task(self, worker: WorkerProcess) -> None:
        said = working.logs.delay("hello")
        said.get(WAIT)
        worker.wait_for(
            rf"INFO/ForkPoolWorker-\d+\] {APP}\.logs\[{said.id}\]: the task says hello$"
        )

    @pytest.mark.follows("WORK-11")
    def test_its_default_name(self, worker: WorkerProcess, here: str) -> None:
        with WorkerProcess(APP, here, "-Q", "named") as named:
            assert named.ready().lines[0] == f"celeriac worker celery@{HOST}\n"
            sent = working.request.apply_async(queue="named")
            assert sent.get(WAIT)["hostname"] == f"celery@{HOST}"
            named.stop()
