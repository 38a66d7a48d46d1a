"""service.py: threads with an orderly life."""

import threading

import pytest

from celeriac.service import Service


class Bell(Service):
    """Runs until it is stopped; counts its rounds."""

    name = "bell"

    def __init__(self, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.rounds = 0
        self.running = threading.Event()
        self._asked = threading.Event()

    def run(self) -> None:
        while not self.stopping:
            self.rounds += 1
            self.running.set()
            self._asked.wait()

    def wake(self) -> None:
        self._asked.set()


class Broken(Service):
    """Fails at once."""

    def run(self) -> None:
        raise LookupError("what it needs")


def test_it_runs_in_a_thread_of_its_name_until_it_is_stopped() -> None:
    bell = Bell()
    assert not bell.alive
    bell.start()
    assert bell.running.wait(10)
    assert bell.alive
    assert "bell" in [thread.name for thread in threading.enumerate() if thread.daemon]
    bell.stop()
    assert bell.join(10)
    assert not bell.alive
    assert bell.failure is None


def test_to_start_or_stop_twice_is_to_do_it_once() -> None:
    bell = Bell()
    bell.start()
    bell.start()
    assert bell.running.wait(10)
    bell.stop()
    bell.stop()
    assert bell.join(10)
    assert bell.rounds == 1


def test_what_was_stopped_before_it_began_never_runs() -> None:
    bell = Bell()
    bell.stop()
    bell.start()
    assert bell.join(0)
    assert bell.rounds == 0


def test_join_says_whether_the_thread_has_ended() -> None:
    bell = Bell()
    assert bell.join(0)
    bell.start()
    assert not bell.join(0)
    bell.stop()
    assert bell.join(10)


def test_a_failure_is_kept_and_its_owner_is_told() -> None:
    told: list[Service] = []
    broken = Broken(on_failure=told.append)
    broken.start()
    assert broken.join(10)
    assert told == [broken]
    assert isinstance(broken.failure, LookupError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_would_end_a_thread_silently_is_a_failure_too(error: BaseException) -> None:
    class Exits(Service):
        def run(self) -> None:
            raise error

    service = Exits()
    service.start()
    assert service.join(10)
    assert service.failure is error


def test_a_service_may_join_itself() -> None:
    joined: list[bool] = []

    class Joins(Service):
        def run(self) -> None:
            joined.append(self.join())

    service = Joins()
    service.start()
    assert service.join(10)
    assert joined == [False]
