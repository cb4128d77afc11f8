"""What a sweep shows while it runs: one live line on a terminal, a plain log elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from llmpred.ledger.record import best_first
from llmpred.sweep.orders import FAILED, OPEN, SCORED, Done

LOG_SECONDS = 10.0  # between two plain progress lines


class Progress:
    """Counts what became of each key and tells people."""

    def __init__(self, total: int, names: dict[str, str], *, quiet: bool = False) -> None:
        self.total = total
        self.names = names
        self.done: dict[str, Done] = {}
        self.started = time.time()
        self._said = 0.0
        self._console = Console(stderr=True, quiet=quiet)
        self._live = (
            Live(console=self._console, refresh_per_second=2, transient=True)
            if self._console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def add(self, done: Done) -> None:
        """Take in what became of a key; a later word on the same key replaces the earlier one."""
        before = self.done.get(done.key)
        if before is not None and before.state in SCORED + FAILED:
            return  # a restarted worker passes over what it did before
        self.done[done.key] = done
        if done.state in FAILED:
            name = self.names.get(done.key, "")
            self.say(f"{done.state} {done.key[:10]} {name}: {done.message}")
        elif done.state in SCORED and done.message:
            self.say(f"{done.key[:10]} {self.names.get(done.key, '')}: {done.message}")
        if self._live:
            self._live.update(Text(self.line()))
        elif time.time() - self._said > LOG_SECONDS or self.left == 0:
            self._said = time.time()
            self.say(self.line())

    def say(self, text: str) -> None:
        """Print a line above the live one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @property
    def left(self) -> int:
        """Runs that nothing is known of yet."""
        settled = sum(d.state not in OPEN for d in self.done.values())
        return self.total - settled

    def line(self) -> str:
        """Return the state of the sweep in one line."""
        states = Counter(d.state for d in self.done.values())
        finished = [d for d in self.done.values() if d.state in SCORED]
        parts = [
            f"done {len(finished)}/{self.total}",
            f"failed {sum(states[state] for state in FAILED)}",
            f"left {self.left}",
        ]
        hours = (time.time() - self.started) / 3600
        if finished and hours > 0:
            rate = len(finished) / hours
            parts.append(f"{rate:.0f} runs/h")
            parts.append(f"ETA {duration(self.left / rate * 3600)}")
        scored = [d for d in finished if d.accuracy_r is not None]
        if scored:
            best = min(scored, key=lambda d: best_first(d.accuracy_r, d.key))
            parts.append(f"best {best.accuracy_r:.3f} {self.names.get(best.key, best.key[:10])}")
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
