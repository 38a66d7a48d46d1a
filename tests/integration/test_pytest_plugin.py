"""The pytest plugin, in sessions of pytest as users have them.

``pytester`` runs them: in this process where only what pytest says matters, in one of their own where
the environment does.
"""

import importlib.util
import sys
from collections.abc import Iterator

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

from celeriac.testing import pytest_plugin

pytest_plugins = ["pytester"]

PLUGIN = "celeriac.testing.pytest_plugin"

SCOPES = {
    "celery_app": "function",
    "celery_class_tasks": "session",
    "celery_config": "session",
    "celery_enable_logging": "session",
    "celery_includes": "session",
    "celery_parameters": "session",
    "celery_session_app": "session",
    "celery_session_worker": "session",
    "celery_worker": "function",
    "celery_worker_parameters": "session",
    "celery_worker_pool": "session",
    "depends_on_current_app": "function",
    "use_celery_app_trap": "session",
}
"""The fixtures of celery.contrib.pytest (5.7), with their scopes."""

needs_current = pytest.mark.skipif(
    importlib.util.find_spec("celeriac.current") is None, reason="there is no current app here"
)


@pytest.fixture
def project(pytester: pytest.Pytester) -> Iterator[pytest.Pytester]:
    """Yield a project whose conftest switches the plugin on."""
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error"
    )
    pytester.makeconftest(f"pytest_plugins = [{PLUGIN!r}]")
    yield pytester


def passed(project: pytest.Pytester, count: int, *options: str) -> pytest.RunResult:
    """Run the tests in a process of their own; return the result if all of them pass."""
    result = project.runpytest_subprocess("-q", *options)
    result.assert_outcomes(passed=count)
    return result


@pytest.mark.follows("TESTH-01")
def test_the_fixtures_are_those_of_celery_and_two_of_our_own() -> None:
    found = {
        name: value._fixture_function_marker.scope
        for name, value in vars(pytest_plugin).items()
        if isinstance(value, FixtureFunctionDefinition)
    }
    assert found == SCOPES | {"celeriac_app": "function", "celeriac_inbox": "function"}


@pytest.mark.follows("TESTH-01", "TESTH-03")
def test_a_suite_that_was_written_for_celery(project: pytest.Pytester) -> None:
    project.makepyfile(
        tasks="LOADED = True",
        test_suite="""
        import sys
        import threading
        import pytest
        from celeriac import Task

        class Double(Task):
            name = "double"
            def run(self, x):
                return 2 * x

        @pytest.fixture(scope="session")
        def celery_config():
            return {"result_expires": 10}

        @pytest.fixture(scope="session")
        def celery_parameters():
            return {"name": "mine"}

        @pytest.fixture(scope="session")
        def celery_includes():
            return ["tasks"]

        @pytest.fixture(scope="session")
        def celery_class_tasks():
            return [Double]

        @pytest.fixture(scope="session")
        def celery_worker_parameters():
            return {"queues": ("celery", "high")}

        def test_create_task(celery_app, celery_worker):
            @celery_app.task
            def mul(x, y):
                return x * y

            celery_worker.reload()
            assert mul.delay(4, 4).get(timeout=10) == 16
            assert mul.apply_async((2, 2), queue="high").get(timeout=10) == 4

        def test_includes_and_class_tasks(celery_app, celery_worker):
            assert "tasks" in sys.modules
            assert celery_app.send_task("double", (3,)).get(timeout=10) == 6

        @pytest.mark.celery(result_expires=20, task_default_queue="high")
        def test_marked(celery_app, celery_worker):
            assert celery_app.conf.result_expires == 20
            assert celery_app.send_task("double", (3,)).get(timeout=10) == 6

        def test_unmarked(celery_app):
            assert celery_app.conf.result_expires == 10
            assert celery_app.conf.broker_url == "memory://"
            assert celery_app.main == "mine"

        def test_session_1(celery_session_app, celery_session_worker):
            celery_session_app.seen = celery_session_worker
            assert celery_session_app.send_task("double", (3,)).get(timeout=10) == 6

        def test_session_2(celery_session_app, celery_session_worker):
            assert celery_session_app.seen is celery_session_worker
            assert celery_session_worker._thread in threading.enumerate()
        """,
    )
    passed(project, 6)


@pytest.mark.follows("TESTH-01")
def test_the_apps_of_two_tests_have_nothing_in_common(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        @pytest.mark.parametrize("time", range(2))
        def test_apps(celery_app, time):
            assert "mine" not in celery_app.tasks
            celery_app.task(name="mine")(print)
            celery_app.send_task("mine")
            assert celery_app.broker.sizes()["celery"].ready == 1
        """)
    passed(project, 2)


@needs_current
@pytest.mark.follows("TESTH-01", "TESTH-04")
def test_the_current_app(project: pytest.Pytester) -> None:
    project.makepyfile("""
        from celeriac.current import get_current_app

        def test_others(celery_app):
            assert get_current_app() is not celery_app

        def test_depending(depends_on_current_app, celery_app):
            assert get_current_app() is celery_app

        def test_afterwards(celery_app):
            assert get_current_app() is not celery_app

        def test_session(celery_session_app):
            assert get_current_app() is celery_session_app
        """)
    passed(project, 4)


@needs_current
@pytest.mark.follows("TESTH-01", "TESTH-04")
def test_the_trap(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from celeriac.current import current_app

        @pytest.fixture(scope="session")
        def use_celery_app_trap():
            return True

        @pytest.mark.parametrize("time", range(2))
        def test_trapped(celery_app, time):
            celery_app.task(name="mine")(print).delay()
            with pytest.raises(RuntimeError, match="Test depends on current_app"):
                current_app.tasks
        """)
    passed(project, 2)


@pytest.mark.follows("TESTH-01")
def test_logging_is_enabled_for_those_who_want_it(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        @pytest.fixture(scope="session")
        def celery_enable_logging():
            return True

        @pytest.fixture(scope="session")
        def celery_worker_parameters():
            return {"loglevel": "INFO"}

        def test_logs(celery_app, celery_worker):
            celery_app.task(name="mine")(str).delay().get(timeout=10)
        """)
    passed(project, 1, "--capture=no").stderr.fnmatch_lines(["*Task mine*succeeded*"])


@pytest.mark.follows("TESTH-03")
def test_a_worker_that_fails_fails_its_test(project: pytest.Pytester) -> None:
    project.makepyfile("""
        from celeriac.exceptions import OperationalError

        def test_fails(celery_app, celery_worker):
            def breaks(*_):
                raise LookupError("it broke down")
            celery_worker.completer.step = breaks
            celery_app.send_task("celery.ping")
            celery_worker._thread.join(10)
        """)
    result = project.runpytest_subprocess("-q", "-p", "no:logging")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*LookupError: it broke down"])


@pytest.mark.follows("TESTH-03")
def test_a_worker_that_cannot_stop_does_not_hang_the_session(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import threading
        import pytest

        @pytest.fixture(scope="session")
        def celery_worker_parameters():
            return {"shutdown_timeout": 0.1}

        def test_hangs(celery_app, celery_worker):
            begun = threading.Event()

            @celery_app.task
            def hang():
                begun.set()
                threading.Event().wait(600)

            hang.delay()
            assert begun.wait(10)
        """)
    result = project.runpytest_subprocess("-q", timeout=30)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: the worker's thread has not come to its end*"])


@pytest.mark.follows("TESTH-08")
def test_no_worker_is_started_where_the_environment_says_so(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_WORKER", "1")
    project.makepyfile("""
        def test_without(celery_app, celery_worker, celery_session_worker):
            assert celery_worker is celery_session_worker is None
        """)
    passed(project, 1)


@pytest.mark.follows("TESTH-08")
def test_the_level_of_its_log_is_read_from_the_environment(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_LOGLEVEL", "debug")
    project.makepyfile("""
        import logging
        import pytest

        @pytest.fixture(scope="session")
        def celery_enable_logging():
            return True

        def test_level(celery_worker):
            assert logging.getLogger("celeriac").getEffectiveLevel() == logging.DEBUG
        """)
    passed(project, 1)


def test_the_inbox_of_a_project(project: pytest.Pytester) -> None:
    project.makeconftest(f"""
        import pytest
        pytest_plugins = [{PLUGIN!r}]

        @pytest.fixture
        def celeriac_app():
            from shop import app
            return app
        """)
    project.makepyfile(
        shop="""
        from celeriac import Celery

        app = Celery("shop", broker="redis://production.invalid/0")

        @app.task
        def remind(name):
            return f"dear {name}"
        """,
        test_shop="""
        from shop import remind

        def test_reminds_in_time(celeriac_inbox):
            result = remind.apply_async(("ada",), countdown=3600)
            celeriac_inbox.assert_enqueued(remind, ("ada",), countdown=3600)
            assert celeriac_inbox.run_pending() == []
            celeriac_inbox.advance(hours=1)
            assert result.get() == "dear ada"

        def test_fails(celeriac_inbox):
            remind.delay("ada")
            celeriac_inbox.assert_enqueued(remind, ("bob",))
        """,
    )
    result = project.runpytest_subprocess("-q")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       celeriac_inbox.assert_enqueued(remind, ("bob",))',
            "E       AssertionError: no such message is enqueued: shop.remind args=['bob']",
            "E       enqueued, the nearest first:",
            "E         shop.remind('ada') queue='celery'",
            "E             args is ['ada']",
        ]
    )
    assert "inbox.py" not in result.stdout.str()  # The test is shown, and nothing of ours.


def test_the_inbox_without_an_app_of_the_project(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        @pytest.mark.celery(task_default_queue="mine")
        def test_inbox(celeriac_inbox, celeriac_app, celery_app):
            assert celeriac_app is celery_app
            task = celery_app.task(name="task")(lambda: 5)
            task.delay()
            assert celeriac_inbox.assert_enqueued(task).queue == "mine"
            assert [ran.result for ran in celeriac_inbox.run_pending()] == [5]
        """)
    passed(project, 1)


@pytest.mark.follows("TESTH-01")
def test_the_marker_is_explained(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--markers")
    assert "@pytest.mark.celery(**settings): settings for the app" in result.stdout.str()


@pytest.mark.follows("TESTH-02")
def test_nothing_is_switched_on_by_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys

        def test_absent(request):
            assert "celeriac" not in sys.modules
            assert not request.config.pluginmanager.has_plugin("celeriac")
        """)
    passed(pytester, 1)
    result = pytester.runpytest_subprocess("--fixtures", "-q")
    assert "celery_app" not in result.stdout.str()


def test_the_helpers_do_without_pytest(pytester: pytest.Pytester) -> None:
    program = "import sys; sys.modules['pytest'] = None; import celeriac.testing"
    assert pytester.run(sys.executable, "-W", "error", "-c", program).ret == 0
