"""A plan as text: a command line, `docker run`, or a compose file; its reasons as comments."""

import shlex
import textwrap
from dataclasses import dataclass
from typing import Any, Literal, get_args

import yaml

from dflash_app.serving.plan import TITLES, ServePlan

Form = Literal["command", "docker", "compose"]
FORMS: tuple[Form, ...] = get_args(Form)

_WIDTH = 100
_ANYWHERE = "0.0.0.0"  # noqa: S104 - inside a container; what is published is the plan's host
_CACHE = "/root/.cache/huggingface"
_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Block:
    """One text to copy, and for which machine.

    Attributes:
        node: counted from 0; None where there is one machine.
        text: the command or file, without comments.
    """

    node: int | None
    text: str


def render(plan: ServePlan, form: Form = "command", *, reasons: bool = True) -> str:
    """The whole plan as text.

    Args:
        plan: of `planner.plan`.
        form: "command" for a shell, "docker" for one too, "compose" for a file a machine.
        reasons: False leaves the comments out.
    """
    parts = [_comments(plan)] if reasons else []
    for block in blocks(plan, form):
        title = "" if block.node is None else f"# {say_node(block.node, form)}\n"
        parts.append(f"{title}{block.text}")
    return "\n\n".join(parts) + "\n"


def blocks(plan: ServePlan, form: Form) -> tuple[Block, ...]:
    """What is run or saved on each machine."""
    draw = {"command": _command, "docker": _docker, "compose": _compose}[form]
    nodes = range(len(plan.node_arguments))
    return tuple(Block(node if len(nodes) > 1 else None, draw(plan, node)) for node in nodes)


def say_node(node: int, form: Form) -> str:
    """What the text of a machine is headed with."""
    first = " (the one that answers requests)" if node == 0 else ""
    save = f": save as compose.node{node}.yaml" if form == "compose" else ""
    return f"on node {node}{first}{save}"


def reasons_of(plan: ServePlan) -> list[tuple[str, str]]:
    """Each argument and variable with its reason, in the order of the command."""
    told = [(each.name, each.reason) for each in plan.variables]
    told += [(each.flag, each.reason) for each in plan.arguments]
    seen = {flag for flag, _ in told}
    for node in plan.node_arguments:
        for each in node:
            if each.flag not in seen:
                told.append((each.flag, each.reason))
                seen.add(each.flag)
    return told


def _comments(plan: ServePlan) -> str:
    engine, kind = TITLES[plan.engine], "with DFlash" if plan.drafting else "without a drafter (AR)"
    lines = [
        _comment(f"{plan.pair} on {engine}, {kind}, on {plan.machines.say()}."),
        _comment(f"Needs {plan.needs.package}: {plan.needs.reason}"),
        *(_comment(f"Note: {note}") for note in plan.notes),
        *(
            _comment(f"Note: {repo} is gated: accept its licence and set {_TOKEN}.")
            for repo in plan.gated
        ),
        *(_comment(f"{flag}: {reason}") for flag, reason in reasons_of(plan)),
        _comment(f"Then: {plan.base_url}, model {plan.model_name}."),
    ]
    return "\n".join(lines)


def _comment(text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent="# ", subsequent_indent="#   ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _command(plan: ServePlan, node: int) -> str:
    variables = [f"{each.name}={shlex.quote(each.value)}" for each in plan.variables]
    return _lines([*variables, shlex.join(plan.program), *_argument_lines(plan, node)])


def _docker(plan: ServePlan, node: int) -> str:
    several = len(plan.node_arguments) > 1
    inside = plan if several else plan.listening_on(_ANYWHERE)
    lines = ["docker run --rm"]
    if not plan.machines.gpu.is_cpu:
        lines.append(f"--gpus {plan.machines.gpus_per_node}")
    lines.append("--ipc=host")
    published = shlex.quote(f"{plan.host}:{plan.port}:{plan.port}")
    lines.append("--network=host" if several else f"-p {published}")
    # The shell fills in the home: single quotes would keep it from that.
    lines.append(f'-v "$HOME/.cache/huggingface:{_CACHE}"')
    lines += [f"-v {shlex.quote(f'{each}:{each}:ro')}" for each in plan.folders]
    lines.append(f"-e {_TOKEN}")
    lines += [f"-e {shlex.quote(f'{each.name}={each.value}')}" for each in plan.variables]
    entry, program = _in_container(plan)
    if entry:
        lines.append(f"--entrypoint {shlex.quote(entry)}")
    lines.append(shlex.join([plan.needs.image, *program]))
    return _lines([*lines, *_argument_lines(inside, node)])


def _compose(plan: ServePlan, node: int) -> str:
    several = len(plan.node_arguments) > 1
    inside = plan if several else plan.listening_on(_ANYWHERE)
    entry, program = _in_container(plan)
    words = [word for each in inside.arguments_of(node) for word in each.words]
    service: dict[str, Any] = {"image": plan.needs.image, "ipc": "host"}
    if entry:
        service["entrypoint"] = [entry]
    service["command"] = [_plain(word) for word in (*program, *words)]
    if several:
        service["network_mode"] = "host"
    else:
        service["ports"] = [f"{plan.host}:{plan.port}:{plan.port}"]
    service["environment"] = [
        _TOKEN, *(_plain(f"{each.name}={each.value}") for each in plan.variables)
    ]  # fmt: skip
    folders = [_plain(f"{each}:{each}:ro") for each in plan.folders]
    service["volumes"] = [f"${{HOME}}/.cache/huggingface:{_CACHE}", *folders]
    if not plan.machines.gpu.is_cpu:
        device = {
            "driver": "nvidia",
            "count": plan.machines.gpus_per_node,
            "capabilities": ["gpu"],
        }
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    text = yaml.safe_dump(
        {"services": {plan.engine if plan.drafting else f"{plan.engine}-ar": service}},
        sort_keys=False,
        width=10_000,
    )
    return str(text).rstrip("\n")


def _in_container(plan: ServePlan) -> tuple[str | None, tuple[str, ...]]:
    """An entry point that replaces the image's own, and the words before the arguments."""
    first, *rest = plan.program
    if first == "vllm":  # the image begins with `vllm serve` itself
        return None, tuple(rest[1:])
    return ("python3" if first == "python" else first), tuple(rest)


def _argument_lines(plan: ServePlan, node: int) -> list[str]:
    return [shlex.join(each.words) for each in plan.arguments_of(node)]


def _lines(parts: list[str]) -> str:
    return " \\\n  ".join(parts)


def _plain(text: str) -> str:
    """A dollar sign that compose does not fill in."""
    return text.replace("$", "$$")
