"""pika's connection and channel, with what they lack: awaitable calls, raw properties, gets in a row.

The only module that touches what pika does not document; a test pins each use. Properties stay
bytes in both directions: they are written and read elsewhere (``properties``), by whoever has the
time, and not by the thread that serves the connection.
"""

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import pika
import pika.channel
from msgspec import Struct
from pika import frame, spec
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ChannelWrongStateError,
    ConnectionWrongStateError,
    StreamLostError,
)

from celeriac.brokers.amqp.replies import Reply

__all__ = ["AMQPError", "Arrival", "Channel", "ChannelClosedByBroker", "Connection", "Outgoing"]

_HEADER, _BODY, _END = 2, 3, b"\xce"
_PUBLISH = struct.pack(">HHH", 60, 40, 0)
"""Class, method, and a field that is not used."""
_MANDATORY = b"\1"
_CONTENT = struct.Struct(">BHIHHQ")
_FRAME = struct.Struct(">BHI")


class Outgoing(Struct, frozen=True):
    """A message on its way to the server."""

    exchange: str
    routing_key: str
    properties: bytes
    body: bytes


class Arrival(Struct, frozen=True):
    """A message that came from the server, unread."""

    queue: str
    tag: int
    """Its delivery tag: the first of a channel is 1."""
    redelivered: bool
    properties: bytes
    body: bytes


class Connection(pika.SelectConnection):
    """A connection whose channels are of the kind below."""

    if TYPE_CHECKING:
        # What pika has and does not document.
        bytes_received: int
        _body_max_length: int
        _frame_buffer: bytes

        def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None: ...
        def _terminate_stream(self, error: Exception | None) -> None: ...

    async def open(self) -> "Channel":
        """Return a new channel."""
        reply: Reply[Channel] = Reply()
        channel = self.channel(on_open_callback=reply.set)
        channel.add_on_close_callback(lambda _, reason: reply.fail(reason))
        return await reply

    def abort(self, why: str) -> None:
        """Throw the connection away, without a word to a server that does not answer."""
        self._terminate_stream(StreamLostError(why))

    def let_go(self) -> None:
        """Close this process's copy of an inherited socket; the connection goes on elsewhere."""
        transport = getattr(self, "_transport", None)
        inherited = getattr(transport, "_sock", None)
        if inherited is not None:
            os.close(inherited.detach())

    def send(self, frames: Sequence[bytes]) -> None:
        """Send whole frames."""
        if not self.is_open:
            raise ConnectionWrongStateError("the connection is closed")
        self._output_marshaled_frames([b"".join(frames)])

    @property
    def received(self) -> int:
        """How many bytes have come so far."""
        return self.bytes_received

    @property
    def largest_body(self) -> int:
        """Bytes of a body that go into one frame."""
        return self._body_max_length

    def _create_channel(
        self, channel_number: int, on_open_callback: Callable[[Any], Any] | None
    ) -> "Channel":
        return Channel(self, channel_number, on_open_callback)

    def _read_frame(self) -> Any:
        """Read one frame as pika does, but leave the properties in a content header alone."""
        data = self._frame_buffer
        if data[:1] != b"\2" or len(data) < 7:
            return frame.decode_frame(self._frame_buffer)
        _, channel, size = _FRAME.unpack_from(data)
        end = 8 + size
        if len(data) < end or data[end - 1 : end] != _END:
            return frame.decode_frame(self._frame_buffer)
        (body_size,) = struct.unpack_from(">Q", data, 11)
        properties: Any = data[19 : end - 1]
        return end, frame.Header(channel, body_size, properties)


class Channel(pika.channel.Channel):
    """A channel. Messages that arrive are handed to ``on_message``."""

    def __init__(self, connection: Connection, number: int, opened: Any) -> None:
        super().__init__(connection, number, opened)
        self.line = connection
        self.on_message: Callable[[Arrival], None] = lambda _: None
        """Called with what comes for a subscription."""
        self.on_return: Callable[[str, str, bytes], None] = lambda *_: None
        """Called with exchange, routing key and properties of what nobody takes."""
        self.unsettled: dict[int, None] = {}
        """The tags of what has come and is not settled, in their order, which is that of arrival."""
        self._asked: set[Reply[Any]] = set()
        self._subscriptions: dict[str, str] = {}
        self._tags = count(1)
        self._got: list[tuple[Arrival, int]] = []
        self._getting = 0
        self._got_all: Reply[list[tuple[Arrival, int]]] = Reply()
        self._get_queue = ""
        self.add_on_close_callback(self._closed)

    def ask(self, method: str, **arguments: Any) -> Reply[Any]:
        """Call a method of pika's that takes a callback; the reply is what that is called with."""
        reply: Reply[Any] = Reply()
        self._asked.add(reply)
        reply.then(lambda: self._asked.discard(reply))
        getattr(self, method)(callback=reply.set, **arguments)
        return reply

    async def confirm(self, confirmed: Callable[[Any], None]) -> None:
        """Have the server confirm what is published; each confirm is handed to ``confirmed``."""
        reply: Reply[Any] = Reply()
        self._asked.add(reply)
        self.confirm_delivery(confirmed, callback=reply.set)
        await reply
        self._asked.discard(reply)

    def _check_open(self) -> None:
        if not self.is_open:
            raise ChannelWrongStateError("the channel is closed")

    # -- publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, in one go. Each must be taken by a queue, or it is returned."""
        self._check_open()
        number, most = self.channel_number, self.line.largest_body
        frames: list[bytes] = []
        for one in messages:
            exchange, key = one.exchange.encode(), one.routing_key.encode()
            name = bytes((len(exchange),)) + exchange + bytes((len(key),)) + key
            method = _PUBLISH + name + _MANDATORY
            frames += (_FRAME.pack(1, number, len(method)), method, _END)
            size = len(one.properties) + 12
            frames += (
                _CONTENT.pack(_HEADER, number, size, 60, 0, len(one.body)),
                one.properties,
                _END,
            )
            for start in range(0, len(one.body), most):
                part = one.body[start : start + most]
                frames += (_FRAME.pack(_BODY, number, len(part)), part, _END)
        self.line.send(frames)

    # -- receiving

    def get(self, queue: str, number: int) -> Reply[list[tuple[Arrival, int]]]:
        """Ask for ``number`` messages at once. The reply has those there were, with how many followed.

        One such call at a time.
        """
        self._check_open()
        method = spec.Basic.Get(queue=queue)
        one = frame.Method(self.channel_number, method).marshal()
        self._got, self._getting, self._get_queue = [], number, queue
        reply: Reply[list[tuple[Arrival, int]]] = Reply()
        self._got_all = reply
        self._asked.add(reply)
        reply.then(lambda: self._asked.discard(reply))
        self.line.send([one] * number)
        return reply

    async def subscribe(self, queue: str, prefetch: int) -> str:
        """Have at most ``prefetch`` unsettled messages of a queue sent; return the consumer tag."""
        await self.ask("basic_qos", prefetch_count=prefetch)
        tag = f"celeriac.{self.channel_number}.{next(self._tags)}"
        self._subscriptions[tag] = queue
        await self.ask(
            "basic_consume", queue=queue, on_message_callback=_not_called, consumer_tag=tag
        )
        return tag

    def unsubscribe(self, tag: str) -> Reply[Any]:
        """End a subscription. What comes before the server has read this is handed on as usual."""
        reply = self.ask("basic_cancel", consumer_tag=tag)
        reply.then(lambda: self._forget(tag))
        return reply

    def _forget(self, tag: str) -> None:
        self._subscriptions.pop(tag, None)

    def ack(self, tags: Iterable[int]) -> None:
        """Settle messages for good, in as few words as may be."""
        gone, last = set(tags), 0
        for tag in self.unsettled:
            if tag not in gone:
                break
            last = tag
        if last:
            # All up to here, since nothing before it is left.
            self.basic_ack(last, multiple=True)
        for tag in gone:
            if tag in self.unsettled:
                del self.unsettled[tag]
                if tag > last:
                    self.basic_ack(tag)

    def give_back(self, tags: Iterable[int]) -> Reply[Any]:
        """Put messages back where they were taken from; the reply comes when that is done."""
        for tag in tags:
            if tag in self.unsettled:
                del self.unsettled[tag]
                self.basic_nack(tag, requeue=True)
        # The server answers in order, so by then it has heard of all of them.
        return self.ask("basic_qos", prefetch_count=1)

    def _on_deliver(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        method = method_frame.method
        queue = self._subscriptions[method.consumer_tag]
        tag, redelivered = method.delivery_tag, method.redelivered
        self.unsettled[tag] = None
        self.on_message(Arrival(queue, tag, redelivered, header_frame.properties, body))

    def _on_getok(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        method = method_frame.method
        tag, redelivered = method.delivery_tag, method.redelivered
        self.unsettled[tag] = None
        arrival = Arrival(self._get_queue, tag, redelivered, header_frame.properties, body)
        self._got.append((arrival, method.message_count))
        self._got_one()

    def _on_getempty(self, method_frame: Any) -> None:
        self._got_one()

    def _got_one(self) -> None:
        self._getting -= 1
        if self._getting == 0:
            self._got_all.set(self._got)

    def _on_return(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        method = method_frame.method
        self.on_return(method.exchange, method.routing_key, header_frame.properties)

    def _closed(self, _: Any, reason: Exception) -> None:
        asked, self._asked = self._asked, set()
        for reply in asked:
            reply.fail(reason)


def _not_called(*_: Any) -> None:
    """Stand in for pika's own dispatch of messages, which is not used."""
