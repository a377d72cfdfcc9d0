"""A job, the attempts at it, and what comes of them."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class Job(Generic[T]):
    """Something to be done once.

    Attributes:
        value: the caller's.
        size: that its time depends on, such as bytes; of jobs that wait, the largest goes first.
        kind: jobs of a kind take a time by their size.
        needs_core: else it is given away at once, and neither counted nor tried a second time.
        has_declined: a node that it was tried on a second time could not begin with it.
        num_deaths: of workers that had it.
        num_losses: of nodes and objects, which is not its fault.
    """

    value: T
    size: int
    kind: str = ""
    needs_core: bool = True
    has_declined: bool = False
    num_deaths: int = 0
    num_losses: int = 0
    attempts: list["Attempt"] = field(default_factory=list)


@dataclass(eq=False)
class Attempt:
    """A job that Ray has.

    Attributes:
        generator: of what its task yields.
        node_id: of the node that it runs on, or is to run on; empty where Ray has not chosen yet.
        started: when it began; 0 before.
    """

    job: Job
    generator: Any
    node_id: str = ""
    started: float = 0.0
    answer: "Answer | None" = None


@dataclass(frozen=True)
class Answer:
    """What a task has yielded.

    Attributes:
        node_id: of the node that it ran on.
        value: the first.
        rest: references to the others, which may be lost before they are fetched.
    """

    node_id: str
    value: Any
    rest: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Killed:
    """A job has killed its worker twice.

    Attributes:
        error: Ray's name of the last death.
    """

    error: str


@dataclass(frozen=True)
class Declined:
    """The value of a task that could not begin with its job, and has changed nothing. The other
    attempt at the job goes on; without one, this is the answer."""
