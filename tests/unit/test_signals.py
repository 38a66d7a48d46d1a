"""signals.py: who hears a signal, in what order, and what becomes of errors (SIG-01 to SIG-08)."""

import gc
import logging
import sys
import threading
from functools import partial
from typing import Any

import pytest

from celeriac import signals
from celeriac.signals import Signal

REFERENCE = {
    "before_task_publish", "after_task_publish", "task_received", "task_prerun", "task_postrun",
    "task_success", "task_retry", "task_failure", "task_internal_error", "task_revoked",
    "task_rejected", "task_unknown", "task_sent", "celeryd_init", "celeryd_after_setup",
    "import_modules", "worker_init", "worker_before_create_process", "worker_process_init",
    "worker_process_shutdown", "worker_ready", "worker_shutdown", "worker_shutting_down",
    "heartbeat_sent", "setup_logging", "after_setup_logger", "after_setup_task_logger",
    "beat_init", "beat_embedded_init", "eventlet_pool_started", "eventlet_pool_preshutdown",
    "eventlet_pool_postshutdown", "eventlet_pool_apply", "user_preload_options",
}  # fmt: skip


class Ears:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def listen(self, **arguments: Any) -> str:
        self.heard.append(arguments)
        return "heard"

    def __call__(self, **arguments: Any) -> str:
        return self.listen(**arguments)


@pytest.fixture
def bell() -> Signal:
    return Signal("bell")


def test_a_receiver_hears_signal_sender_and_arguments(bell: Signal) -> None:
    ears = Ears()
    bell.connect(ears.listen)
    answers = bell.send("church", hour=3)
    assert ears.heard == [{"signal": bell, "sender": "church", "hour": 3}]
    assert answers == [(ears.listen, "heard")]


@pytest.mark.follows("SIG-01")
def test_connect_is_a_decorator_with_and_without_arguments(bell: Signal) -> None:
    heard = []

    @bell.connect
    def anybody(sender: str, **_: Any) -> None:
        heard.append(("anybody", sender))

    @bell.connect(sender="church")
    def church_only(sender: str, **_: Any) -> None:
        heard.append(("church only", sender))

    bell.send("church")
    bell.send("school")
    assert heard == [("anybody", "church"), ("church only", "church"), ("anybody", "school")]
    assert callable(anybody)
    assert callable(church_only)


def test_receivers_are_called_in_the_order_in_which_they_came(bell: Signal) -> None:
    heard: list[int] = []
    receivers = [lambda number=number, **_: heard.append(number) for number in range(5)]
    for receiver in receivers:
        bell.connect(receiver)
    bell.send(None)
    assert heard == [0, 1, 2, 3, 4]


@pytest.mark.follows("SIG-01")
def test_a_sender_is_compared_by_identity_or_equality(bell: Signal) -> None:
    ears = Ears()
    bell.connect(ears.listen, sender="worker-1@host")
    bell.send("".join(["worker-1", "@host"]))
    assert len(ears.heard) == 1


@pytest.mark.follows("SIG-01")
def test_weak_receivers_vanish(bell: Signal) -> None:
    ears, kept = Ears(), Ears()
    bell.connect(ears.listen)
    bell.connect(kept.listen)
    del ears
    gc.collect()
    assert len(bell.send(None)) == 1
    bell.connect(Ears(), weak=False)
    assert len(bell.receivers) == 2, "the dead one is cleared away"


def test_a_method_of_a_builtin_may_listen(bell: Signal) -> None:
    heard: dict[str, Any] = {}
    listen = heard.update
    bell.connect(listen)
    bell.send("church", hour=3)
    assert heard == {"signal": bell, "sender": "church", "hour": 3}


def test_strong_receivers_stay(bell: Signal) -> None:
    heard: list[str] = []
    bell.connect(lambda sender, **_: heard.append(sender), weak=False)
    gc.collect()
    bell.send("church")
    assert heard == ["church"]


def test_a_receiver_is_registered_once_for_a_sender(bell: Signal) -> None:
    ears = Ears()
    bell.connect(ears.listen)
    bell.connect(ears.listen)
    bell.connect(ears.listen, sender="church")
    bell.send("church")
    assert len(ears.heard) == 2


@pytest.mark.follows("SIG-01")
def test_a_dispatch_uid_is_registered_once(bell: Signal) -> None:
    first, second = Ears(), Ears()
    for ears in (first, second):
        bell.connect(ears.listen, dispatch_uid="the one")
        bell.connect(ears.listen, dispatch_uid="the one", sender="".join(["chur", "ch"]))
    bell.send("church")
    assert (len(first.heard), len(second.heard)) == (2, 0)


@pytest.mark.follows("SIG-01")
def test_disconnect_says_whether_it_was_there(bell: Signal) -> None:
    ears = Ears()
    bell.connect(ears.listen)
    assert not bell.disconnect(ears.listen, sender="church")
    assert bell.disconnect(ears.listen)
    assert not bell.disconnect(ears.listen)
    assert bell.send(None) == []
    assert not bell.receivers


def test_disconnect_by_dispatch_uid(bell: Signal) -> None:
    ears = Ears()
    bell.connect(ears.listen, dispatch_uid=7)
    assert not bell.disconnect(dispatch_uid=8)
    assert bell.disconnect(dispatch_uid=7)


@pytest.mark.follows("SIG-02")
def test_an_error_is_logged_and_keeps_nobody_else_from_hearing(
    bell: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    ears = Ears()
    error = ValueError("deaf")

    def deaf(**_: Any) -> None:
        raise error

    bell.connect(deaf)
    bell.connect(ears.listen)
    with caplog.at_level(logging.ERROR, "celeriac.signals"):
        answers = bell.send("church")
    assert answers == [(deaf, error), (ears.listen, "heard")]
    (record,) = caplog.records
    assert "signal bell failed" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.follows("SIG-07")
def test_import_modules_passes_errors_on() -> None:
    def broken(**_: Any) -> None:
        raise ValueError("no")

    signals.import_modules.connect(broken)
    try:
        with pytest.raises(ValueError, match="no"):
            signals.import_modules.send(None)
    finally:
        signals.import_modules.disconnect(broken)


@pytest.mark.follows("SIG-08")
def test_a_receiver_may_disconnect_itself_while_it_hears(bell: Signal) -> None:
    heard: list[str] = []

    def once(**_: Any) -> None:
        heard.append("once")
        bell.disconnect(once)

    def always(**_: Any) -> None:
        heard.append("always")

    bell.connect(once)
    bell.connect(always)
    bell.send(None)
    bell.send(None)
    assert heard == ["once", "always", "always"]


def _takes_hour(hour: int = 0) -> None: ...


class _Method:
    def takes_nothing(self) -> None: ...

    def takes_all(self, **_: Any) -> None: ...


@pytest.mark.parametrize(
    "receiver",
    [_takes_hour, lambda sender: None, _Method().takes_nothing],
    ids=["function", "lambda", "method"],
)
def test_a_receiver_must_take_any_keyword(bell: Signal, receiver: Any) -> None:
    with pytest.raises(ValueError, match=r"of signal bell must take any keyword .*\*\*kwargs"):
        bell.connect(receiver)
    assert not bell.receivers


@pytest.mark.parametrize(
    "receiver", [Ears(), Ears().listen, partial(Ears().listen, x=1), dict, _Method().takes_all]
)
def test_any_callable_that_takes_all_keywords_may_listen(bell: Signal, receiver: Any) -> None:
    bell.connect(receiver, weak=False)
    (answer,) = bell.send(None)
    assert not isinstance(answer[1], Exception)


def test_no_registration_is_lost_among_threads(bell: Signal) -> None:
    ears = [Ears() for _ in range(400)]
    gate = threading.Barrier(4)
    # So that threads change places within a registration, too.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def connect(some: list[Ears]) -> None:
        gate.wait()
        for one in some:
            bell.connect(one)

    threads = [threading.Thread(target=connect, args=(ears[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert len(bell.send(None)) == 400


def test_a_signal_says_its_name_and_how_many_listen(bell: Signal) -> None:
    assert repr(bell) == "<Signal bell: 0 receivers>"


@pytest.mark.follows("SIG-03")
def test_the_catalogue_has_celerys_names() -> None:
    assert len(REFERENCE) == 34
    assert signals.CATALOGUE.keys() == REFERENCE
    assert all(signal.name == name for name, signal in signals.CATALOGUE.items())
    assert all(getattr(signals, name) is signal for name, signal in signals.CATALOGUE.items())


@pytest.mark.follows("SIG-01")
def test_a_signal_of_the_users_own() -> None:
    mine = Signal(providing_args=["hour"], use_caching=True, name="mine")
    assert (mine.name, mine.providing_args) == ("mine", {"hour"})
    ears = Ears()
    Signal().connect(ears.listen)
    mine.connect(ears.listen, "church", False)
    assert mine.send_robust("church", hour=3) == [(ears.listen, "heard")]
    assert Signal().name is None


@pytest.mark.follows("SIG-01")
def test_who_listens(bell: Signal) -> None:
    assert not bell.has_listeners()
    ears = Ears()
    bell.connect(ears.listen, sender="church")
    assert bell.has_listeners()
    assert bell.has_listeners("church")
    assert not bell.has_listeners("school")
    [(_, target)] = bell.receivers
    assert target() == ears.listen
    bell.receivers = []  # type: ignore[assignment]
    assert not bell.has_listeners()
    assert bell.send("church") == []
    del ears


class Later:
    """A task that is made when somebody looks into it."""

    def __init__(self, real: object) -> None:
        self.real = real
        self.made = 0

    def _get_current_object(self) -> object:
        self.made += 1
        return self.real

    def __eq__(self, other: object) -> bool:
        raise AssertionError("senders are compared by identity")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.follows("SIG-01")
def test_a_sender_may_be_made_later(bell: Signal) -> None:
    ears, real = Ears(), object()
    later = Later(real)
    bell.connect(ears.listen, sender=later)
    assert later.made == 0, "to connect makes nothing"
    bell.send(real)
    bell.send(Later(real))
    bell.send(object())
    assert len(ears.heard) == 2
    bell.connect(ears.listen, sender=real)
    assert len(bell.receivers) == 1
    assert bell.disconnect(ears.listen, sender=real)


def test_equal_senders_that_are_not_names_are_two(bell: Signal) -> None:
    ears = Ears()
    bell.connect(ears.listen, sender=[1])
    bell.send([1])
    assert ears.heard == []


@pytest.mark.follows("SIG-01")
def test_a_receiver_is_called_until_it_succeeds(
    bell: Signal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[int] = []
    monkeypatch.setattr(signals, "sleep", pauses.append)

    class Deaf:
        def listen(self, hour: int, **_: Any) -> str:
            if len(pauses) < 16:
                raise ConnectionError(f"no line at {hour}")
            return "heard"

    deaf = Deaf()
    listen = bell.connect(deaf.listen, retry=True)
    reference = deaf
    del deaf
    gc.collect()
    assert bell.send("church", hour=3) == [(listen, "heard")]
    assert pauses == [*range(2, 30, 2), 30, 30]
    assert "of signal bell failed and is called again in 2 s: ConnectionError('no line at 3')" in (
        caplog.text
    )
    assert bell.disconnect(reference.listen)


@pytest.mark.follows("SIG-01")
def test_a_persistent_receiver_is_never_weak(bell: Signal) -> None:
    ears = Ears()
    bell.connect(Ears().listen, retry=True)
    bell.connect(ears.listen)
    del ears
    gc.collect()
    assert len(bell.send(None)) == 1
