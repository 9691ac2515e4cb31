"""How long a request may have the GPU of a ZeroGPU Space: visitors pay for it from their quota."""

from collections.abc import Sequence

from dflash_app.request import GenerationRequest

CHARS_A_TOKEN = 2.0
"""Few, so that the estimate is not too short for other alphabets."""
START_S = 10.0
"""To move the weights to the GPU and to load kernels, in a process that was just forked."""
STEP_S = 0.03
"""Of a step whose kernels are launched one by one, as without CUDA graphs."""
READ_BYTES_A_S = 1e12
"""Of weights: what part of an H200 may be counted on."""
PREFILL_TOKENS_A_S = 2_000.0
SHORTEST_S, LONGEST_S = 10, 120
"""ZeroGPU refuses calls that announce more than their visitor may have; 120 s is usual."""


def estimate_gpu_s(requests: Sequence[GenerationRequest], num_bytes: int) -> int:
    """Seconds to announce, for the slowest way through: every token plainly, every lane in turn.

    The constants are estimates: nobody has run this app on ZeroGPU yet.

    Args:
        requests: one for each lane.
        num_bytes: of weights, read once in every step.
    """
    step_s = STEP_S + num_bytes / READ_BYTES_A_S
    total_s = START_S
    for request in requests:
        num_chars = sum(len(message.content) for message in request.messages)
        total_s += num_chars / CHARS_A_TOKEN / PREFILL_TOKENS_A_S
        total_s += request.max_new_tokens * step_s
    return round(min(max(total_s, SHORTEST_S), LONGEST_S))
