"""A census of Python's standard library, taken by a worker: one task for each file.

Starts a worker, sends the work, shows what comes back, and stops the worker again. One file is broken
on purpose, to show what a failure looks like. Messages and results are kept in a temporary folder, or
with BROKER=redis://... or BROKER=amqp://... in the environment on that server, in a queue of this run
alone. The exit status is 1 if anything went otherwise than it should. On two cores it takes some five
seconds.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import IO, Any

# Found beside this file, as Python puts the folder of the program on the path.
from tasks import app, measure  # type: ignore[import-not-found]

HERE = Path(__file__).resolve().parent
LIBRARY = Path(sysconfig.get_path("stdlib"))
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
BROKEN = "def unfinished(:\n    pass\n"
SECONDS = 60.0
"""After so long something is broken: the worker is killed, and nothing is waited for any more."""
BAR = 40

Results = dict[str, Any]
"""The result of each task, by the file it looked at."""


def main() -> int:
    deadline = monotonic() + SECONDS
    print("A census of Python's standard library: one task for each file.\n")
    with TemporaryDirectory(prefix="celeriac-census-") as folder:
        keep_everything_in(folder)
        broken = Path(folder) / "broken.py"
        broken.write_text(BROKEN, encoding="utf-8")
        files = [*library_files(), str(broken)]
        try:
            with worker(folder, deadline):
                results = take_census(files, deadline)
                failure = results.pop(str(broken))
                show_largest(results)
                wrong = show_failures(results, failure)
        finally:
            app.close()
    show_commands()
    return 1 if wrong else 0


def keep_everything_in(folder: str) -> None:
    """Give this process and the worker one place for messages and results: BROKER, or a file there.

    Without this they would use the file in the user's state directory, which is what one wants
    elsewhere. Results of RabbitMQ's messages are kept in the file.
    """
    file = f"sqlite:///{folder}/census.db"
    broker = os.environ.get("BROKER") or file
    store = file if broker.startswith(("amqp", "pyamqp")) else broker
    os.environ |= {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": store}
    os.environ["CENSUS_QUEUE"] = app.conf.task_default_queue = f"census-{os.getpid()}"


def library_files() -> list[str]:
    """Return the files of the standard library, without its tests and what was installed later."""
    files = [
        str(path)
        for path in sorted(LIBRARY.rglob("*.py"))
        if not NOT_THE_LIBRARY & set(path.relative_to(LIBRARY).parts)
    ]
    if not files:
        raise SystemExit(f"demo: there are no files of the standard library in {LIBRARY}")
    return files


@contextmanager
def worker(folder: str, deadline: float) -> Iterator[None]:
    """Have a worker running meanwhile. It is stopped as an operator would stop it: by TERM."""
    command = [sys.executable, "-m", "celeriac", "-A", "tasks", "worker"]
    began = monotonic()
    with open(Path(folder) / "worker.log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        watchdog = threading.Timer(deadline - monotonic(), process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            await_banner(process.stdout, log)
            print(f"The worker was ready after {monotonic() - began:.2f} s.")
            yield
            process.send_signal(signal.SIGTERM)
            if process.wait():
                raise SystemExit(f"demo: the worker ended with status {process.returncode}")
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()


def await_banner(output: IO[str], log: IO[str]) -> None:
    """Show what the worker says of itself, up to the task that it knows: then it is ready."""
    for line in output:
        print(f"  {line}".rstrip())
        if measure.name in line:
            print()
            return
    log.seek(0)
    raise SystemExit(f"demo: the worker did not start:\n{log.read()}")


def take_census(files: list[str], deadline: float) -> Results:
    """Send a task for each file, in one batch, and wait for all of them."""
    began = monotonic()
    sent = measure.delay_many([(file,) for file in files])
    print(f"Sent {len(sent)} tasks in {monotonic() - began:.2f} s.")
    for done, result in enumerate(sent, start=1):
        # A failure is a result too: here it is looked at later, and not raised.
        result.get(timeout=max(0.0, deadline - monotonic()), propagate=False)
        show_progress(done, len(sent))
    seconds = monotonic() - began
    print(f"All were done after {seconds:.2f} s: {len(sent) / seconds:.0f} tasks per second.\n")
    return dict(zip(files, sent, strict=True))


def show_progress(done: int, total: int) -> None:
    """Draw a bar, on terminals only."""
    if not sys.stdout.isatty():
        return
    filled = BAR * done // total
    end = "\n" if done == total else ""
    print(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {done}/{total}", end=end, flush=True)


def show_largest(results: Results) -> None:
    """Print the ten largest files, and what all of them have together."""
    counts = {path: result.result for path, result in results.items() if result.successful()}
    largest = sorted(counts, key=lambda path: counts[path]["lines"], reverse=True)[:10]
    print(f"{'file':<32}{'lines':>7}{'functions':>11}{'classes':>9}  longest function")
    for path in largest:
        count = counts[path]
        name = str(Path(path).relative_to(LIBRARY))
        longest = (
            f"{count['longest']} ({count['longest_lines']} lines)" if count["longest"] else "-"
        )
        print(
            f"{name:<32}{count['lines']:>7}{count['functions']:>11}{count['classes']:>9}  {longest}"
        )
    totals = {key: sum(count[key] for count in counts.values()) for key in ("lines", "functions")}
    imports = Counter(name for count in counts.values() for name in count["imports"])
    most = ", ".join(f"{name} (by {files} files)" for name, files in imports.most_common(5))
    print(
        f"\nTogether: {len(counts)} files, {totals['lines']:,} lines, "
        f"{totals['functions']:,} functions.\nImported most: {most}."
    )


def show_failures(results: Results, failure: Any) -> bool:
    """Show the task that had to fail; return whether it did not, or another one did."""
    failed = [path for path, result in results.items() if not result.successful()]
    for path in failed:
        print(f"\nThis should not have failed: {path}\n{results[path].traceback}")
    if not failure.failed():
        print("\nThe broken file should have failed, and did not.")
        return True
    print(
        "\nOne more file was broken on purpose. Its task failed; the other "
        f"{len(results) - len(failed)} are unharmed.\nWhat the worker says of it:\n"
    )
    for line in failure.traceback.rstrip().splitlines():
        print(f"    {line}")
    return bool(failed)


def show_commands() -> None:
    """Print what to do next, ready to be pasted here."""
    folder, program = min(os.path.relpath(HERE), str(HERE), key=len), celeriac_program()
    enter = "" if folder == "." else f"  cd {shlex.quote(folder)}\n"
    print(
        "\nYour turn. Start a worker in this terminal (Ctrl-C stops it):\n\n"
        f"{enter}  {program} -A tasks worker -l info\n\n"
        "In a second terminal, opened in the same folder as this one, send a task and read its "
        "result:\n\n"
        f"{enter}  task=$({program} -A tasks call {measure.name} -a '[\"tasks.py\"]')\n"
        f'  {program} -A tasks result "$task"'
    )


def celeriac_program() -> str:
    """Return how to call the command line from the folder of this file."""
    script = Path(sys.executable).parent / "celeriac"
    found = shutil.which("celeriac")
    if found is not None and Path(found) == script:
        return "celeriac"
    if script.exists():
        return shlex.quote(min(os.path.relpath(script, HERE), str(script), key=len))
    return f"{shlex.quote(sys.executable)} -m celeriac"


if __name__ == "__main__":
    sys.exit(main())
