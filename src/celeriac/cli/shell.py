"""``celeriac shell``: an interactive Python with the app and its tasks at hand.

IPython and bpython are used if they are installed; neither is needed.
"""

import code
import sys
from collections.abc import Callable
from typing import Any

import click

import celeriac
from celeriac.app import Celery
from celeriac.cli.options import app_option, load_whole
from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings import masked_url

Names = dict[str, Any]
Shell = Callable[[Names, str], None]

CANVAS = ("signature", "chain", "group", "chord", "chunks", "xmap", "xstarmap")
"""What is put beside the app, if this version has it."""


def _refused(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Refuse to patch the process that late: what is imported already would stay as it is."""
    if not value:
        return value
    if param.name == "eventlet":
        raise click.UsageError(
            "--eventlet: Celeriac does not support eventlet, whose makers advise to leave it; "
            "see gevent or asyncio",
            ctx,
        )
    raise click.UsageError(
        "--gevent: to patch now would be too late for what is imported already; patch before all "
        f"else: python -m gevent.monkey {sys.argv[0]} shell",
        ctx,
    )


@click.command()
@app_option
@click.option("-I", "--ipython", "kind", flag_value="ipython", help="Use IPython.")
@click.option("-B", "--bpython", "kind", flag_value="bpython", help="Use bpython.")
@click.option("-P", "--python", "kind", flag_value="python", help="Use Python itself.")
@click.option("-T", "--without-tasks", is_flag=True, help="Leave tasks out of the names.")
@click.option("--eventlet", is_flag=True, callback=_refused, help="Refused.")
@click.option("--gevent", is_flag=True, callback=_refused, help="Refused.")
def shell(spec: str, kind: str | None, without_tasks: bool, **_: bool) -> None:
    """Start an interactive Python with the app, its tasks and AsyncResult at hand.

    Without -I, -B or -P it is the first of IPython, bpython and Python that is there; Python, if
    what is to be run does not come from a terminal.
    """
    run = _chosen(kind)
    app = load_whole(spec)
    names, tasks, shadowed = namespace(app, with_tasks=not without_tasks)
    try:
        run(names, banner(app, names, tasks, shadowed))
    finally:
        app.close()


def namespace(app: Celery, *, with_tasks: bool = True) -> tuple[Names, list[str], list[str]]:
    """Return the names of a shell, which of them are tasks, and names of tasks that got no name.

    Tasks go by the name of their function; ``app`` and the like are never hidden by one.
    """
    names: Names = {"app": app, "celery": app, "AsyncResult": app.AsyncResult, "Task": app.Task}
    names |= {name: getattr(celeriac, name) for name in CANVAS if hasattr(celeriac, name)}
    tasks: list[str] = []
    shadowed: list[str] = []
    for name, task in sorted(app.tasks.items()) if with_tasks else ():
        short = type(task).__name__
        if name.startswith("celery."):
            continue
        if short in names:
            shadowed.append(name)
            continue
        names[short] = task
        tasks.append(short)
    return names, tasks, shadowed


def banner(app: Celery, names: Names, tasks: list[str], shadowed: list[str]) -> str:
    """Return what a shell says first."""
    others = [name for name in names if name not in tasks]
    lines = [
        f"celeriac {celeriac.__version__}, Python {sys.version.split()[0]}, {app!r}",
        f"broker  {masked_url(app.broker_url)}",
        f"names   {', '.join(others)}",
    ]
    lines += [f"tasks   {', '.join(tasks)}"] if tasks else []
    if shadowed:
        lines.append(f"names that are taken; use app.tasks[...] for: {', '.join(shadowed)}")
    return "\n".join(lines)


def _chosen(kind: str | None) -> Shell:
    """Return the shell of this kind, or the best one. Raises ImproperlyConfigured."""
    terminal = sys.stdin.isatty()
    if kind == "bpython" and not terminal:
        raise ImproperlyConfigured("bpython needs a terminal; without one, use -P")
    for name in (kind,) if kind else SHELLS if terminal else ("python",):
        try:
            return SHELLS[name]()
        except ImportError as error:
            if kind:
                raise ImproperlyConfigured(
                    f"{name} cannot be imported ({error}); install it: pip install {name}"
                ) from None
    raise AssertionError("Python itself is always there")


def _ipython() -> Shell:
    from IPython import start_ipython  # type: ignore[import-not-found, unused-ignore]

    def run(names: Names, banner: str) -> None:
        click.echo(banner)
        start_ipython(argv=["--no-banner"], user_ns=names)

    return run


def _bpython() -> Shell:
    from bpython import embed  # type: ignore[import-not-found, unused-ignore]

    return lambda names, banner: embed(locals_=names, banner=banner)  # type: ignore[no-any-return, unused-ignore]


def _python() -> Shell:
    try:
        import readline
        import rlcompleter
    except ImportError:  # Some builds of Python have no readline: then keys do less.
        pass
    else:
        readline.parse_and_bind("tab: complete")

        def run(names: Names, banner: str) -> None:
            readline.set_completer(rlcompleter.Completer(names).complete)
            _interact(names, banner)

        return run
    return _interact


def _interact(names: Names, banner: str) -> None:
    code.interact(banner, local=names, exitmsg="")


SHELLS: dict[str, Callable[[], Shell]] = {
    "ipython": _ipython,
    "bpython": _bpython,
    "python": _python,
}
"""How to get each shell, the best one first."""
