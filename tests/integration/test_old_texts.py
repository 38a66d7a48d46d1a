"""Tutorials of past years, as their readers type them in: modules, settings, commands and calls.

The spelling is today's (`celeriac` in place of `celery`, and no decorators that Celery itself has taken
away), everything else is as written. The servers that the texts name are not there: the environment,
which wins over settings, leads everything to a file.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from celeriac import Celery
from celeriac.exceptions import ImproperlyConfigured
from tests.fixtures.packages import standing_in, write
from tests.fixtures.worker import WorkerProcess

pytestmark = pytest.mark.filterwarnings("ignore::celeriac.exceptions.SettingNotReadWarning")


class Typed(WorkerProcess):
    """A worker, started with a command line as it is written."""

    @staticmethod
    def arguments(module: str) -> list[str]:
        return module.split()


class Reader:
    """Somebody who follows a text, in a folder of their own."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'work.db'}"
        self.environment = {"CELERY_RESULT_BACKEND": self.url}
        write(folder, files)

    @contextmanager
    def worker(self, command: str, **environment: str) -> Iterator[WorkerProcess]:
        """Start ``celeriac`` with these words, and wait until it is ready."""
        environment = self.environment | environment
        with Typed(command, self.url, folder=self.folder, **environment) as worker:
            yield worker.ready()

    def types(self, code: str) -> str:
        """Type something in at the prompt of Python; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env={**os.environ, "CELERY_BROKER_URL": self.url, **self.environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def imports(home: Path) -> Iterator[Path]:
    with standing_in(home):
        yield home


# -- a first task


HELLO = """
from celeriac import Celery

app = Celery('hello', broker='redis://localhost:6379/0')

@app.task
def hello():
    return 'hello world'
"""


@pytest.mark.follows("TASK-01", "CALL-01", "RES-02", "LOG-05")
def test_hello_world(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {"tasks.py": HELLO})
    with reader.worker("-A tasks worker --loglevel=info") as worker:
        assert (
            reader.types("from tasks import hello; print(hello.delay().get())") == "hello world\n"
        )
        worker.wait_for(r"Task tasks\.hello\[.+\] succeeded in .+s: 'hello world'")
        worker.stop()


def test_a_file_whose_name_is_no_name_of_python(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {"celery-tasks.py": HELLO})
    with reader.worker("-A celery-tasks worker --loglevel=info") as worker:
        assert worker.count(r"^ +\. celery-tasks\.hello$") == 1
        worker.stop()


NUMBERED = """
from celeriac import Celery

app = Celery("tasks", backend="redis://localhost:6379/14", broker="redis://localhost:6379/15")

@app.task
def test(x):
    return x + 1
"""


def test_databases_by_number(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {"tasks.py": NUMBERED})
    asked = """
from tasks import test
result = test.delay(7)
print(result.get(timeout=10))
if result.ready():
    print(result.get())
"""
    with reader.worker("-A tasks worker -l info"):
        assert reader.types(asked) == "8\n8\n"


SERVERS = [
    "redis://localhost:6379/15", "redis://127.0.0.1/14", "redis://localhost",
    "pyamqp://guest@localhost//", "pyamqp://", "localhost",
]  # fmt: skip


@pytest.mark.parametrize("url", SERVERS)
def test_to_name_a_server_is_not_to_connect(url: str) -> None:
    app = Celery("tasks", broker=url, backend="rpc://")
    app.conf.result_backend = "redis://localhost:6379/0"
    app.task(name="add")(lambda x, y: x + y)
    assert (app.conf.broker_url, app.conf.result_backend) == (url, "redis://localhost:6379/0")


@pytest.mark.parametrize("url", ["sqs://", "mongodb://localhost/jobs"])
def test_a_server_that_this_version_does_not_speak_to_is_told_when_it_is_used(url: str) -> None:
    add = Celery("tasks", broker=url).task(name="add")(lambda x, y: x + y)
    with pytest.raises(ImproperlyConfigured, match=rf"broker_url '{url}' names no broker of this"):
        add.delay(4, 4)


# -- first steps


FIRST_STEPS = {
    "tasks.py": """
        from celeriac import Celery

        app = Celery("tasks", backend="rpc://", broker="pyamqp://")
        app.config_from_object("celeryconfig")

        @app.task
        def add(x, y):
            return x + y
        """,
    "celeryconfig.py": """
        broker_url = "pyamqp://"
        result_backend = "rpc://"

        task_serializer = "json"
        accept_content = ["json"]
        timezone = "Asia/Shanghai"
        enable_utc = True
        """,
}


@pytest.fixture(scope="module")
def first_steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    reader = Reader(tmp_path_factory.mktemp("first_steps"), FIRST_STEPS)
    with reader.worker("-A tasks worker --loglevel=info"):
        yield reader


class TestFirstSteps:
    @pytest.fixture
    def reader(self, first_steps: Reader) -> Reader:
        return first_steps

    @pytest.mark.follows("APP-05", "RES-02", "RES-04")
    def test_a_result_is_asked_for(self, reader: Reader) -> None:
        code = "from tasks import add; r = add.delay(4, 4); print(r.get(timeout=10), r.ready())"
        assert reader.types(code) == "8 True\n"

    @pytest.mark.follows("RES-02", "RES-15")
    def test_a_failure_is_raised_or_shown(self, reader: Reader) -> None:
        code = """
from tasks import add
result = add.delay(4, "4")
print(repr(result.get(timeout=10, propagate=False)))
print(result.traceback)
try:
    result.get(timeout=1)
except TypeError as error:
    print("raised", error)
"""
        shown, *traceback, raised, end = reader.types(code).split("\n")
        assert shown.startswith("TypeError(")
        assert traceback[0] == "Traceback (most recent call last):"
        assert raised.startswith("raised unsupported operand")
        assert end == ""

    @pytest.mark.follows("RES-06")
    def test_a_result_that_was_forgotten_is_unknown(self, reader: Reader) -> None:
        code = "from tasks import add; r = add.delay(1, 2); r.get(timeout=10); r.forget()"
        assert reader.types(f"{code}; print(r.state)") == "PENDING\n"

    def test_the_settings_are_checked_by_running_them(self, reader: Reader) -> None:
        done = subprocess.run([sys.executable, "-m", "celeryconfig"], cwd=reader.folder, check=True)
        assert done.returncode == 0


@pytest.mark.follows("APP-04")
def test_settings_of_first_steps() -> None:
    app = Celery("tasks", broker="pyamqp://guest@localhost//")
    app.conf.task_serializer = "json"
    app.conf.update(
        task_serializer="json",
        accept_content=["json", "xml"],
        result_serializer="json",
        timezone="Asia/Shanghai",
        enable_utc=True,
    )
    conf = app.conf
    assert (conf.task_serializer, conf.result_serializer) == ("json", "json")
    assert (conf.accept_content, conf.timezone) == (("json", "xml"), "Asia/Shanghai")
    assert conf.enable_utc is True


def test_a_worker_takes_what_it_knows_of_accept_content(tmp_path: Path) -> None:
    module = HELLO + "\napp.conf.update(accept_content=['json', 'xml'])\n"
    reader = Reader(tmp_path, {"tasks.py": module})
    with reader.worker("-A tasks worker -l info"):
        assert (
            reader.types("from tasks import hello; print(hello.delay().get())") == "hello world\n"
        )


ROUTED = """
    task_routes = {
        'tasks.add': 'low-priority',
    }
    task_annotations = {
        'tasks.add': {'rate_limit': '10/m'}
    }
    """


def test_routes_and_annotations_are_taken(imports: Path) -> None:
    write(imports, {"celeryconfig.py": ROUTED})
    app = Celery("tasks", broker="memory://")
    app.config_from_object("celeryconfig")
    assert app.conf.task_routes == {"tasks.add": "low-priority"}
    assert app.conf.task_annotations == {"tasks.add": {"rate_limit": "10/m"}}


@pytest.mark.follows("APP-36")
def test_an_annotation_is_an_attribute_of_the_task(imports: Path) -> None:
    write(imports, {"celeryconfig.py": ROUTED})
    app = Celery("tasks", broker="memory://", backend="memory://")
    app.config_from_object("celeryconfig")
    app.task(name="tasks.add")(lambda x, y: x + y)
    task = app.tasks["tasks.add"]
    assert task.rate_limit == "10/m"


# -- a program as a task, and an app called celery


LS = """
import subprocess

from celeriac import Celery

celery = Celery('test_celery', broker='pyamqp://guest@localhost//',
                backend='rpc://')

@celery.task
def ls():
    try:
        subp = subprocess.run(['ls', '-l'], stdout=subprocess.PIPE, check=True)
    except subprocess.CalledProcessError:
        raise

    return subp.stdout.decode()
"""


def test_an_app_behind_the_command_whose_task_runs_a_program(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {"test_celery.py": LS})
    with reader.worker("worker -A test_celery.celery --loglevel=info") as worker:
        assert worker.count(r"^ +\. test_celery\.ls$") == 1
        code = (
            "from test_celery import ls; ret = ls.delay(); ret.get(timeout=10); print(ret.result)"
        )
        listed = reader.types(code)
    assert listed.startswith("total ")
    assert "test_celery.py" in listed


# -- a project of Django, and tasks that start processes


@pytest.mark.follows("APP-05", "APP-09")
def test_old_names_of_a_project(imports: Path) -> None:
    settings = """
        BROKER_URL = 'redis://127.0.0.1:6379/0'
        BROKER_TRANSPORT = 'redis'
        BROKER_USER = ''
        BROKER_PASSWORD = ''

        REDIS_HOST = 'localhost'
        REDIS_PORT = 6379
        REDIS_DB = 0
        REDIS_CONNECT_RETRY = True

        CELERY_RESULT_BACKEND = 'djcelery.backends.database:DatabaseBackend'
        CELERYBEAT_SCHEDULER = 'djcelery.schedulers.DatabaseScheduler'

        INSTALLED_APPS = ['djcelery', 'kombu.transport.django']
        SECRET_KEY = 'of the project, none of ours'
        """
    write(imports, {"demo/settings.py": settings})
    app = Celery("demo")
    app.config_from_object("demo.settings")
    conf = app.conf
    assert (conf.broker_url, conf.broker_transport) == ("redis://127.0.0.1:6379/0", "redis")
    assert (conf.broker_user, conf.broker_password) == ("", "")
    assert conf.result_backend == "djcelery.backends.database:DatabaseBackend"
    assert conf.beat_scheduler == "djcelery.schedulers.DatabaseScheduler"
    assert conf.redis_host is None, "REDIS_HOST without our prefix belongs to somebody else"


DJANGO = {
    # What Django itself brings.
    "django/conf.py": """
        import importlib, os

        class Settings:
            def __getattr__(self, name):
                module = importlib.import_module(os.environ['DJANGO_SETTINGS_MODULE'])
                return getattr(module, name)

            def __dir__(self):
                return dir(importlib.import_module(os.environ['DJANGO_SETTINGS_MODULE']))

        settings = Settings()
        """,
    "demo/settings.py": """
        BROKER_URL = 'redis://127.0.0.1:6379/0'
        BROKER_TRANSPORT = 'redis'
        CELERY_TASK_SERIALIZER = 'json'
        INSTALLED_APPS = ['users']
        """,
    "demo/celery.py": """
        from __future__ import absolute_import

        import os

        from celeriac import Celery
        from django.conf import settings

        os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'demo.settings')

        app = Celery('demo')

        app.config_from_object('django.conf:settings')
        """,
    "users/tasks.py": """
        import multiprocessing

        from demo.celery import app

        @app.task
        def send_register_email(email, send_type="register"):
            return f"to {email}: {send_type}"

        @app.task
        def get_runner_callback(module_name, forks):
            results = multiprocessing.Queue()
            workers = [
                multiprocessing.Process(target=results.put, args=(f"{module_name} {number}",))
                for number in range(forks)
            ]
            for worker in workers:
                worker.start()
            found = sorted(results.get() for _ in workers)
            for worker in workers:
                worker.join()
            return 0, found
        """,
}
INCLUDED = {
    "demo/celery.py": DJANGO["demo/celery.py"] + "\n        app.conf.include = ['users.tasks']\n"
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    reader = Reader(tmp_path_factory.mktemp("project"), DJANGO | INCLUDED)
    with reader.worker("-A demo worker -l debug"):
        yield reader


class TestProject:
    """As the texts have it, but for how tasks are found."""

    @pytest.fixture
    def reader(self, project: Reader) -> Reader:
        return project

    def test_a_task_is_called_with_keywords(self, reader: Reader) -> None:
        code = """
from users.tasks import send_register_email
print(send_register_email.delay("a@b.c").get(timeout=10))
print(send_register_email.delay(email="a@b.c", send_type="forget").get(timeout=10))
"""
        assert reader.types(code) == "to a@b.c: register\nto a@b.c: forget\n"

    @pytest.mark.follows("RES-04")
    def test_a_task_may_have_children_and_its_result_many_names(self, reader: Reader) -> None:
        code = """
from users.tasks import get_runner_callback
ret = get_runner_callback.delay(module_name="ping", forks=3)
ret.get(timeout=10)
assert ret.status == ret.state == "SUCCESS"
assert ret.info == ret.result
ret_code, callback = ret.result
print(ret_code, callback)
"""
        assert reader.types(code) == "0 ['ping 0', 'ping 1', 'ping 2']\n"

    @pytest.mark.follows("APP-19")
    def test_modules_that_are_included_are_imported(self, reader: Reader) -> None:
        code = """
from demo.celery import app
print(app.send_task("users.tasks.send_register_email", ["x"]).get(timeout=10))
"""
        assert reader.types(code) == "to x: register\n"


DISCOVERED = {
    "demo/celery.py": DJANGO["demo/celery.py"]
    + "\n        app.autodiscover_tasks(lambda: settings.INSTALLED_APPS)\n"
}


@pytest.mark.follows("APP-18")
def test_tasks_are_found_in_the_apps_of_a_project(tmp_path: Path) -> None:
    reader = Reader(tmp_path, DJANGO | DISCOVERED)
    with reader.worker("-A demo worker -l debug"):
        code = (
            "from users.tasks import send_register_email as s; print(s.delay('x').get(timeout=10))"
        )
        assert reader.types(code) == "to x: register\n"


SHARED = {
    "users/tasks.py": """
        from celeriac import shared_task

        @shared_task
        def get_runner_callback(module_name, module_args, pattern, forks, remote_user):
            return [module_name, module_args, pattern, forks, remote_user]
        """
}


@pytest.mark.follows("APP-35")
def test_a_task_that_belongs_to_no_app_of_its_own(tmp_path: Path) -> None:
    reader = Reader(tmp_path, DJANGO | INCLUDED | SHARED)
    with reader.worker("-A demo worker -l info"):
        code = """
import demo.celery
from users.tasks import get_runner_callback
kwargs = dict(module_name="ping", module_args="", pattern="*", forks=2, remote_user="root")
print(get_runner_callback.delay(**kwargs).get(timeout=10))
"""
        assert reader.types(code) == "['ping', '', '*', 2, 'root']\n"


# -- the environment


@pytest.mark.parametrize("variable", [{"C_FORCE_ROOT": "true"}, {"PYTHONOPTIMIZE": "1"}], ids=str)
def test_what_is_exported_harms_nobody(variable: dict[str, str], tmp_path: Path) -> None:
    reader = Reader(tmp_path, DJANGO | INCLUDED)
    code = "from users.tasks import get_runner_callback as g; print(g.delay('ping', 1).get(10))"
    with reader.worker("-A demo worker -l info", **variable) as worker:
        assert reader.types(code) == "[0, ['ping 0']]\n"
        worker.stop()


# -- what is not there yet: when a part has come, its mark is taken away here
# (a test that succeeds although it is marked says so)


@pytest.mark.follows("ROUTE-02")
def test_a_route_leads_to_its_queue(imports: Path) -> None:
    write(imports, {"celeryconfig.py": ROUTED})
    app = Celery("tasks", broker="memory://", backend="memory://")
    app.config_from_object("celeryconfig")
    app.task(name="tasks.add")(lambda x, y: x + y).delay(4, 4)
    assert app.broker.sizes()["low-priority"].ready == 1


def test_the_oldest_name_of_the_transport(imports: Path) -> None:
    write(imports, {"settings.py": "BROKER_URL = 'localhost'\nBROKER_BACKEND = 'redis'\n"})
    app = Celery("demo")
    app.config_from_object("settings")
    assert app.conf.broker_url == "localhost"
    assert app.conf.broker_transport is None, "as in Celery, which knows it no more"


PICKLE = HELLO + "\napp.conf.accept_content = ['json', 'pickle']\n"


@pytest.mark.follows("SEC-04")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_and_pickle_together_must_be_meant(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {"tasks.py": PICKLE})
    with Typed("-A tasks worker -l info", reader.url, folder=tmp_path, C_FORCE_ROOT="") as refused:
        refused.ends(2, within=5)
        assert "C_FORCE_ROOT" in refused.text
    with reader.worker("-A tasks worker -l info", C_FORCE_ROOT="true") as worker:
        worker.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_an_app_may_say_that_root_is_meant(tmp_path: Path) -> None:
    meant = "from celeriac import platforms\nplatforms.C_FORCE_ROOT = True\n"
    reader = Reader(tmp_path, {"tasks.py": PICKLE + meant})
    with reader.worker("-A tasks worker -l info", C_FORCE_ROOT="") as worker:
        worker.stop()
