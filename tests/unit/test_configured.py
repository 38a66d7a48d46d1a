"""configured.py, loaders.py, discovery.py: where settings and modules come from, and when."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celery, imports, log_setup, signals
from celeriac.discovery import related_modules
from celeriac.exceptions import ImproperlyConfigured
from celeriac.loaders import DefaultLoader, Loader
from celeriac.pools.child import ChildConfig
from celeriac.pools.template import TemplateConfig, load_app
from celeriac.routing import AMQP
from celeriac.settings.masking import censor
from tests.fixtures.packages import standing_in, write
from tests.fixtures.runs import memory_app, run_sent


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    with standing_in(home):
        yield home


@pytest.fixture(autouse=True)
def no_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals.import_modules, "receivers", ())


# -- when settings are read


@pytest.mark.follows("APP-05")
def test_a_named_source_is_imported_when_a_setting_is_read(folder: Path) -> None:
    write(folder, {"config.py": "task_default_queue = 'work'"})
    app = Celery("proj")
    app.config_from_object("config")
    app.conf.task_default_priority = 3
    assert "config" not in sys.modules
    assert not app.configured
    assert app.conf.task_default_queue == "work"
    assert "config" in sys.modules
    assert app.configured
    assert app.conf.task_default_priority == 3


@pytest.mark.follows("APP-05")
def test_it_may_be_imported_at_once(folder: Path) -> None:
    write(folder, {"config.py": "task_default_queue = 'work'"})
    app = Celery("proj")
    app.config_from_object("config", force=True)
    assert "config" in sys.modules


@pytest.mark.follows("APP-05")
def test_after_the_first_reading_another_source_counts_at_once(folder: Path) -> None:
    write(folder, {"config.py": "task_default_queue = 'work'"})
    app = Celery("proj")
    assert app.conf.task_default_queue == "celery"
    app.config_from_object("config")
    assert "config" in sys.modules
    assert app.conf.task_default_queue == "work"


@pytest.mark.follows("APP-05")
def test_a_source_may_import_who_asks_for_it(folder: Path) -> None:
    """The module of settings imports the module of the app, which reads a setting meanwhile."""
    write(
        folder,
        {
            "proj.py": """
                from celeriac import Celery
                app = Celery("proj", broker="memory://")
                app.config_from_object("config")
                @app.task
                def add(x, y): return x + y
            """,
            "config.py": """
                import proj
                seen = proj.app.conf.task_default_queue
                task_default_queue = "work"
            """,
        },
    )
    proj = imports.module("proj")
    assert proj.app.conf.task_default_queue == "work"
    assert sys.modules["config"].seen == "celery"


@pytest.mark.follows("APP-05")
def test_a_source_that_fails_fails_each_time(folder: Path) -> None:
    app = Celery("proj", config_source="nowhere")
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match="no 'nowhere' to read"):
            app.conf.task_default_queue  # noqa: B018
    write(folder, {"nowhere.py": "task_default_queue = 'work'"})
    assert app.conf.task_default_queue == "work"


@pytest.mark.follows("APP-05")
def test_a_file_name_is_no_module_name(folder: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"write .config., without \.py"):
        Celery("proj").config_from_object("config.py", force=True)


@pytest.mark.follows("APP-05")
def test_what_is_not_there_may_be_ignored(folder: Path) -> None:
    assert Celery("p", config_source="nowhere", config_source_silent=True).conf.task_protocol == 2


@pytest.mark.follows("APP-04")
def test_settings_are_attributes_and_keys(folder: Path) -> None:
    app = Celery("proj")
    app.conf.task_default_queue = "one"
    app.conf["task_default_priority"] = 4
    app.config_from_object({"task_default_queue": "two", "task_time_limit": 1})
    assert (app.conf["task_default_queue"], app.conf.task_default_priority) == ("one", 4)
    assert app.conf.task_time_limit == 1


@pytest.mark.follows("APP-06")
def test_a_variable_may_name_the_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"config.py": "task_default_queue = 'work'"})
    app = Celery("proj")
    with pytest.raises(ImproperlyConfigured, match="MY_CONFIG is not set; set it to the module"):
        app.config_from_envvar("MY_CONFIG")
    assert app.config_from_envvar("MY_CONFIG", silent=True) is False
    monkeypatch.setenv("MY_CONFIG", "config")
    assert app.config_from_envvar("MY_CONFIG") is True
    assert app.conf.task_default_queue == "work"


@pytest.mark.follows("APP-34")
def test_the_default_variable_is_read_by_every_app(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, {"config.py": "task_default_queue = 'work'"})
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "config")
    assert Celery("proj").conf.task_default_queue == "work"
    assert Celery("p", config_source={"task_default_queue": "x"}).conf.task_default_queue == "x"


@pytest.mark.follows("APP-07")
@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("worker.prefetch_multiplier=1", "worker_prefetch_multiplier", 1),
        ("TASK_ALWAYS_EAGER=true", "task_always_eager", True),
        ('broker.transport_options=(json){"lease": 5}', "broker_transport_options", {"lease": 5}),
        ("task.default_queue=(string)7", "task_default_queue", "7"),
        ("task.time_limit=(float)1.5", "task_time_limit", 1.5),
        ("task.default_priority=(int)3", "task_default_priority", 3),
        ("task.track_started=(bool)yes", "task_track_started", True),
        ('accept_content=(list)["json"]', "accept_content", ("json",)),
        (".prefetch_multiplier=2", "worker_prefetch_multiplier", 2),
    ],
)
def test_words_are_settings(word: str, name: str, value: Any) -> None:
    app = Celery("proj")
    app.config_from_cmdline([word], namespace="worker")
    assert app.conf[name] == value


@pytest.mark.follows("APP-07")
@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("worker", "'worker' sets nothing; write name=value"),
        ("task.time_limit=(int)x", "invalid literal"),
        ("task.time_limit=(json)[", "cannot read JSON"),
        ("task.time_limit=(what)1", "no type 'what'; types are bool, dict, float"),
        ("task.tim_limit=1", "did you mean 'task_time_limit'"),
    ],
)
def test_words_that_set_nothing_are_told(word: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=text):
        Celery("proj").config_from_cmdline([word])


@pytest.mark.follows("APP-12")
def test_defaults_count_least(folder: Path) -> None:
    app = Celery("proj", task_default_queue="given")
    app.add_defaults({"task_default_queue": "least", "task_time_limit": 1})
    called: list[int] = []

    @app.add_defaults
    def more() -> dict[str, Any]:
        called.append(1)
        return {"task_time_limit": 2, "task_track_started": True}

    assert called == []
    assert (app.conf.task_default_queue, app.conf.task_time_limit) == ("given", 1)
    assert app.conf.task_track_started is True
    app.add_defaults(lambda: {"task_soft_time_limit": 5})
    assert app.conf.task_soft_time_limit == 5
    assert called == [1]


@pytest.mark.follows("APP-29")
def test_reading_is_told_before_and_after(folder: Path) -> None:
    write(folder, {"config.py": "task_default_queue = 'work'"})
    app = Celery("proj")
    app.config_from_object("config")
    heard: list[Any] = []

    @app.on_configure.connect
    def before(sender: Celery, **_: Any) -> None:
        heard.append(("before", sender.conf.task_default_queue))

    @app.on_after_configure.connect
    def after(sender: Celery, source: Any, **_: Any) -> None:
        heard.append(("after", source.task_default_queue))

    app.conf.task_protocol  # noqa: B018
    app.conf.task_protocol  # noqa: B018
    assert heard == [("before", "celery"), ("after", "work")]


@pytest.mark.follows("APP-29")
def test_a_subclass_may_do_so_by_a_method() -> None:
    class Own(Celery):
        def on_configure(self) -> None:
            self.conf.task_default_queue = "own"

        def on_init(self) -> None:
            self.began = True

    app = Own("proj")
    assert app.began
    assert app.conf.task_default_queue == "own"


@pytest.mark.follows("APP-11")
def test_views_of_settings_hide_secrets() -> None:
    app = Celery("p", broker="redis://:secret@host/0", result_expires=5)
    table = app.conf.table()
    assert table["broker_url"] == "redis://:**@host/0"
    assert app.conf.table(with_defaults=True)["security_key"] is None
    assert censor("security_key", "/key.pem") == "********"
    assert table["result_expires"] == 5
    assert "task_protocol" not in table
    assert app.conf.table(with_defaults=True)["task_protocol"] == 2
    assert app.conf.table(censored=False)["broker_url"] == "redis://:secret@host/0"
    text = app.conf.humanize()
    assert "secret" not in text
    assert "result_expires: 5" in text
    assert app.conf.get_by_parts("task", "protocol") == 2
    assert app.conf.find_value_for_key("protocol", "task") == 2
    assert app.conf.without_defaults()["result_expires"] == 5


# -- loaders


class Noting(Loader):
    """A loader that notes when its hooks are called."""

    heard: list[Any] = []

    def on_task_init(self, task_id: str, task: Any) -> None:
        self.heard.append(("task", task_id, task.name))

    def on_process_cleanup(self) -> None:
        self.heard.append("cleanup")

    def on_worker_init(self) -> None:
        self.heard.append(("worker", sorted(self.app.tasks)))  # type: ignore[attr-defined]

    def read_configuration(self) -> Any:
        return {"task_default_queue": "from_loader"}


@pytest.mark.follows("APP-34")
def test_a_loader_of_ones_own_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Noting, "heard", [])
    app = memory_app(loader=Noting, task_default_queue="celery")
    assert Celery("p", loader=f"{__name__}:Noting").conf.task_default_queue == "from_loader"
    add = app.task(name="sums.add")(lambda: None)
    run_sent(app, lambda: add.apply_async(task_id="one"))
    assert Noting.heard == [("task", "one", "sums.add"), "cleanup"]
    app.loader.init_worker()
    app.loader.init_worker()
    assert Noting.heard[2:] == [("worker", ["sums.add"])]


@pytest.mark.follows("APP-34")
def test_loaders_have_short_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(Celery("p", loader="default").loader) is DefaultLoader
    monkeypatch.setenv("CELERY_LOADER", f"{__name__}:Noting")
    assert type(Celery("p").loader) is Noting
    with pytest.raises(ImproperlyConfigured, match=r"nowhere\.Loader' cannot be imported"):
        Celery("p", loader="nowhere.Loader")


# -- modules


@pytest.mark.follows("APP-18")
def test_modules_with_tasks_are_found(folder: Path) -> None:
    write(folder, {"shop/tasks.py": "", "shop/jobs.py": "", "shop/apps.py": "", "bare/x.py": ""})
    names = lambda *args: [module.__name__ for module in related_modules(*args)]  # noqa: E731
    assert names(["shop", "bare"]) == ["shop.tasks"]
    assert names(lambda: ["shop"], "jobs") == ["shop.jobs"]
    assert names(["shop", "bare"], None) == ["shop", "bare"]
    assert names(["shop.apps.ShopConfig"]) == []
    assert names(["shop.Config"]) == ["shop.tasks"]
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        names(["nowhere"])


@pytest.mark.follows("APP-18")
def test_what_a_module_misses_is_told(folder: Path) -> None:
    write(folder, {"shop/tasks.py": "import no_such_driver"})
    with pytest.raises(ModuleNotFoundError, match="no_such_driver"):
        related_modules(["shop"])


@pytest.mark.follows("APP-18", "APP-19", "SIG-07")
def test_a_worker_finds_all_modules(folder: Path) -> None:
    write(
        folder,
        {
            "proj.py": """
                from celeriac import Celery
                app = Celery("proj", include=["included"])
                app.conf.imports = ["imported"]
                app.autodiscover_tasks(lambda: ["shop"])
                app.autodiscover_tasks(["shop"], related_name="jobs")
            """,
            "included.py": """
                from celeriac import shared_task
                from proj import app
                @app.task
                def one(): pass
            """,
            "imported.py": "from proj import app\n@app.task\ndef two(): pass",
            "named.py": "from proj import app\n@app.task\ndef five(): pass",
            "shop/tasks.py": "from proj import app\n@app.task\ndef three(): pass",
            "shop/jobs.py": "from proj import app\n@app.task\ndef four(): pass",
        },
    )
    try:
        config = TemplateConfig(
            spec="proj", child=ChildConfig(hostname="w1@host"), include=("named",)
        )
        app = load_app(config)
    finally:
        log_setup.undo()
    found = ["imported.two", "included.one", "named.five", "shop.jobs.four", "shop.tasks.three"]
    assert sorted(app.tasks) == found
    assert app.loader.task_modules == {"included", "imported", "named", "shop.tasks", "shop.jobs"}


@pytest.mark.follows("APP-18")
def test_modules_may_be_found_at_once(folder: Path) -> None:
    write(
        folder,
        {"shop/tasks.py": "from celeriac import current_app\n@current_app.task\ndef one(): 1"},
    )
    app = Celery("proj")
    app.autodiscover_tasks(["shop"], force=True)
    assert sorted(app.tasks) == ["shop.tasks.one"]


@pytest.mark.follows("APP-01", "APP-18")
def test_fixups_are_made_and_asked_for_packages(folder: Path) -> None:
    write(folder, {"shop/tasks.py": ""})

    class Fixup:
        def __init__(self, app: Celery) -> None:
            self.app = app

        def autodiscover_tasks(self) -> list[str]:
            return ["shop"]

    app = Celery("proj", fixups=[Fixup])
    app.autodiscover_tasks(force=True)
    assert app.loader.task_modules == {"shop.tasks"}
    assert app.fixups[0].app is app


@pytest.mark.follows("APP-23", "APP-01")
def test_parts_of_an_app_may_be_of_ones_own_class() -> None:
    class OwnLog:
        def __init__(self, app: Celery) -> None:
            self.app = app

    class OwnQueues(AMQP):
        """Queues of one's own."""

    app = Celery("proj", log=OwnLog, amqp=OwnQueues, broker="memory://", backend="memory://")
    assert type(app.log) is OwnLog
    assert app.log.app is app
    assert type(app.amqp) is OwnQueues

    class OwnApp(Celery):
        log_cls = f"{__name__}:Noting"
        amqp_cls = OwnQueues

    assert isinstance(OwnApp("x").log, Noting)
    assert isinstance(OwnApp("x").amqp, OwnQueues)
    plain = memory_app()
    assert plain.log is plain.log
    assert plain.backend is plain.backend
