"""Whether a reply answers its task."""

import json
import re
import subprocess
import sys

from recipes.embedded_pair.task import Task

_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)

_WALL_S = 10
_RIGHT = 86
"""Exit status of a child whose function passed; code that merely ends has another."""
_CHILD = f"""
import ast, json, os, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
except (ImportError, OSError, ValueError):
    pass  # Windows has no limits and macOS none of memory: the wall time is left
source, name, cases = json.load(sys.stdin)
scope = {{}}
exec(source, scope)
for args, expected in cases:
    if scope[name](*ast.literal_eval(args)) != ast.literal_eval(expected):
        os._exit(1)
os._exit({_RIGHT})
"""


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
    """Run the reply's function on the task's cases in an interpreter of its own.

    There it may exit, never end, fill the memory or change its arguments: nothing here notices.
    It keeps mistakes apart; it is no sandbox against code that means harm.
    """
    found = _CODE.search(reply)
    if not found:
        return False
    source = found.group(1)
    cases = [(repr(args), repr(expected)) for args, expected in task.cases]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD],
            input=json.dumps([source, _function_name(task, source), cases]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == _RIGHT


def _function_name(task: Task, source: str) -> str:
    """The name asked for, else the one the reply chose."""
    if f"Call it {task.answer}." in task.prompt:
        return task.answer
    found = re.search(r"def (\w+)\(", source)
    return found.group(1) if found else ""
