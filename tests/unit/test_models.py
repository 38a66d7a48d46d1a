"""models.py: pydantic models in and out of tasks."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationInfo, field_validator

from celeriac import Celery
from celeriac.exceptions import EncodeError
from tests.fixtures.runs import body, claim, document, memory_app, run, run_sent


class Point(BaseModel):
    x: int
    y: int = 0


class Named(BaseModel):
    """Is told who asks."""

    name: str

    @field_validator("name")
    @classmethod
    def told(cls, value: str, info: ValidationInfo) -> str:
        context = info.context or {}
        return f"{value} {context.get('celery_task_name')} {context.get('unit')}"


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.mark.follows("TASK-47")
def test_arguments_arrive_as_models_and_models_leave_as_data(app: Celery) -> None:
    seen: list[Any] = []

    @app.task(pydantic=True)
    def move(point: Point, by: int, other: Point | None = None, *rest: int) -> Point:
        seen.append((point, other))
        return Point(x=point.x + by, y=point.y)

    outcome = run_sent(app, lambda: move.delay({"x": 1}, 2, other={"x": "3"}))  # type: ignore[arg-type]
    assert seen == [(Point(x=1), Point(x=3))]
    assert document(outcome).result == {"x": 3, "y": 0}
    run_sent(app, lambda: move.delay({"x": 1}, 2, None, 9))  # type: ignore[arg-type]
    assert seen[1] == (Point(x=1), None)
    assert move(Point(x=1), 2) == {"x": 3, "y": 0}  # type: ignore[comparison-overlap]


@pytest.mark.follows("TASK-47")
def test_what_is_no_model_fails_the_task(app: Celery) -> None:
    @app.task(pydantic=True)
    def move(point: Point) -> None: ...

    outcome = run_sent(app, lambda: move.delay({"z": 1}))  # type: ignore[arg-type]
    assert document(outcome).status == "FAILURE"
    assert document(outcome).result["exc_type"] == "ValidationError"


@pytest.mark.follows("TASK-47")
def test_how_models_are_read_and_written_may_be_said(app: Celery) -> None:
    @app.task(pydantic=True, pydantic_strict=True)
    def strict(point: Point) -> None: ...

    assert document(run_sent(app, lambda: strict.delay({"x": "1"}))).status == "FAILURE"  # type: ignore[arg-type]

    @app.task(pydantic=True, pydantic_dump_kwargs={"exclude_defaults": True})
    def move(point: Point) -> Point:
        return point

    assert document(run_sent(app, lambda: move.delay({"x": 1}))).result == {"x": 1}  # type: ignore[arg-type]

    @app.task(name="greet", pydantic=True, pydantic_context={"unit": "m"})
    def greet(who: Named) -> str:
        return who.name

    assert document(run_sent(app, lambda: greet.delay({"name": "ann"}))).result == "ann greet m"  # type: ignore[arg-type]


@pytest.mark.follows("TASK-47")
def test_only_the_model_that_is_announced_is_dumped(app: Celery) -> None:
    @app.task(pydantic=True)
    def loose(x: int):  # nothing is announced
        return Point(x=x)

    assert document(run_sent(app, lambda: loose.delay(1))).result["exc_type"] == "EncodeError"


@pytest.mark.follows("TASK-48")
def test_a_model_may_be_passed(app: Celery) -> None:
    @app.task(pydantic=True, bind=True)
    def move(self: Any, point: Point, *, other: Point | None = None) -> int:
        return point.x + (other.x if other else 0)

    move.delay(Point(x=1), other=Point(x=2))
    (delivery,) = claim(app)
    assert body(delivery)[:2] == [[{"x": 1, "y": 0}], {"other": {"x": 2, "y": 0}}]
    assert document(run(app, delivery)).result == 3


@pytest.mark.follows("TASK-48")
def test_a_model_that_would_arrive_changed_is_left_to_the_serializer(app: Celery) -> None:
    class Deep(Point):
        z: int = 1

    @app.task(pydantic=True)
    def move(point: Point, *rest: Any, **more: Any) -> None: ...

    for call in ((Deep(x=1),), (Point(x=1), Point(x=2)), (Named(name="a"),)):
        with pytest.raises(EncodeError, match=r"args\[\d\]"):
            move.delay(*call)
    with pytest.raises(EncodeError, match="kwargs"):
        move.delay(Point(x=1), extra=Point(x=1))


@pytest.mark.follows("TASK-22", "TASK-47")
def test_arguments_are_checked_against_the_function(app: Celery) -> None:
    @app.task(pydantic=True)
    def move(point: Point) -> None: ...

    with pytest.raises(TypeError, match=r"move\(\) missing"):
        move.delay()  # type: ignore[call-arg]


def test_annotations_that_lead_nowhere_are_no_models(app: Celery) -> None:
    @app.task(pydantic=True)
    def odd(x: "Nowhere") -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        return x

    assert document(run_sent(app, lambda: odd.delay(1))).result == 1


@pytest.mark.follows("TASK-47")
def test_the_package_that_is_missing_is_named() -> None:
    program = (
        "import sys; sys.modules['pydantic'] = None\n"
        "from celeriac import Celery\n"
        "app = Celery('x')\n"
        "app.task(pydantic=True)(lambda: 1).name\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "pydantic=True needs the package pydantic; install celeriac[pydantic]" in ended.stderr
