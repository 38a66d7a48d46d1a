"""The template: the program that imports the app once and forks every child.

Started by the parent with four descriptors: its control socket, the shared job socket, the slots,
its lifeline. It sends the manifest, then forks a child for each request and reports those that
ended. It has one thread, opens no connection, and runs no task.
"""

import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any

import msgspec

from celeriac import imports, log_setup, platforms, run_log, signals
from celeriac.app import Celery
from celeriac.app_spec import find_app
from celeriac.exceptions import AppNotFound, CeleriacError, ImproperlyConfigured, QueueNotFound
from celeriac.loaders import Loader
from celeriac.pools import packets
from celeriac.pools.child import Child, ChildConfig, hold_lifeline, main, set_up_logging
from celeriac.pools.manifest import AppFailed, Manifest, TaskOptions
from celeriac.pools.reaping import become_subreaper, reap_strangers
from celeriac.pools.slots import Slots
from celeriac.queues import worker_direct
from celeriac.settings import Settings
from celeriac.told import NodeName
from celeriac.wire import serializers

log = logging.getLogger("celeriac.pools")

STRANGERS = 10.0
"""Seconds between looks for dead processes that tasks left behind."""


class TemplateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent tells the template at its start."""

    spec: str
    """The value of ``-A``."""
    child: ChildConfig
    settings: dict[str, Any] = {}
    """Settings from the command line; they win over the app's."""
    options: dict[str, Any] = {}
    """What the command line says, for receivers of ``celeryd_init``."""
    include: tuple[str, ...] = ()
    """Modules to import beside those of the settings (``-I``)."""
    queues: tuple[str, ...] = ()
    """Queues to consume in place of all (``-Q``)."""
    exclude_queues: tuple[str, ...] = ()
    """Queues not to consume (``-X``)."""


class ForkRequest(msgspec.Struct, frozen=True, array_like=True):
    """Fork a child. Beside it: its stream, its lifeline, and for a spare child its job socket."""

    slot: int
    serial: int
    chores: bool = False


class Forked(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A child has begun. Beside it: its pidfd."""

    slot: int
    pid: int


class Exited(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A child has ended, with this wait status."""

    pid: int
    status: int


class ForkFailed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The system refused to fork."""

    slot: int
    error: str


Notice = Forked | Exited | ForkFailed
Hello = Manifest | AppFailed

_requests = msgspec.msgpack.Decoder(ForkRequest)
_encode = msgspec.msgpack.Encoder().encode


class Template:
    """Forks children on request and reaps them."""

    def __init__(
        self,
        app: Celery,
        config: TemplateConfig,
        control: socket.socket,
        jobs: socket.socket,
        slots: Slots,
        lifeline: int,
    ) -> None:
        self._app = app
        self._config = config
        self._control = control
        self._jobs = jobs
        self._slots = slots
        self._lifeline = lifeline
        self._children: dict[int, int] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Answer requests until the parent closes the control socket."""
        receiver = packets.Receiver(self._control)
        while True:
            for descriptor, _ in self._poll.poll(STRANGERS * 1000):
                if descriptor != self._control.fileno():
                    self._reap(descriptor)
                    continue
                packet = receiver.receive()
                if packet is None:
                    return
                self._fork(_requests.decode(packet[0]), packet[1])
            reap_strangers(self._children.values())

    def _fork(self, request: ForkRequest, descriptors: list[int]) -> None:
        stream, lifeline, *jobs = descriptors
        if signals.worker_before_create_process.receivers:
            signals.worker_before_create_process.send(self._app)
        refusal = ""
        try:
            pid = os.fork()
        except OSError as error:
            pid, refusal = -1, str(error)
        if pid == 0:
            self._become_child(request, stream, lifeline, jobs)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid < 0:
            packets.send(self._control, _encode(ForkFailed(request.slot, refusal)))
            return
        # As the child does itself: whoever comes first, it leads a group from here on.
        _lead_group(pid)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        packets.send(self._control, _encode(Forked(request.slot, pid)), [pidfd])

    def _become_child(
        self, request: ForkRequest, stream: int, lifeline: int, jobs: list[int]
    ) -> None:
        self._control.close()
        for descriptor in (self._lifeline, *self._children):
            os.close(descriptor)
        source = self._jobs
        if jobs:
            source.close()
            source = socket.socket(fileno=jobs[0])
        own = socket.socket(fileno=stream)
        child = Child(self._app, self._config.child, self._slots, request.slot, own)
        kind = "Spare" if request.chores else "ForkPoolWorker"
        name = f"{kind}-{request.serial}"
        main(child, name, source, own, lifeline, chores=request.chores)

    def _reap(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        packets.send(self._control, _encode(Exited(pid, status)))


def open_sockets() -> int:
    """Return how many sockets this process holds."""
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return sum(os.path.islink(link) and "socket:" in os.readlink(link) for link in links)


def _lead_group(pid: int) -> None:
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass  # It has done so, or it has ended already.


def build_manifest(app: Celery, threads: tuple[str, ...], sockets: int) -> Manifest:
    """Return what the parent must know of the app.

    Raises ImproperlyConfigured for results that cannot be written here, SecurityError where a
    superuser would unpickle what others send (SEC-04).
    """
    settings = app.settings
    accepted = serializers.accepted(settings.accept_content)
    if serializers.PICKLE in accepted:
        platforms.refuse_root()
    serializers.require(settings.result_serializer, "result_serializer")
    if settings.result_compression is not None:
        require = imports.load("celeriac.wire.compression:require")
        require(settings.result_compression, "result_compression")
    return Manifest(
        app=app.main,
        broker=app.connections.read_url,
        store=app.store_url,
        settings={name: getattr(settings, name) for name in PARENT_SETTINGS},
        tasks=tuple(task_options(app, name) for name in sorted(app.tasks)),
        queues=tuple(app.amqp.queues.consume_from),
        declared=tuple(app.amqp.queues.values()),
        receivers=wanted_signals(app),
        content_types=accepted,
        signing=serializers.signing_values(),
        threads=threads,
        sockets=sockets,
        deprecated=app.conf.deprecated,
        texts=run_log.texts(),
        levels=log_setup.levels(),
    )


def wanted_signals(app: Celery) -> frozenset[str]:
    """Return the signals that somebody wants to hear: receivers, or the loader's hooks."""
    wanted = {name for name, signal_ in signals.CATALOGUE.items() if signal_.receivers}
    if type(app.loader).on_worker_shutdown is not Loader.on_worker_shutdown:
        wanted.add("worker_shutdown")
    return frozenset(wanted)


PARENT_SETTINGS = (
    "accept_content",
    "broker_connection_max_retries",
    "broker_connection_retry",
    "broker_connection_retry_on_startup",
    "broker_failover_strategy",
    "broker_heartbeat",
    "broker_native_delayed_delivery_queue_type",
    "broker_timeout",
    "broker_transport_options",
    "broker_use_ssl",
    "redis_backend_use_ssl",
    "result_backend",
    "result_backend_transport_options",
    "result_compression",
    "result_expires",
    "result_extended",
    "result_persistent",
    "result_failure_expires",
    "result_serializer",
    "task_create_missing_queue_exchange_type",
    "task_create_missing_queue_type",
    "task_default_queue",
    "task_delivery_limit",
    "task_queue_max_priority",
    "task_unknown_ttl",
    "worker_concurrency",
    "worker_grace",
    "worker_hijack_root_logger",
    "worker_log_color",
    "worker_log_datefmt",
    "worker_log_format",
    "worker_log_style",
    "worker_prefetch_multiplier",
    "worker_task_log_datefmt",
    "worker_task_log_format",
)
"""What the parent reads of the settings: plain data, for it has no user code to make more of it."""


def task_options(app: Celery, name: str) -> TaskOptions:
    """Return what the parent must know of one task."""
    task, settings = app.tasks[name], app.settings
    mourned = bool(task.handlers & {"on_failure", "after_return"})

    def choice(value: Any, setting: Any) -> Any:
        return setting if value is None else value

    return TaskOptions(
        name=name,
        acks_late=choice(task.acks_late, settings.task_acks_late),
        acks_on_failure=task.acks_failure,
        acks_on_timeout=task.acks_overtime,
        reject_on_worker_lost=bool(
            choice(task.reject_on_worker_lost, settings.task_reject_on_worker_lost)
        ),
        retry_on_worker_lost=choice(task.retry_on_worker_lost, settings.task_retry_on_worker_lost),
        max_retries=task.max_retries,
        default_retry_delay=task.default_retry_delay,
        track_started=choice(task.track_started, settings.task_track_started),
        ignore_result=task.ignores_result,
        store_errors_even_if_ignored=task.stores_errors,
        time_limit=choice(task.time_limit, settings.task_time_limit),
        soft_time_limit=choice(task.soft_time_limit, settings.task_soft_time_limit),
        handlers=mourned or bool(signals.task_failure.receivers),
    )


def with_settings(child: ChildConfig, settings: Settings) -> ChildConfig:
    """Return the children's configuration: what the command line left open is as the app says."""
    return msgspec.structs.replace(
        child,
        max_tasks=child.max_tasks or settings.worker_max_tasks_per_child,
        max_memory=child.max_memory or settings.worker_max_memory_per_child,
    )


def load_app(config: TemplateConfig) -> Celery:
    """Import the app and everything it includes, and fire the signals of that moment."""
    app = find_app(config.spec)
    app.conf.update(config.settings)
    app.set_current()
    app.set_default()
    if config.include:
        app.conf.include = (*app.settings.include, *config.include)
    app.loader.init_worker()
    app.finalize()
    worker = NodeName(config.child.hostname, app)
    signals.celeryd_init.send(worker, instance=worker, conf=app.conf, options=config.options)
    choose_queues(app, config)
    signals.worker_init.send(worker)
    set_up_logging(app, config.child, "Template")
    # Its receivers may add queues, and are not overruled by the command line (ROUTE-17).
    signals.celeryd_after_setup.send(worker, instance=worker, conf=app.conf)
    if not app.amqp.queues.consume_from:
        raise ImproperlyConfigured(
            f"no queue is left to consume: -X excludes {', '.join(config.exclude_queues)}; name others "
            "with -Q"
        )
    return app


def choose_queues(app: Celery, config: TemplateConfig) -> None:
    """Let the worker consume what the command line says (ROUTE-11, ROUTE-13)."""
    queues = app.amqp.queues
    try:
        queues.select(config.queues)
    except QueueNotFound as error:
        raise ImproperlyConfigured(f"-Q {','.join(config.queues)}: {error}") from error
    queues.deselect(config.exclude_queues)
    if app.settings.worker_direct:
        queues.select_add(worker_direct(config.child.hostname))


def run(descriptors: list[int]) -> None:
    """Be the template, with the descriptors that the parent left open."""
    control_fd, jobs_fd, slots_fd, lifeline = descriptors
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    hold_lifeline(lifeline, group=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    packet = packets.Receiver(control).receive()
    if packet is None:
        return
    config = msgspec.msgpack.decode(packet[0], type=TemplateConfig)
    before = open_sockets()
    try:
        app = load_app(config)
        threads = tuple(t.name for t in threading.enumerate() if t is not threading.main_thread())
        manifest = build_manifest(app, threads, open_sockets() - before)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may raise anything
        packets.send(control, _encode_hello(app_failed(config.spec, error)))
        return
    config = msgspec.structs.replace(config, child=with_settings(config.child, app.settings))
    packets.send(control, _encode_hello(manifest))
    # Not app.close(), after which it were the current app of the children no more.
    app.connections.close()
    gc.collect()
    gc.freeze()
    become_subreaper()
    jobs = socket.socket(fileno=jobs_fd)
    Template(app, config, control, jobs, Slots(slots_fd), lifeline).serve()


def app_failed(spec: str, error: BaseException) -> AppFailed:
    """Return what to tell of an app that could not be loaded."""
    if isinstance(error, AppNotFound):
        return AppFailed(message=str(error))
    if isinstance(error, CeleriacError):
        return AppFailed(message=f"-A {spec}: {error}")
    text = "".join(traceback.format_exception(error))
    return AppFailed(message=f"-A {spec}: importing it raised {error!r}", traceback=text)


def _encode_hello(hello: Hello) -> bytes:
    kind = b"\1" if isinstance(hello, Manifest) else b"\0"
    return kind + _encode(hello)


def decode_hello(data: bytes) -> Hello:
    """Return the template's first message."""
    kind: type[Any] = Manifest if data[:1] == b"\1" else AppFailed
    return msgspec.msgpack.decode(data[1:], type=kind)  # type: ignore[no-any-return]


decode_notice = msgspec.msgpack.Decoder(Notice).decode

if __name__ == "__main__":
    run([int(argument) for argument in sys.argv[1:]])
