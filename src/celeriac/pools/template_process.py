"""The parent's hold on one template process: its start, its control socket, its end.

It carries messages and decides nothing; what follows from them is the nursery's business.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from time import monotonic

import msgspec

from celeriac.pools import packets
from celeriac.pools.manifest import AppFailed
from celeriac.pools.slots import Slots
from celeriac.pools.template import (
    ForkRequest,
    Hello,
    Notice,
    TemplateConfig,
    decode_hello,
    decode_notice,
)

_encode = msgspec.msgpack.Encoder().encode


class TemplateProcess:
    """One template, from its start to its end."""

    def __init__(self, config: TemplateConfig, jobs: socket.socket, slots: Slots) -> None:
        self.born = monotonic()
        self.ready = False
        """Whether it has loaded the app, and forks."""
        self.ended = False
        """Whether it is gone, and everything it said has been heard."""
        self._spec = config.spec
        self.control, theirs = packets.pair()
        self._receiver = packets.Receiver(self.control)
        lifeline_in, self._lifeline = os.pipe()
        self._process = _start([theirs.fileno(), jobs.fileno(), slots.descriptor, lifeline_in])
        self.pidfd = os.pidfd_open(self._process.pid)
        theirs.close()
        os.close(lifeline_in)
        try:
            packets.send(self.control, _encode(config))
        except OSError:
            pass  # It has ended already, as will be noticed.

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def hello(self) -> Hello:
        """Wait for what it says of the app."""
        packet = self._receiver.receive()
        if packet is None:
            spec = self._spec
            return AppFailed(message=f"-A {spec}: its process ended while importing it")
        return self._greeted(packet[0])

    def hear(self) -> tuple[Hello | Notice, list[int]] | None:
        """Return the next thing it has said, with descriptors; None if there is nothing now."""
        # Asked before the socket: what it said before its death is in there by then.
        gone = self._process.poll() is not None
        try:
            packet = self._receiver.receive(block=False)
        except BlockingIOError:
            self.ended = gone
            return None
        if packet is None:
            self.ended = True
            return None
        said = decode_notice(packet[0]) if self.ready else self._greeted(packet[0])
        return said, packet[1]

    def request(self, request: ForkRequest, descriptors: Sequence[int]) -> None:
        """Ask for a child."""
        try:
            packets.send(self.control, _encode(request), descriptors)
        except OSError:
            pass  # It has gone, as will be noticed.

    def kill(self) -> None:
        """Kill it, and wait until it is dead. What it has said can still be heard."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of descriptors, after its death."""
        self.control.close()
        os.close(self.pidfd)
        os.close(self._lifeline)

    def _greeted(self, data: bytes) -> Hello:
        hello = decode_hello(data)
        self.ready = not isinstance(hello, AppFailed)
        return hello


def _start(descriptors: list[int]) -> subprocess.Popen[bytes]:
    # Not -m: runpy would cost time, and load the module a second time under another name.
    program = f"from celeriac.pools.template import run; run({descriptors})"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    command = [sys.executable, *flags, "-c", program]
    return subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL)
