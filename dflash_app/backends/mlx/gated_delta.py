"""GatedDeltaNet layers that go back: the recurrence again, over the kept tokens of the block.

mlx-lm's cache holds the states after a forward, and there is no way back from them. Here the states
before it are kept by reference, and what the layer's input projections said; to go back, mlx-lm's
own layer runs over the kept tokens with those answers in the place of its projections. MLX computes
what is asked for, and only the states are: no product with a large weight is done a second time.
"""

from typing import Any

import mlx.core as mx

from dflash_app.backends.mlx.taps import view

_PROJECTIONS = "in_proj"
"""Names of a mixer's input projections begin so, in every family."""


class _Answers:
    """Stands in for a projection: asks it, remembers, and can say the beginning of it again."""

    def __init__(self, projection: Any) -> None:
        self._projection = projection
        self.said: mx.array | None = None

    def __call__(self, inputs: mx.array) -> mx.array:
        if self.said is not None:
            return self.said[:, : inputs.shape[1]]
        self.said = self._projection(inputs)
        return self.said


class ReplayMixer:
    """Stands in for a GatedDeltaNet mixer in a view; goes back within its last forward.

    Args:
        mixer: of mlx-lm.
    """

    def __init__(self, mixer: Any) -> None:
        self._projections = {
            name: _Answers(mixer[name]) for name in mixer if name.startswith(_PROJECTIONS)
        }
        self._mixer = view(mixer, **self._projections)
        self._inputs: mx.array | None = None
        self._before: list[Any] = []

    def __call__(self, inputs: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        self._forget()
        self._inputs, self._before = inputs, list(cache.cache)
        mixed: mx.array = self._mixer(inputs, mask, cache)
        return mixed

    def crop(self, cache: Any, tokens_to_remove: int) -> None:
        """Forget tokens of the last forward; see `rollback.TargetCache`.

        Args:
            cache: the layer's.
            tokens_to_remove: minus their number.

        Raises:
            ValueError: they are not all of the last forward.
        """
        if tokens_to_remove:
            kept = tokens_to_remove + (0 if self._inputs is None else self._inputs.shape[1])
            if self._inputs is None or kept < 0:
                raise ValueError(
                    "a recurrent layer goes back within its last forward only, "
                    f"not by {-tokens_to_remove} tokens"
                )
            cache.cache = list(self._before)
            if kept:
                self._mixer(self._inputs[:, :kept], None, cache)
        self._forget()

    def _forget(self) -> None:
        self._inputs, self._before = None, []
        for projection in self._projections.values():
            projection.said = None


def with_replay(body: Any) -> tuple[Any, dict[int, ReplayMixer]]:
    """A view of a model's body whose recurrent layers go back.

    Args:
        body: of mlx-lm.

    Returns:
        (view, mixers): what to run, and the stand-ins by layer.
    """
    layers = list(body.layers)
    mixers = {
        index: ReplayMixer(layer.linear_attn)
        for index, layer in enumerate(layers)
        if "linear_attn" in layer
    }
    for index, mixer in mixers.items():
        layers[index] = view(layers[index], linear_attn=mixer)
    return view(body, layers=layers), mixers
