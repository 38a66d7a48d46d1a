"""The broker on a Redis server, as its clients see it. The worker's side is ``consumer.py``.

A ready message that needs nothing special is one LPUSH, as it is with Celery. What survives what is
told by the server's own settings; see the documentation (brokers).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celeriac.brokers.base import LEASE, Broker, is_selected
from celeriac.brokers.redis import envelope
from celeriac.brokers.redis.bindings import declarations, resolved
from celeriac.brokers.redis.consumer import PUBLISH, RedisConsumer
from celeriac.brokers.redis.posting import Posting, scripted
from celeriac.message import (
    ALL_DEAD,
    DeadLetter,
    DeadSelection,
    Publish,
    QueueSize,
)
from celeriac.queues import Queue
from celeriac.redis.address import addresses
from celeriac.redis.link import Argument, Command, Link
from celeriac.redis.scripts import Script, script

PURGE = script("held", "entries", "empty", "purge")
RELEASE = script("held", "entries", "later", "release")
REVIVE = script("held", "entries", "send", "revive")

PAGE = 200
"""Dead letters, or entries of ``unacked``, that are read in one round trip."""


class RedisBroker(Broker):
    """Queues on a Redis server."""

    routes = True

    def __init__(
        self, url: str, timeout: float = 5.0, options: Mapping[str, Any] | None = None
    ) -> None:
        options = options or {}
        self._link = Link(addresses(url, timeout, options))
        self._posting = Posting(options, self._link.address.db)
        self._keys = self._posting.keys
        self._scripted = scripted(self._keys)
        self._known: set[str] = set()
        self._declared: set[Queue] = set()
        self.url = self._link.urls

    @property
    def location(self) -> str:
        """Identity of the server."""
        return f"redis:{self._link.server}"

    def publish(self, publishes: Sequence[Publish]) -> None:
        if (lane := self._one_lane(publishes)) is not None:
            # The usual case, and one command: all or none of it is done, too.
            self._link.call("LPUSH", lane, *map(self._posting.ordinary, publishes))
            return
        if any(publish.declarations for publish in publishes):
            publishes = self._reply(publishes)
            self._declare(publishes)
        publishes = resolved(self._link, self._keys, publishes)
        if publishes:
            self._run(PUBLISH, *self._posting.sent(publishes))
            # The script has told the server the names of these queues.
            self._known.update(publish.queue for publish in publishes if publish.queue)

    def _reply(self, publishes: Sequence[Publish]) -> list[Publish]:
        """Send what goes to queues that end by themselves; return the others.

        Such a list is deleted when nobody has touched it for that long: its reader may be gone.
        """
        rest: list[Publish] = []
        commands: list[Command] = []
        for publish in publishes:
            if (life := _life(publish)) is None:
                rest.append(publish)
                continue
            lane = self._keys.lane(publish.queue, 0)
            commands.append(("LPUSH", lane, self._posting.ordinary(publish)))
            commands.append(("PEXPIRE", lane, round(life * 1000)))
        self._link.pipeline(commands)
        return rest

    def _declare(self, publishes: Iterable[Publish]) -> None:
        """Have the server know what senders say of bindings, once."""
        said = {queue for publish in publishes for queue in publish.declarations}
        new = [q for q in said if q not in self._declared and q.name and not q.broadcast]
        self._link.pipeline([one for queue in new for one in declarations(self._keys, queue)])
        self._declared.update(new)

    def _one_lane(self, publishes: Sequence[Publish]) -> str | None:
        """Return the list that all of these messages go to, ready and without a word beside it."""
        for publish in publishes:
            if publish.due is not None or publish.message.priority or publish.copies:
                return None
            if publish.declarations:
                return None
            if publish.queue != publishes[0].queue or publish.exchange:
                return None
        queue = publishes[0].queue if publishes else ""
        return self._keys.lane(queue, 0) if queue in self._known else None

    def _run(self, which: Script, *arguments: Argument) -> Any:
        return self._link.run(which, self._scripted.keys, (*self._scripted.first, *arguments))

    def consumer(
        self, queues: Sequence[str], *, lease: float = LEASE, turns: bool = True
    ) -> RedisConsumer:
        declared = [self.declaration(name) for name in queues]
        return RedisConsumer(self._link, self._posting, declared, lease, turns=turns)

    # -- what is where

    def sizes(self) -> dict[str, QueueSize]:
        queues = sorted(name.decode() for name in self._link.call("SMEMBERS", self._keys.queues))
        questions = {queue: self._questions(queue) for queue in queues}
        # One step: what moves between the answers would be seen twice, or nowhere.
        answers = self._link.transaction(
            [
                ("ZRANGE", self._keys.leases, 0, -1),
                ("ZRANGE", self._keys.unacked_index, 0, -1),
                *(question for some in questions.values() for question in some),
            ]
        )
        leased = self._leased(*answers[:2])
        sizes: dict[str, QueueSize] = {}
        at = 2
        for queue, some in questions.items():
            sizes[queue] = _size(answers[at : at + len(some)], leased.pop(queue, 0))
            at += len(some)
        sizes |= {queue: QueueSize(leased=count) for queue, count in leased.items()}
        return {queue: sizes[queue] for queue in sorted(sizes) if sizes[queue] != QueueSize()}

    def _questions(self, queue: str) -> list[Command]:
        """Return what is asked about a queue."""
        keys = self._keys
        return [
            *(("LLEN", key) for key in keys.lanes(queue)),
            ("ZCARD", keys.express(queue)),
            ("ZCARD", keys.delayed(queue)),
            ("HVALS", keys.unknown(queue)),
        ]

    def _leased(self, leases: Sequence[bytes], tags: Sequence[bytes]) -> dict[str, int]:
        """Return how many messages of each queue are in the hands of workers, Celery's included."""
        counts: dict[str, int] = {}
        theirs = [tag for tag in tags if tag.count(b":") < 3]
        names = [receipt.decode().split(":", 3)[3] for receipt in leases]
        for n in range(0, len(theirs), PAGE):
            entries = self._link.call("HMGET", self._keys.unacked, *theirs[n : n + PAGE])
            names += [
                back[2] for entry in entries if entry and (back := envelope.redelivered(entry))
            ]
        for name in names:
            counts[name] = counts.get(name, 0) + 1
        return counts

    def purge(self, queue: str) -> int:
        total, more = 0, 1
        while more:
            count, more = self._run(PURGE, queue, *self._keys.steps)
            total += count
        return total

    def release(self, queue: str) -> int:
        total = 0
        while moved := self._run(RELEASE, queue):
            total += moved
        return total

    def worker_seen(self) -> float | None:
        newest = self._link.call("ZRANGE", self._keys.workers, -1, -1, "WITHSCORES")
        return float(newest[1]) if newest else None

    # -- dead letters

    def dead(self, limit: int = 100, which: DeadSelection = ALL_DEAD) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        for page in self._pages(newest_first=True):
            found = (self._letter(number, row) for number, row in page)
            letters += [letter for letter in found if is_selected(letter, which)]
            if len(letters) >= limit:
                break
        return letters[:limit]

    def revive(self, which: DeadSelection) -> int:
        return self._exhume(which, revive=True)

    def delete_dead(self, which: DeadSelection) -> int:
        return self._exhume(which, revive=False)

    def _exhume(self, which: DeadSelection, *, revive: bool) -> int:
        count = 0
        for page in self._pages(newest_first=False):
            for number, row in page:
                letter = self._letter(number, row)
                if is_selected(letter, which):
                    count += self._run(REVIVE, letter.id, *(self._again(letter) if revive else ()))
        return count

    def _again(self, letter: DeadLetter) -> Sequence[Argument]:
        """Return what is sent in place of a dead letter: the message as if it were new."""
        if not letter.message.headers:
            # It is no envelope; as it came it goes back.
            return "list", letter.queue, "0", "", letter.message.body, "", ""
        return self._posting.sent([Publish(queue=letter.queue, message=letter.message)])

    def _pages(self, *, newest_first: bool) -> Iterable[list[tuple[str, dict[str, bytes]]]]:
        """Yield the dead letters that are there now, as they lie on the server."""
        order = "ZREVRANGE" if newest_first else "ZRANGE"
        numbers = [n.decode() for n in self._link.call(order, self._keys.dead, 0, -1)]
        for n in range(0, len(numbers), PAGE):
            some = numbers[n : n + PAGE]
            rows = self._link.pipeline([("HGETALL", self._keys.letter(one)) for one in some])
            fields = [{k.decode(): v for k, v in zip(r[::2], r[1::2], strict=True)} for r in rows]
            yield [(one, row) for one, row in zip(some, fields, strict=True) if row]

    def _letter(self, number: str, row: Mapping[str, bytes]) -> DeadLetter:
        message, fate = envelope.read(row["envelope"], self._posting.turned)
        return DeadLetter(
            id=number,
            message=message,
            queue=row["queue"].decode(),
            reason=row["reason"].decode(),
            died=float(row["died"]),
            losses=fate.losses,
        )

    def close(self) -> None:
        self._link.close()


def _life(publish: Publish) -> float | None:
    """Return the seconds after which the queue of a message ends by itself; None if it does not."""
    for queue in publish.declarations:
        if queue.name == publish.queue and queue.private:
            return queue.expires
    return None


def _size(answers: Sequence[Any], leased: int) -> QueueSize:
    """Return the size of a queue from what was answered about it."""
    *lengths, express, delayed, unknown = answers
    tasks = [name.decode() for name in unknown]
    return QueueSize(
        ready=sum(lengths) + express,
        delayed=delayed,
        leased=leased,
        unknown={name: tasks.count(name) for name in sorted(set(tasks))},
    )
