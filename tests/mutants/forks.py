"""Runs tasks in forked processes, a few at once, each held to a limit of CPU time that it moves.

Limits count what a process computes, not what the clock says, so that a loaded machine ends none
too early. A process that sleeps for ever uses no CPU time either: that is seen from outside.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

Tell: TypeAlias = Callable[[Any], None]
"""Sends something that JSON can hold to the process that forked."""
Task: TypeAlias = Callable[[Tell], None]
K = TypeVar("K")

MEMORY = 8 << 30
STILL_SECONDS = 180.0


@dataclass(frozen=True)
class Ended:
    """What a task told before it ended, and what ended it: "" when it came to its own end."""

    told: list[Any]
    by: str
    seconds: float


def forked(tasks: Iterable[tuple[K, Task]], jobs: int) -> Iterator[tuple[K, Ended]]:
    """Run the tasks, at most `jobs` at once; what became of each, in the order in which they end.

    `tasks` is asked for the next one when there is room for it.
    """
    waiting, running = iter(tasks), dict[int, tuple[K, _Fork]]()
    more = True
    while more or running:
        while more and len(running) < jobs:
            following = next(waiting, None)
            more = following is not None
            if following is not None:
                fork = _start(following[1])
                running[fork.read] = following[0], fork
        ready, _, _ = select.select(list(running), [], [], 1.0)
        for read, (key, fork) in list(running.items()):
            if (read in ready and fork.at_end()) or fork.sleeps():
                del running[read]
                yield key, fork.close()


def allow(seconds: float) -> None:
    """Let this process compute for so many seconds more before it is killed."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, most))


@dataclass
class _Fork:
    """A running process; `read` is the end of the pipe on which it tells."""

    pid: int
    read: int
    begin: float
    said: bytes = b""
    used: float = -1.0
    looked: float = field(default_factory=time.monotonic)

    def at_end(self) -> bool:
        """Take in what it has told; has it closed the pipe?"""
        more = os.read(self.read, 1 << 16)
        self.said += more
        return not more

    def sleeps(self) -> bool:
        """Kill it when it has computed nothing for long; was that so?"""
        now = time.monotonic()
        if now - self.looked < STILL_SECONDS:
            return False
        before, self.used, self.looked = self.used, cpu_seconds(self.pid), now
        if self.used != before or not before:
            return False
        os.kill(self.pid, signal.SIGALRM)
        return True

    def close(self) -> Ended:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.read)
        whole = self.said.rpartition(b"\n")[0]
        told = [json.loads(line) for line in whole.splitlines()]
        return Ended(told, _reason(status), time.monotonic() - self.begin)


def _reason(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return "" if os.WEXITSTATUS(status) == 0 else "an exception"
    match os.WTERMSIG(status):
        case signal.SIGXCPU:
            return "it does not end"
        case signal.SIGALRM:
            return "it sleeps for ever"
        case number:
            return f"signal {int(number)}"


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start(task: Task) -> _Fork:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(task, write)
    os.close(write)
    return _Fork(pid, read, time.monotonic())


def _child(task: Task, write: int) -> None:
    """The forked process: does its task, and ends without cleaning up."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        task(lambda value: _write(write, json.dumps(value).encode() + b"\n"))
        code = 0
    finally:
        os._exit(code)


def _write(write: int, text: bytes) -> None:
    while text:
        text = text[os.write(write, text) :]
