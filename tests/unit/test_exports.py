"""What is public: names that ``celeriac`` and its modules promise, and that they keep."""

import inspect
import pkgutil
import types
from importlib import import_module
from pathlib import Path

import pytest

import celeriac
from celeriac import exceptions, signals, states

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(celeriac.__path__, "celeriac.")
    if module.name != "celeriac.__main__"
)

LIKE_CELERY = {
    "celeriac": "AsyncResult Celery Task",
    "celeriac.app": "Celery",
    "celeriac.result": "AsyncResult EagerResult ResultBase result_from_tuple allow_join_result "
    "denied_join_result assert_will_not_block",
    "celeriac.abortable": "AbortableTask AbortableAsyncResult ABORTED",
    "celeriac.states": "PENDING STARTED RETRY SUCCESS FAILURE REVOKED READY_STATES ALL_STATES",
    "celeriac.signals": "task_prerun task_postrun task_failure worker_process_init",
    "celeriac.exceptions": "Ignore ImproperlyConfigured IncompleteStream MaxRetriesExceededError "
    "NotRegistered Reject Retry SoftTimeLimitExceeded TaskRevokedError TimeLimitExceeded TimeoutError "
    "WorkerLostError",
}
"""Where people look for names, by the names of Celery's own modules."""


def public(module: types.ModuleType) -> set[str]:
    """Return the names in a module that are neither private nor modules."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def test_the_package_promises_what_it_holds() -> None:
    assert set(celeriac.__all__) == public(celeriac) | {"__version__"}
    assert celeriac.__all__ == sorted(celeriac.__all__)


def test_the_package_has_a_version_and_types() -> None:
    assert [part.isdigit() for part in celeriac.__version__.split(".")] == [True] * 3
    assert (Path(celeriac.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("module", LIKE_CELERY)
def test_names_are_where_people_look_for_them(module: str) -> None:
    held = import_module(module)
    assert [name for name in LIKE_CELERY[module].split() if not hasattr(held, name)] == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_what_it_promises(name: str) -> None:
    module = import_module(name)
    promised = getattr(module, "__all__", [])
    assert [one for one in promised if not hasattr(module, one)] == []
    assert len(promised) == len(set(promised))


def test_every_exception_is_public() -> None:
    defined = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert set(exceptions.__all__) == defined


def test_every_exception_is_in_the_drawing() -> None:
    assert exceptions.__doc__ is not None
    drawn = exceptions.__doc__.replace("RemoteTraceback", "")
    missing = [name for name in exceptions.__all__ if name not in drawn]
    assert missing == ["RemoteTraceback"], "which stands beside the tree"


def test_every_error_of_ours_is_caught_by_one_name() -> None:
    beside = {"RemoteTraceback"}
    for name in set(exceptions.__all__) - beside:
        kind = getattr(exceptions, name)
        root = exceptions.CeleriacWarning if issubclass(kind, Warning) else exceptions.CeleriacError
        assert issubclass(kind, root), name


def test_states_are_what_they_are_called() -> None:
    for name in states.ALL_STATES:
        assert getattr(states, name) == name
    assert states.READY_STATES.isdisjoint(states.UNREADY_STATES)
    assert states.PROPAGATE_STATES <= states.EXCEPTION_STATES


def test_signals_are_what_they_are_called() -> None:
    assert all(getattr(signals, name).name == name for name in signals.CATALOGUE)
