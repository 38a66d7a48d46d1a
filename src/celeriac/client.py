"""The client: the one road out of a process, from a call to a published message.

It knows tasks only by what is given to it (name, arguments, options), so that everything that sends
(tasks, retries, ``send_task``, links) sends alike. Signals around publishing, and trying again, are
``publication``. Thread-safe; usable after a fork.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

import msgspec

from celeriac import clock, imports, publication, signals
from celeriac.brokers.base import Broker
from celeriac.call_options import (
    Moment,
    Options,
    check_limits,
    filled,
    listed,
)
from celeriac.context import Context, running
from celeriac.exceptions import NoWorkerSeenWarning
from celeriac.message import Message, Publish
from celeriac.results.base import ResultStore
from celeriac.routing.router import Router
from celeriac.settings import Settings
from celeriac.task_ids import new_id
from celeriac.wire import task as wire
from celeriac.wire.repr import saferepr

log = logging.getLogger("celeriac.client")

_WORKER_SEEN_WITHIN = 60.0
_NO_OPTIONS = Options()


class Client:
    """Composes messages and hands them to the broker."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        app_name: str,
        router: Router | None = None,
        *,
        warned: bool = False,
        replies: ResultStore | None = None,
    ) -> None:
        self.settings = settings
        """The snapshot that it was made under."""
        self.broker = broker
        self.warned = warned
        """Whether it has looked for workers, and need not do so again."""
        self._replies = replies
        """The store that has results sent, if there is such a one."""
        self._router = Router(settings) if router is None else router
        self._zone = zone(settings)
        self._app_name = app_name
        self._host = os.uname().nodename  # What the socket module says, without its 4 ms.
        self._pid = 0
        self._origin = ""

    # -- composing

    def compose(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> Publish:
        """Return the message for a call, routed and encoded. Sends nothing.

        Raises EncodeError for arguments that cannot be written, ValueError for limits or times that
        contradict each other, QueueNotFound if it leads to no queue.
        """
        route = self._router.find(options, name, args, kwargs)
        if route.options:
            options = filled(options, route.options)
        due = self._due(options)
        task_id = options.task_id or new_id()
        request = running()
        depth = self.settings.task_repr_maxlevels
        call = wire.Call(
            task=name,
            id=task_id,
            origin=self._sender(),
            argsrepr=options.argsrepr or saferepr(args, depth=depth),
            kwargsrepr=options.kwargsrepr or saferepr(kwargs, depth=depth),
            root_id=options.root_id or (request.root_id if request else None),
            parent_id=options.parent_id or (request.id if request else None),
            retries=options.retries,
            eta=None if due is None else clock.iso(due, self._zone),
            expires=None if options.expires is None else self._expiry(options.expires, task_id),
            time_limit=options.time_limit,
            soft_time_limit=options.soft_time_limit,
            ignore_result=options.ignore_result,
            group=options.group_id,
            group_index=options.group_index,
            shadow=options.shadow,
            replaced_task_nesting=options.replaced_task_nesting,
            extra=options.headers or {},
        )
        headers, body = self._written(call, args, kwargs, options)
        message = Message(
            id=task_id,
            task=name,
            headers=headers,
            body=body.body,
            content_type=body.content_type,
            content_encoding=body.content_encoding,
            priority=route.priority or 0,
            reply_to=options.reply_to
            or (None if self._replies is None else self._replies.reply_to),
        )
        return Publish(
            queue=route.queues[0] if route.queues else "",
            message=message,
            due=due,
            exchange=route.exchange,
            exchange_type=route.exchange_type,
            routing_key=route.routing_key,
            copies=route.queues[1:],
            delivery_mode=route.delivery_mode,
            broadcast=route.broadcast,
            declarations=route.declarations,
        )

    def _written(
        self, call: wire.Call, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> tuple[bytes, wire.Packed]:
        """Return headers and body of a message, in the serializer and the protocol that are wanted."""
        settings = self.settings
        serializer = options.serializer or settings.task_serializer
        compression = options.compression or settings.task_compression
        links = (
            listed(options.link) if options.link else None,
            listed(options.link_error) if options.link_error else None,
        )
        if settings.task_protocol == 1:
            encode_v1 = imports.load("celeriac.wire.protocol1:encode_v1")
            found: tuple[bytes, wire.Packed] = encode_v1(
                call,
                args,
                kwargs,
                *links,
                options.chord,
                serializer=serializer,
                compression=compression,
            )
            return found
        body = wire.pack_body(
            args,
            kwargs,
            *links,
            options.chain,
            options.chord,
            serializer=serializer,
            compression=compression,
        )
        if body.compression is not None:
            call = msgspec.structs.replace(call, compression=body.compression)
        return wire.encode_headers(call), body

    def _due(self, options: Options) -> float | None:
        check_limits(options)
        if options.countdown is not None:
            return clock.wall() + options.countdown
        return None if options.eta is None else self._moment(options.eta)

    def _expiry(self, expires: float | Moment, task_id: str) -> str:
        now = clock.wall()
        if isinstance(expires, int | float):
            expires = now + expires
        else:
            expires = self._moment(expires)
        if expires < now:
            log.warning(
                "task %s expired %.1f s before it is sent; it will not be run",
                task_id,
                now - expires,
            )
        return clock.iso(expires, self._zone)

    def _moment(self, moment: Moment) -> float:
        if isinstance(moment, str):
            return clock.parse_iso(moment, self._zone)
        return clock.unix(moment, self._zone)

    def _sender(self) -> str:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._origin = f"gen{self._pid}@{self._host}"
        return self._origin

    def announced(self, publish: Publish, options: Options = _NO_OPTIONS) -> Publish:
        """Return a message as receivers of before_task_publish have left it (CALL-18).

        For what ``send`` does not send, because it goes out together with an outcome.
        """
        if not signals.before_task_publish.receivers:
            return publish
        given = options.retry_policy or self.settings.task_publish_retry_policy
        return publication.announced(publish, given)

    # -- sending

    def send(self, publishes: Sequence[Publish], options: Options = _NO_OPTIONS) -> None:
        """Publish messages, all or none. Raises OperationalError within ``broker_timeout``.

        The options say whether and how it is tried again (CALL-06); else the settings do.
        """
        settings = self.settings
        given = options.retry_policy or settings.task_publish_retry_policy
        if signals.before_task_publish.receivers:
            publishes = [self.announced(publish, options) for publish in publishes]
        if not self.warned:
            # Before the message is out: where warnings are errors, an error then means "not sent".
            self.warned = True
            self._look_for_workers()
        began = clock.monotonic()
        try:
            self.broker.publish(publishes)
        except Exception as error:  # noqa: BLE001 - which errors count, the policy says
            retry = settings.task_publish_retry if options.retry is None else options.retry
            how = publication.policy(given) if retry else publication.NO_RETRY
            publication.try_again(
                self.broker, publishes, how, began + settings.broker_timeout, error
            )
        if signals.after_task_publish.receivers or signals.task_sent.receivers:
            for publish in publishes:
                publication.confirmed(publish)

    def note_child(self, task_id: str) -> None:
        """Remember a sent task in the run that sent it (CALL-12)."""
        note_child(task_id, running())

    def _look_for_workers(self) -> None:
        """Warn once if nobody is there to do the work (embedded files only)."""
        if not self.broker.url.startswith("sqlite:"):
            return
        seen = self.broker.worker_seen()
        if seen is None or clock.wall() - seen > _WORKER_SEEN_WITHIN:
            imports.warn(
                f"the task waits in {self.broker.location.removeprefix('sqlite:')}, where no worker has "
                f"been seen within a minute; start one with: celeriac -A {self._app_name} worker",
                NoWorkerSeenWarning,
            )


def note_child(task_id: str, request: Context | None) -> None:
    """Remember a sent task in a run, unless the task that runs leaves no trail (TASK-19)."""
    if request is not None and (request.instance is None or request.instance.trail):
        request.children.append([[task_id, None], None])


def zone(settings: Settings) -> tzinfo:
    """Return the zone of naive times (APP-30). Raises ValueError if nobody knows it.

    It is ``timezone``; without one UTC, or the zone of the machine if ``enable_utc`` is off.
    """
    name = settings.timezone
    if name is None and not settings.enable_utc:
        name = "local"
    if name is None or name.upper() == "UTC":
        return UTC
    found: tzinfo = imports.load("celeriac.zones:zone")(name)
    return found
