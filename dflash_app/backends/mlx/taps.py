"""Views of a model: the same modules and weights, some of them heard out. The model stays as it is.

A view is a shallow copy of a module, so that an entry of it can be another: nothing is wrapped,
patched or put back, and two lanes never see each other's states.
"""

from collections.abc import Iterable
from copy import copy
from typing import Any

import mlx.core as mx


class Tap:
    """Stands in for a layer in a view and keeps what it put out."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self.output: mx.array | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._layer(*args, **kwargs)
        # Some families' layers give their keys and values along.
        self.output = result[0] if isinstance(result, tuple) else result
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class Given:
    """Stands in for a model's body in a view, where what it puts out is known already."""

    def __init__(self, body: Any, hidden: mx.array) -> None:
        self._body, self._hidden = body, hidden

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        return self._hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


def view(module: Any, **replaced: Any) -> Any:
    """A shallow copy of a module with other entries; weights are shared.

    Args:
        module: of MLX: a dict of parameters and submodules.
        replaced: by the entries' names.
    """
    seen = copy(module)
    dict.update(seen, replaced)
    return seen


def tapped_view(body: Any, layer_ids: Iterable[int]) -> tuple[Any, dict[int, Tap]]:
    """A view of a model's body that keeps the output of some layers.

    Args:
        body: of mlx-lm, with a list `layers`.
        layer_ids: 0-based.

    Returns:
        (view, taps): what to run, and what was put out in it, by layer.
    """
    layers = list(body.layers)
    taps = {index: Tap(layers[index]) for index in layer_ids}
    if not taps:
        return body, taps
    for index, tap in taps.items():
        layers[index] = tap
    return view(body, layers=layers), taps
