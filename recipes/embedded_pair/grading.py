"""Whether a reply answers its task."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator

from recipes.embedded_pair.task import Task

_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def is_right(task: Task, reply: str) -> bool:
    """Grade a reply: code is run, numbers and facts are the last bold text, the rest is literal.

    Args:
        task: with its answer.
        reply: what the model put out, special tokens removed.
    """
    if task.cases:
        return _passes(task, reply)
    if "**" in task.reply:
        bold = _BOLD.findall(reply)
        return bool(bold) and bold[-1].strip() == task.answer
    return reply.strip() == task.answer


def _passes(task: Task, reply: str) -> bool:
    """Run the reply's function on the task's cases."""
    found = _CODE.search(reply)
    if not found:
        return False
    scope: dict[str, object] = {}
    try:
        with _time_limit(1.0):
            # A reply of our own five-million-parameter model to our own question; builtins only.
            exec(found.group(1), scope)
            function = scope.get(_function_name(task, found.group(1)))
            return callable(function) and all(
                function(*args) == expected for args, expected in task.cases
            )
    except (Exception, TimeoutError):  # noqa: BLE001 (wrong code may raise anything)
        return False


def _function_name(task: Task, source: str) -> str:
    """The name asked for, else the one the reply chose."""
    if f"Call it {task.answer}." in task.prompt:
        return task.answer
    found = re.search(r"def (\w+)\(", source)
    return found.group(1) if found else ""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop code that does not end; only the main thread can."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def expire(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
