"""What surrounds handing messages to the broker: signals before and after, and trying again.

The broker's own calls have a deadline each; here all attempts together have one, so that whoever
publishes waits for ``broker_timeout`` seconds at most. What is published is made by ``client``.
"""

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import Any

import msgspec
from msgspec import Struct

from celeriac import signals
from celeriac.brokers.base import Broker
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.message import Publish
from celeriac.wire import json
from celeriac.wire import task as wire


class PublishPolicy(Struct, frozen=True, kw_only=True):
    """How publishing is tried again (CALL-06). Times are in seconds."""

    max_retries: int | None = 3
    """Attempts after the first; None leaves it to the deadline."""
    interval_start: float = 0
    """Pause before the first of them."""
    interval_step: float = 0.2
    """By how much each pause is longer than the one before."""
    interval_max: float = 1
    """The longest pause."""
    retry_errors: tuple[type[BaseException], ...] = ()
    """Exceptions beside OperationalError after which it is tried again (CALL-07)."""
    errback: Any = None
    """Called with the exception and the pause before each further attempt."""

    def pause(self, attempt: int) -> float:
        """Return the pause before this further attempt, counted from 0."""
        return min(self.interval_start + attempt * self.interval_step, self.interval_max)


NO_RETRY = PublishPolicy(max_retries=0)


def policy(given: Mapping[str, Any]) -> PublishPolicy:
    """Return the policy that a mapping describes. Raises ImproperlyConfigured."""
    unknown = given.keys() - set(PublishPolicy.__struct_fields__)
    if unknown:
        raise ImproperlyConfigured(
            f"a publish retry policy has no {', '.join(sorted(map(repr, unknown)))}; "
            f"it has {', '.join(PublishPolicy.__struct_fields__)}"
        )
    fields: dict[str, Any] = {k: v for k, v in given.items() if v is not None or k == "max_retries"}
    if "retry_errors" in fields:
        fields["retry_errors"] = tuple(fields["retry_errors"])
    return PublishPolicy(**fields)


def try_again(
    broker: Broker,
    publishes: Sequence[Publish],
    how: PublishPolicy,
    deadline: float,
    error: Exception,
) -> None:
    """Publish messages that could not be published, all or none, as often as the policy says.

    No attempt begins after ``deadline`` (monotonic seconds); ``error`` is what the first one raised.
    Raises what the last attempt raised.
    """
    attempt = 0
    while isinstance(error, (OperationalError, *how.retry_errors)):
        pause = how.pause(attempt)
        if how.max_retries is not None and attempt >= how.max_retries:
            break
        if monotonic() + pause >= deadline:
            break
        if how.errback is not None:
            how.errback(error, pause)
        sleep(pause)
        attempt += 1
        try:
            broker.publish(publishes)
        except Exception as another:  # noqa: BLE001 - looked at above
            error = another
        else:
            return
    raise error


def announced(publish: Publish, retry_policy: Mapping[str, Any]) -> Publish:
    """Let receivers of before_task_publish see and change a message (CALL-18).

    What they change in the arguments, headers and properties they are given takes effect.
    """
    message = publish.message
    headers = json.decode(message.headers)
    body = wire.decode_body(message.body)
    properties = {
        "correlation_id": message.id,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "priority": message.priority,
        "reply_to": message.reply_to,
        "delivery_mode": publish.delivery_mode,
    }
    signals.before_task_publish.send(
        message.task,
        body=(body.args, body.kwargs, body.embed),
        exchange=publish.exchange,
        routing_key=publish.routing_key or publish.queue,
        headers=headers,
        properties=properties,
        declare=[],
        retry_policy=dict(retry_policy),
    )
    changed = msgspec.structs.replace(
        message,
        headers=json.encode(headers, "headers"),
        body=wire.encode_body(body.args, body.kwargs, **body.embed),
        priority=properties["priority"] or 0,
        reply_to=properties["reply_to"],
    )
    return msgspec.structs.replace(publish, message=changed)


def confirmed(publish: Publish) -> None:
    """Tell that a message is out, to receivers of after_task_publish and of the old task_sent."""
    message = publish.message
    body = wire.decode_body(message.body)
    if signals.after_task_publish.receivers:
        signals.after_task_publish.send(
            message.task,
            body=(body.args, body.kwargs, body.embed),
            headers=json.decode(message.headers),
            exchange=publish.exchange,
            routing_key=publish.routing_key or publish.queue,
        )
    if signals.task_sent.receivers:
        headers = wire.decode_headers(message.headers)
        signals.task_sent.send(
            message.task,
            task_id=message.id,
            task=message.task,
            args=body.args,
            kwargs=body.kwargs,
            eta=headers.eta,
            taskset=headers.group,
        )
