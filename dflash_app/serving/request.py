"""What an engine's command is made of: the pair, its models, and how they are spread."""

from dataclasses import dataclass

from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.serving.layout import Layout, Machines
from dflash_app.serving.shapes import Shape

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as an engine is told of it.

    Attributes:
        ref: of the registry.
        source: repository id, or a folder of this machine.
        shape: what is known of it.
    """

    ref: ModelRef
    source: str
    shape: Shape

    @property
    def revision(self) -> str | None:
        """The commit that is pinned; None takes the newest, and a folder has none."""
        return self.ref.revision


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """A pair, and how and where it is served.

    Attributes:
        pair: the registry's row.
        target: the model that decides.
        drafter: None for plain decoding.
        machines: that it runs on.
        layout: how it is spread over them.
        block_size: anchor included.
        host: where the server listens.
        port: the same.
        head: address of the first node.
    """

    pair: Pair
    target: Model
    drafter: Model | None
    machines: Machines
    layout: Layout
    block_size: int
    host: str
    port: int
    head: str

    @property
    def models(self) -> tuple[Model, ...]:
        """Target and, where there is one, drafter."""
        return (self.target,) if self.drafter is None else (self.target, self.drafter)

    @property
    def model_name(self) -> str:
        """What requests call the model: a folder is no name."""
        return self.target.source if self.target.ref.repo else self.pair.name
