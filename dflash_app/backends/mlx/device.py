"""Where MLX computes."""

import mlx.core as mx

from dflash_app.errors import BackendUnavailable


def choose_device(name: str | None) -> mx.Device:
    """The device of that name, or the best one here.

    Args:
        name: "cpu" or "gpu"; None takes the GPU where MLX has one.

    Raises:
        BackendUnavailable: unknown or not here.
    """
    if name is None:
        return mx.Device(mx.gpu if mx.is_available(mx.gpu) else mx.cpu)
    if name == "cpu":
        return mx.Device(mx.cpu)
    if name != "gpu":
        raise BackendUnavailable(f"MLX has no device {name!r}: use gpu or cpu.")
    if not mx.is_available(mx.gpu):
        raise BackendUnavailable("MLX finds no GPU (Metal) here: choose cpu.")
    return mx.Device(mx.gpu)


def say_device(device: mx.Device) -> str:
    """The device by its name: "cpu" or "gpu"."""
    return "gpu" if device.type == mx.gpu else "cpu"
