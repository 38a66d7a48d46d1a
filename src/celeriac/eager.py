"""Eager runs: a task taken through all its steps here and now, without broker and worker.

The steps are those of ``execution``. Retries follow at once, whatever delay they ask for; links are
called as they would be by a worker. Results are kept in the returned ``EagerResult``, and in the
store only if ``task_store_eager_result`` says so (CALL-15 to CALL-17). Thread-safe.
"""

import os
from collections.abc import Mapping
from typing import Any, Protocol

from celeriac import execution
from celeriac.call_options import Arguments, Options, arguments, check_limits, listed
from celeriac.canvas.follow_up import eager_callbacks, eager_errbacks
from celeriac.completion import Put
from celeriac.context import Context, running
from celeriac.exceptions import Retry
from celeriac.message import Message
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import Job
from celeriac.result import EagerResult
from celeriac.results.base import ResultStore, task_key
from celeriac.run import Host as RunHost
from celeriac.run import Run
from celeriac.task import Task
from celeriac.task_ids import new_id
from celeriac.wire import task as wire


class Host(RunHost, Protocol):
    """What eager runs need of their app."""

    @property
    def store(self) -> ResultStore | None:
        """Where results are kept; None if they are disabled."""
        ...


class EagerPort:
    """A run's way out: documents go straight to the store, if anywhere."""

    def __init__(self, store: ResultStore | None) -> None:
        self.inside = False
        self.hostname = os.uname().nodename
        self._store = store

    def ask(self, number: int) -> bool:
        """Allow it: nobody else has this job."""
        return True

    def store(self, put: Put) -> None:
        """Store a document now."""
        if self._store is not None:
            self._store.put([put])


class Eager:
    """Runs tasks of one app in the calling thread."""

    def __init__(self, app: Host) -> None:
        self._app = app

    def call(
        self, task: Task[Any, Any], args: Arguments, kwargs: Mapping[str, Any], options: Options
    ) -> EagerResult[Any]:
        """Run a task in place of sending it, with arguments as they would arrive (CALL-15)."""
        check_limits(options)
        serializer = options.serializer or self._app.settings.task_serializer
        packed = wire.pack_body(args, kwargs, serializer=serializer)
        kind = packed.content_type
        body = wire.decode_body(
            packed.body, kind, packed.content_encoding, accept=frozenset((kind,))
        )
        return self.run(task, body.args, body.kwargs, options, None, in_place=True)

    def run(
        self,
        task: Task[Any, Any],
        args: Any,
        kwargs: Mapping[str, Any],
        options: Options,
        throw: bool | None,
        *,
        in_place: bool = False,
    ) -> EagerResult[Any]:
        """Run a task, again for each retry, and return the result of the last run (CALL-16).

        ``throw`` raises what the task raised; None leaves that to ``task_eager_propagates``.
        """
        throw = self._app.settings.task_eager_propagates if throw is None else throw
        task_id = options.task_id or new_id()
        while True:
            this = self._prepare(task, task_id, args, dict(kwargs), options)
            this.request.in_place = in_place
            outcome = execution.perform(this)
            error = this.error.exception if this.error is not None else None
            if error is not None and not isinstance(error, Exception):
                # Ctrl-C or sys.exit(): meant for the program, which runs the task itself.
                raise error
            self._keep(this, outcome)
            if isinstance(error, Retry) and isinstance(error.follow_up, tuple):
                args, kwargs, options = error.follow_up
                continue
            self._follow(this, outcome)
            if throw and error is not None and outcome.ending is Ending.FAILED:
                raise error
            value = this.value if error is None else error
            trace = this.error.traceback if this.error is not None else None
            return EagerResult(task_id, value, outcome.state, traceback=trace, name=task.name)

    def _prepare(
        self,
        task: Task[Any, Any],
        task_id: str,
        args: Any,
        kwargs: dict[str, Any],
        options: Options,
    ) -> Run:
        outer = running()
        stored = self._app.store if task.stores_eagerly else None
        port = EagerPort(stored)
        request = Context(
            id=task_id,
            task=task.name,
            args=args,
            kwargs=kwargs,
            retries=options.retries,
            root_id=outer.root_id or outer.id if outer is not None else task_id,
            parent_id=outer.id if outer is not None else None,
            hostname=port.hostname,
            callbacks=listed(options.link),
            errbacks=listed(options.link_error),
            headers=dict(options.headers or {}),
            timelimit=(options.time_limit, options.soft_time_limit),
            ignore_result=bool(options.ignore_result),
            shadow=options.shadow,
            group=options.group_id,
            group_index=options.group_index,
            delivery_info={
                "is_eager": True,
                "exchange": options.exchange,
                "routing_key": options.routing_key or options.queue,
                "priority": options.priority,
            },
            is_eager=True,
            called_directly=False,
            caller=outer,
            instance=task,
            port=port,
            again=_again,
        )
        message = Message(id=task_id, task=task.name, headers=b"{}", body=b"")
        tells = stored is not None and bool(
            self._app.settings.task_track_started
            if task.track_started is None
            else task.track_started
        )
        job = Job(0, message, "", tells=tells)
        keeps = stored is not None and not request.ignore_result
        return Run(self._app, self._app.settings, job, port, task, request, keeps)

    def _keep(self, this: Run, outcome: Outcome) -> None:
        if outcome.document:
            ttl = self._app.settings.result_expires
            key = task_key(this.job.message.id)
            this.port.store(Put(key, outcome.document, ttl, outcome.state))

    def _follow(self, this: Run, outcome: Outcome) -> None:
        """Call the links of a run that is over."""
        if outcome.ending is Ending.SUCCEEDED:
            eager_callbacks(self._app, this.request, this.value)
        elif outcome.ending in (Ending.FAILED, Ending.REJECTED) and this.error is not None:
            eager_errbacks(self._app, this.request, this.error.exception, this.error.traceback)


def _again(args: Any, kwargs: Mapping[str, Any], options: Options) -> Any:
    """Return the next run of a retry, for ``Eager.run`` to find."""
    return *arguments(args, kwargs), options
