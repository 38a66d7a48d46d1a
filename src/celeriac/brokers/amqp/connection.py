"""pika's connection and channel, with what they lack: awaitable calls, raw properties, gets in a row.

The only module that touches what pika does not document; a test pins each use. Properties stay
bytes in both directions: they are written and read elsewhere (``properties``), by whoever has the
time, and not by the thread that serves the connection.
"""

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

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

T = TypeVar("T")

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_READ = 128 * 1024
PREFETCH = 1
"""Unsettled messages that a subscription may have."""
_SMALLEST = 8
"""Bytes of a frame beside what is in it."""
_GET_OK = 71
_CONTENTS = (struct.pack(">HH", 60, _GET_OK), struct.pack(">HH", 60, 60))
"""How the methods begin that a message follows: what was got, and what was delivered."""
_TAG = struct.Struct(">Q?")
_PUBLISH = struct.pack(">HHH", 60, 40, 0)
"""Class, method, and a field that is not used."""
_MANDATORY, _AS_MAY_BE = b"\1", b"\0"
_CONTENT = struct.Struct(">BHIHHQ")
_FRAME = struct.Struct(">BHI")


class Outgoing(Struct, frozen=True):
    """A message on its way to the server."""

    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    mandatory: bool = True
    """It comes back if no queue takes it."""


class Arrival(Struct, frozen=True):
    """A message that came from the server, unread."""

    queue: str
    tag: int
    """Its delivery tag: the first of a channel is 1."""
    redelivered: bool
    properties: bytes
    body: bytes


class _Asked:
    """Messages that were asked for."""

    def __init__(self, queue: str, number: int, each: Callable[[Arrival], None]) -> None:
        self.queue = queue
        self.missing = number
        self.each = each
        self.follow = 0
        self.reply: Reply[int] = Reply()


class Connection(pika.SelectConnection):
    """A connection whose channels are of the kind below."""

    if TYPE_CHECKING:
        # What pika has and does not document.
        bytes_received: int
        _body_max_length: int
        _frame_buffer: bytes
        _channels: dict[int, "Channel"]

        def _process_frame(self, frame_value: Any) -> None: ...

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

    def widen(self) -> None:
        """Read more at once than pika does, which goes round for every 4 KiB."""
        transport: Any = getattr(self, "_transport", None)
        if hasattr(transport, "_MAX_RECV_BYTES"):
            transport._MAX_RECV_BYTES = _READ

    def perish(self, error: Exception) -> None:
        """Tell the channels that it is over, when no loop is left to do so."""
        for channel in list(self._channels.values()):
            channel._on_close_meta(error)

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

    def _on_data_available(self, data_in: bytes) -> None:
        """Take in what the server has sent: messages here, everything else by pika's own way.

        Three frames of a message become one value at once; pika would make six objects of them.
        """
        if not self.is_open:
            pika_itself: Any = super()
            pika_itself._on_data_available(data_in)
            return
        data = self._frame_buffer + data_in if self._frame_buffer else data_in
        offset, size = 0, len(data)
        while size - offset >= _SMALLEST:
            kind, number, length = _FRAME.unpack_from(data, offset)
            end = offset + length + _SMALLEST
            if end > size:
                break
            follows = 0
            if kind == _METHOD and data[offset + 7 : offset + 11] in _CONTENTS:
                channel = self._channels.get(number)
                follows = channel.take(data, offset + 7, end, size) if channel is not None else 0
            if not follows:
                follows = end
                self._process_frame(_decoded(data[offset:end]))
                if self.is_closed:
                    return
            self.bytes_received += follows - offset
            offset = follows
        self._frame_buffer = data[offset:]

    def _read_frame(self) -> Any:
        """Read one frame while the connection is being opened or closed."""
        consumed, value = frame.decode_frame(self._frame_buffer)
        return consumed, value


def _decoded(data: bytes) -> Any:
    """Return one whole frame as pika's, but with the properties in a content header left alone."""
    if data[0] != _HEADER:
        return frame.decode_frame(data)[1]
    _, number, _ = _FRAME.unpack_from(data)
    (size,) = struct.unpack_from(">Q", data, 11)
    properties: Any = data[19:-1]
    return frame.Header(number, size, properties)


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
        self._ending: dict[str, Reply[Any]] = {}
        """Subscriptions whose end the server has not confirmed yet."""
        self._tags = count(1)
        self._gets: deque[_Asked] = deque()
        self.add_on_close_callback(self._closed)

    def ask(self, method: str, **arguments: Any) -> Reply[Any]:
        """Call a method of pika's that takes a callback; the reply is what that is called with."""
        reply: Reply[Any] = self._awaited(Reply())
        getattr(self, method)(callback=reply.set, **arguments)
        return reply

    def _awaited(self, reply: Reply[T]) -> Reply[T]:
        """Have a reply fail when the channel closes."""
        self._asked.add(reply)
        reply.then(lambda: self._asked.discard(reply))
        return reply

    async def confirm(self, confirmed: Callable[[Any], None]) -> None:
        """Have the server confirm what is published; each confirm is handed to ``confirmed``."""
        reply: Reply[Any] = self._awaited(Reply())
        self.confirm_delivery(confirmed, callback=reply.set)
        await reply

    def _check_open(self) -> None:
        if not self.is_open:
            raise ChannelWrongStateError("the channel is closed")

    # -- publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, in one go."""
        self._check_open()
        number, most = self.channel_number, self.line.largest_body
        frames: list[bytes] = []
        for one in messages:
            exchange, key = one.exchange.encode(), one.routing_key.encode()
            name = bytes((len(exchange),)) + exchange + bytes((len(key),)) + key
            method = _PUBLISH + name + (_MANDATORY if one.mandatory else _AS_MAY_BE)
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

    def get(self, queue: str, number: int, each: Callable[[Arrival], None]) -> Reply[int]:
        """Ask for ``number`` messages at once; each that there is is handed over as it comes.

        The reply is how many follow the last of them.
        """
        self._check_open()
        one = frame.Method(self.channel_number, spec.Basic.Get(queue=queue)).marshal()
        asked = _Asked(queue, number, each)
        # The server answers in order: what comes belongs to the first that still misses something.
        self._gets.append(asked)
        self.line.send([one] * number)
        return self._awaited(asked.reply)

    async def get_all(self, queue: str, most: int | None = None) -> list[Arrival]:
        """Return the messages that there are now, or ``most`` of them; what comes later is left alone."""
        got: list[Arrival] = []
        follow = await self.get(queue, 1, got.append)
        if more := follow if most is None else min(follow, most - 1):
            await self.get(queue, more, got.append)
        return got

    async def subscribe(self, queue: str) -> str:
        """Have one message of a queue sent, and the next when that is settled; return the tag."""
        await self.settled()
        tag = f"celeriac.{self.channel_number}.{next(self._tags)}"
        self._subscriptions[tag] = queue
        await self.ask(
            "basic_consume", queue=queue, on_message_callback=_not_called, consumer_tag=tag
        )
        return tag

    def unsubscribe(self, tag: str) -> Reply[Any]:
        """End a subscription. What comes before the server has read this is handed on as usual."""
        reply = self._ending[tag] = self._awaited(Reply())
        # pika would call what is given here at the end of any subscription of the channel.
        self.basic_cancel(consumer_tag=tag, callback=_not_called)
        return reply

    def _on_cancelok(self, method_frame: Any) -> None:
        super()._on_cancelok(method_frame)  # type: ignore[misc]
        tag = method_frame.method.consumer_tag
        self._subscriptions.pop(tag, None)
        if (reply := self._ending.pop(tag, None)) is not None:
            reply.set(method_frame)

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
        return self.settled()

    def settled(self) -> Reply[Any]:
        """Answered when the server has heard of all that was settled: it answers in order."""
        return self.ask("basic_qos", prefetch_count=PREFETCH)

    if TYPE_CHECKING:

        def _on_close_meta(self, reason: Exception | None) -> None: ...

    def take(self, data: bytes, start: int, end: int, size: int) -> int:
        """Take the message whose method is at ``start``; return where it ends, 0 if not all is there.

        What is cut off goes by pika's way, which puts it together piece by piece.
        """
        if size - end < _CONTENT.size:
            return 0
        _, _, length, _, _, body_size = _CONTENT.unpack_from(data, end)
        body = end + length + _SMALLEST
        last: int = body + body_size + (_SMALLEST if body_size else 0)
        if last > size or data[last - 1] != _END[0]:
            return 0
        if body_size and _FRAME.unpack_from(data, body)[2] != body_size:
            return 0
        properties = data[end + 19 : body - 1]
        content = data[body + 7 : last - 1] if body_size else b""
        if data[start + 3] == _GET_OK:
            tag, redelivered = _TAG.unpack_from(data, start + 4)
            (left,) = struct.unpack_from(">I", data, end - 5)
            self._got_one(tag, redelivered, properties, content, left)
        else:
            place = start + 5 + data[start + 4]
            subscription = data[start + 5 : place].decode()
            tag, redelivered = _TAG.unpack_from(data, place)
            self._delivered(subscription, tag, redelivered, properties, content)
        return last

    def _on_deliver(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        one = method_frame.method
        properties = header_frame.properties
        self._delivered(one.consumer_tag, one.delivery_tag, one.redelivered, properties, body)

    def _delivered(
        self, subscription: str, tag: int, redelivered: bool, properties: bytes, body: bytes
    ) -> None:
        self.unsettled[tag] = None
        queue = self._subscriptions[subscription]
        self.on_message(Arrival(queue, tag, redelivered, properties, body))

    def _on_getok(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        one = method_frame.method
        properties = header_frame.properties
        self._got_one(one.delivery_tag, one.redelivered, properties, body, one.message_count)

    def _got_one(
        self, tag: int, redelivered: bool, properties: bytes, body: bytes, left: int
    ) -> None:
        self.unsettled[tag] = None
        asked = self._gets[0]
        asked.follow = left
        asked.each(Arrival(asked.queue, tag, redelivered, properties, body))
        self._answered()

    def _on_getempty(self, method_frame: Any) -> None:
        self._gets[0].follow = 0
        self._answered()

    def _answered(self) -> None:
        asked = self._gets[0]
        asked.missing -= 1
        if not asked.missing:
            self._gets.popleft()
            asked.reply.set(asked.follow)

    def _on_return(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        method = method_frame.method
        self.on_return(method.exchange, method.routing_key, header_frame.properties)

    def _closed(self, _: Any, reason: Exception) -> None:
        asked, self._asked = self._asked, set()
        for reply in asked:
            reply.fail(reason)


def _not_called(*_: Any) -> None:
    """Stand in for pika's own dispatch of messages, which is not used."""
