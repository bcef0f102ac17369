"""How slow work goes on: a bar on a terminal, now and then a plain line in a log; with the time it has left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.text import Text

#: Seconds between two lines of a log; work that takes less leaves none.
EVERY = 20.0
#: Seconds a piece at most where it was there already, and says nothing about how fast the others go.
QUICK = 0.05


def spoken(seconds: float) -> str:
    """Return a time as people say it: "40 s", "12 min", "3.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


@dataclass
class Pace:
    """What is done, and how long the rest takes at the rate so far.

    The first pieces do not count where they took no time: a run that goes on finds them done.

    Attributes
    ----------
    clock : callable
        Returns seconds.
    done, total : float
        Of pieces.
    expected : float or None
        Seconds that all will take, guessed before the first piece is done.
    """

    clock: Callable[[], float] = time.monotonic
    done: float = 0.0
    total: float = 0.0
    expected: float | None = None
    start: float = 0.0
    _at: float = 0.0
    _first: float = 0.0
    _since: float = 0.0

    def tell(self, done: float, total: float) -> bool:
        """Note what is done; return whether this is the start of new work."""
        now = self.clock()
        new = total != self.total or done < self.done or self.start == 0.0
        if new:
            self.start, self._first, self._since, self.expected = now, done, now, None
        elif (
            done > self.done
            and self._first == self.done
            and now - self._at < QUICK * max(1, done - self.done)
        ):
            self._first, self._since = done, now
        if new or done != self.done:
            self._at = now
        self.done, self.total = done, total
        return new

    def elapsed(self) -> float:
        """Return the seconds since the work began."""
        return self.clock() - self.start if self.start else 0.0

    def left(self) -> float | None:
        """Return about how many seconds are left; None where nobody can say."""
        now = self.clock()
        if self.done > self._first and self._at > self._since:
            rate = (self._at - self._since) / (self.done - self._first)
            return max(0.0, rate * (self.total - self.done) - (now - self._at))
        if self.expected is None or now - self.start >= self.expected:
            return None
        return self.expected - (now - self.start)

    def words(self) -> str:
        """Return both times in words; nothing before the work began."""
        if not self.total:
            return ""
        left = self.left()
        told = "" if left is None or self.done >= self.total else f", about {spoken(left)} left"
        return f"{spoken(self.elapsed())}{told}"


@contextmanager
def progress(label: str, first: str = "") -> Iterator[Told]:
    """Show on stderr how work goes on; yields what is called with (done, total, [what is done now]).

    first : what is shown until then.
    """
    if not sys.stderr.isatty():
        yield Lines(label)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    from routegraph.cli.terminal import console

    pace = Pace()

    class Times(ProgressColumn):
        """Elapsed and left; rich's own estimate needs two pieces within its window of 30 seconds."""

        def render(self, task: Task) -> Text:
            return Text(pace.words())

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), Times()
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        bar.add_task(first or label, total=None)
        yield Bar(label, pace, bar)


class Told:
    """What slow work tells how far it is.

    It is called with (done, total, [what is done now]): first with 0 of all, then whenever a piece is done.
    """

    def __init__(self, label: str, pace: Pace | None = None) -> None:
        self.label = label
        self.pace = pace or Pace()

    def __call__(self, done: float, total: float, text: str = "") -> None:
        """Note how far it is, and show it."""
        new = self.pace.tell(done, total)
        self.show(text or self.label, new)

    def expect(self, seconds: float) -> None:
        """Say how long all will take, after the first call and before the first piece is done."""
        self.pace.expected = seconds

    def show(self, text: str, new: bool) -> None:
        """Show it."""
        raise NotImplementedError


class Bar(Told):
    """On a terminal."""

    def __init__(self, label: str, pace: Pace, bar: Progress) -> None:
        super().__init__(label, pace)
        self.bar = bar

    def show(self, text: str, new: bool) -> None:
        """Move the bar."""
        from routegraph.text import written

        self.bar.update(
            self.bar.task_ids[0],
            completed=self.pace.done,
            total=self.pace.total,
            description=written(text, self.bar.console.encoding),
        )


class Lines(Told):
    """In a log: one line every `EVERY` seconds, and one with the time that is expected where that is longer."""

    last = 0.0

    def expect(self, seconds: float) -> None:
        """Say how long all will take where that is worth a line."""
        super().expect(seconds)
        if seconds >= EVERY:
            self._line(f"{self.pace.total:g} to do, about {spoken(seconds)} in all")

    def show(self, text: str, new: bool) -> None:
        """Write a line where the last one is old enough; at the end where there was one."""
        pace, now = self.pace, self.pace.clock()
        if new:
            self.last = now
        if now - self.last >= EVERY:
            at = "" if text == self.label or pace.done >= pace.total else f" ({text})"
            self._line(f"{int(pace.done)} of {pace.total:g}{at}, {pace.words()}")

    def _line(self, text: str) -> None:
        from routegraph.cli.terminal import note

        self.last = self.pace.clock()
        note(f"{self.label}: {text}")
