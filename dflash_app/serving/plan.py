"""A launch plan: what is started where, and why each argument is there. Values only."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from dflash_app.serving.layout import Layout, Machines

Engine = Literal["vllm", "sglang"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
TITLES: dict[Engine, str] = {"vllm": "vLLM", "sglang": "SGLang"}

HEAD = "HEAD_NODE_ADDRESS"
"""Stands for the first node's address until the user says it."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of the command.

    Attributes:
        flag: as the engine calls it.
        value: None for a switch.
        reason: one sentence.
    """

    flag: str
    value: str | None
    reason: str

    @property
    def words(self) -> tuple[str, ...]:
        """As they stand on a command line."""
        return (self.flag,) if self.value is None else (self.flag, self.value)


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the environment that the engine needs."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be installed.

    Attributes:
        package: as pip takes it.
        image: the container that has it.
        reason: one sentence on the version.
    """

    package: str
    image: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A server for a pair.

    Attributes:
        pair: its name.
        engine: "vllm" or "sglang".
        drafting: False for the twin that decodes plainly.
        needs: what has to be installed.
        program: words before the arguments.
        arguments: the same on every node.
        node_arguments: what each node has besides; one entry for each.
        variables: of the environment.
        model_name: what requests call the model.
        folders: of this machine that the models are in.
        gated: repositories whose licence must be accepted.
        machines: that it is for.
        layout: how it is spread over them, with the arithmetic.
        host: where it listens.
        port: the same.
        notes: what the user should know before starting it, one sentence each.
    """

    pair: str
    engine: Engine
    drafting: bool
    needs: Needs
    program: tuple[str, ...]
    arguments: tuple[Argument, ...]
    node_arguments: tuple[tuple[Argument, ...], ...]
    variables: tuple[Variable, ...]
    model_name: str
    folders: tuple[str, ...]
    gated: tuple[str, ...]
    machines: Machines
    layout: Layout
    host: str
    port: int
    notes: tuple[str, ...] = ()

    @property
    def base_url(self) -> str:
        """Where clients on the (first) machine reach it."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104
        return f"http://{host}:{self.port}/v1"

    def arguments_of(self, node: int = 0) -> tuple[Argument, ...]:
        """Every argument of a node's command."""
        return self.arguments + self.node_arguments[node]

    def argv(self, node: int = 0) -> tuple[str, ...]:
        """A node's command, word by word."""
        words = (word for each in self.arguments_of(node) for word in each.words)
        return (*self.program, *words)

    def listening_on(self, host: str) -> "ServePlan":
        """The same, listening elsewhere; a container has to listen on all of its addresses."""
        arguments = tuple(
            replace(each, value=host) if each.flag == "--host" else each for each in self.arguments
        )
        return replace(self, arguments=arguments, host=host)
