"""Whether two lanes of one prompt put out the same, and why not."""

from collections.abc import Sequence
from dataclasses import dataclass

from dflash_app.engine.protocol import LoadedPair, on_server
from dflash_app.request import GenerationRequest

NEAR_TIE_LOGITS = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 0.125, "int8": 0.25}
"""Margin below which rounding alone decides between two tokens. A forward over one token and one
over a block add the same numbers in another order. bfloat16: one unit in the last place of a logit
in [16, 32); divergences were measured mostly at margins up to 0.06. int8 also rounds activations,
so that a last bit may become a 127th of a row's largest value, in float32 too: divergences were
measured at margins up to 0.19, on tiny random models. The others are chosen, not measured; nf4 adds
nothing to them."""


SHOWN_CHARS = 24
"""Of each text, from where the texts of two lanes on servers differ."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two outputs are the same, token by token.

    Attributes:
        identical: no token differs in what was compared; False where there was nothing to compare.
        num_compared: tokens that both outputs have.
        position: index of the first output token that differs; None where none does.
        token_a: the token there in the first output, None where it had ended.
        token_b: likewise in the second.
        text_a: that token as text; of a server a few characters from where the texts differ.
        text_b: likewise.
        logit_a: the target's own logit of `token_a` after the common tokens, from one plain
            forward; None where it was not asked.
        logit_b: likewise of `token_b`.
        margin: |logit_a - logit_b|.
        near_tie: the margin is within rounding noise of the dtype; None where it was not asked.
        explanation: one or two sentences for the user.
        by_text: the texts were compared, as a server did not tell all tokens: `num_compared` and
            `position` count characters.
        on_server: a server ran one of them, so no logits could be asked for.
    """

    identical: bool
    num_compared: int
    explanation: str
    position: int | None = None
    token_a: int | None = None
    token_b: int | None = None
    text_a: str | None = None
    text_b: str | None = None
    logit_a: float | None = None
    logit_b: float | None = None
    margin: float | None = None
    near_tie: bool | None = None
    by_text: bool = False
    on_server: bool = False


def verdict(
    loaded: LoadedPair,
    request: GenerationRequest,
    ids_a: Sequence[int],
    ids_b: Sequence[int],
    *,
    texts: tuple[str, str],
    cancelled: bool = False,
    other: LoadedPair | None = None,
) -> Verdict:
    """Compare the outputs of two lanes of one prompt.

    Args:
        loaded: the pair that ran the first; asked for two logits where a token differs.
        request: either lane's request; both have the same messages and sampling.
        ids_a: output tokens of the first lane.
        ids_b: output tokens of the second.
        texts: the outputs as text, compared where a server does not tell its tokens.
        cancelled: a lane was cancelled, so only the common prefix can be compared.
        other: the pair that ran the second, where it is another; its precision may differ.

    Raises:
        GenerationFailed: the target could not be asked.
    """
    if on_server(loaded) or on_server(other or loaded):
        return _of_servers(request, (ids_a, ids_b), texts, cancelled=cancelled)
    num_common = min(len(ids_a), len(ids_b))
    position = _first_difference(ids_a, ids_b)
    if position is None and (cancelled or len(ids_a) == len(ids_b)):
        explanation = _explain_same(request, num_common, cancelled=cancelled)
        return Verdict(num_common > 0, num_common, explanation)
    if position is None:
        return _one_is_longer(loaded, request, ids_a, ids_b)
    if not request.sampling.greedy:
        return _sampled(loaded, ids_a, ids_b, position)
    return _differing(loaded, request, ids_a, ids_b, position, other=other or loaded)


def _first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)


def _of_servers(
    request: GenerationRequest,
    ids: tuple[Sequence[int], Sequence[int]],
    texts: tuple[str, str],
    *,
    cancelled: bool,
) -> Verdict:
    """By tokens where both lanes told them, else by text; how near a tie was nobody can say.

    Equal texts are equal outputs: one side may have cut the same words otherwise, and not every
    server tells the token that ended its run.
    """
    same = texts[0] == texts[1] and not cancelled
    position = _first_difference(*ids)
    by_text = not all(ids) or (same and position is not None)
    one, other = texts if by_text else ids
    num_common = min(len(one), len(other))
    position = _first_difference(one, other)
    if position is None and not (same or cancelled or len(one) == len(other)):
        position = num_common
    unit = "characters" if by_text else "tokens"
    if position is None:
        explanation = _explain_same(request, num_common, cancelled=cancelled, unit=unit)
        return Verdict(num_common > 0, num_common, explanation, by_text=by_text, on_server=True)
    apart = _first_difference(*texts)
    apart = min(map(len, texts)) if apart is None else apart
    text_a, text_b = (text[apart : apart + SHOWN_CHARS] for text in texts)
    why = _NO_LOGITS if request.sampling.greedy else _NOT_PROMISED
    return Verdict(
        identical=False,
        num_compared=num_common,
        explanation=f"The outputs differ from {unit[:-1]} {position + 1} on: {text_a!r} against "
        f"{text_b!r}. {why}",
        position=position,
        token_a=None if by_text else _at(ids[0], position),
        token_b=None if by_text else _at(ids[1], position),
        text_a=text_a or None,
        text_b=text_b or None,
        by_text=by_text,
        on_server=True,
    )


def _at(token_ids: Sequence[int], position: int) -> int | None:
    return token_ids[position] if position < len(token_ids) else None


def _explain_same(
    request: GenerationRequest, num_common: int, *, cancelled: bool, unit: str = "tokens"
) -> str:
    if cancelled:
        if num_common == 0:
            return "Nothing to compare: a lane was cancelled before its first token."
        same = f"The first {num_common} {unit} are identical"
        return f"{same}; a lane was cancelled, so the rest is not compared."
    if not request.sampling.greedy:
        return f"Identical: {num_common} {unit}, which sampling does not promise."
    return f"Identical: {num_common} {unit}."


def _one_is_longer(
    loaded: LoadedPair, request: GenerationRequest, ids_a: Sequence[int], ids_b: Sequence[int]
) -> Verdict:
    position = min(len(ids_a), len(ids_b))
    token_a, text_a = _token_at(loaded, ids_a, position)
    token_b, text_b = _token_at(loaded, ids_b, position)
    explanation = f"The first {position} tokens are identical, but then one output goes on."
    if not request.sampling.greedy:
        explanation += f" {_NOT_PROMISED}"
    return Verdict(False, position, explanation, position, token_a, token_b, text_a, text_b)


def _sampled(
    loaded: LoadedPair, ids_a: Sequence[int], ids_b: Sequence[int], position: int
) -> Verdict:
    token_a, text_a = _token_at(loaded, ids_a, position)
    token_b, text_b = _token_at(loaded, ids_b, position)
    explanation = f"The outputs differ from token {position + 1} on. {_NOT_PROMISED}"
    num_compared = min(len(ids_a), len(ids_b))
    return Verdict(False, num_compared, explanation, position, token_a, token_b, text_a, text_b)


def _cause(loaded: LoadedPair, other: LoadedPair, *, near_tie: bool) -> str:
    precision, others = say_precision(loaded), say_precision(other)
    if near_tie:
        coarse = max(loaded, other, key=near_tie_logits)
        said = say_precision(coarse)
        return f"That is within rounding noise of {said}: a near tie that either may win."
    if precision != others:
        return f"One lane computes in {precision} and one in {others}: other weights, other words."
    if precision == "float32":
        return "That is more than rounding in float32 explains: please report it."
    # Rounding that decides between experts moved logits by up to 8.7 (docs/log.md).
    return (
        f"That is more than rounding in {precision} explains, unless it made a target with experts "
        "choose others: compare in float32, and please report it if it differs there."
    )


def _differing(
    loaded: LoadedPair,
    request: GenerationRequest,
    ids_a: Sequence[int],
    ids_b: Sequence[int],
    position: int,
    *,
    other: LoadedPair,
) -> Verdict:
    """Ask the target itself how close the two tokens were."""
    token_a, token_b = ids_a[position], ids_b[position]
    text_a, text_b = loaded.token_texts([token_a, token_b])
    logit_a, logit_b = loaded.next_logits(request, ids_a[:position], (token_a, token_b))
    margin = abs(logit_a - logit_b)
    near_tie = margin <= max(near_tie_logits(loaded), near_tie_logits(other))
    differ = (
        f"The outputs differ from token {position + 1} on: {text_a!r} against {text_b!r}, whose "
        f"logits are {margin:.3g} apart."
    )
    cause = _cause(loaded, other, near_tie=near_tie)
    return Verdict(
        identical=False,
        num_compared=min(len(ids_a), len(ids_b)),
        explanation=f"{differ} {cause}",
        position=position,
        token_a=token_a,
        token_b=token_b,
        text_a=text_a,
        text_b=text_b,
        logit_a=logit_a,
        logit_b=logit_b,
        margin=margin,
        near_tie=near_tie,
    )


def say_precision(loaded: LoadedPair) -> str:
    """What a pair's target is stored and computed in, as "nf4 in bfloat16"."""
    return f"{loaded.quantization} in {loaded.dtype}" if loaded.quantization else loaded.dtype


_NOT_PROMISED = (
    "With a temperature above 0 each run draws its own tokens: only their distribution is the same."
)
_NO_LOGITS = "A server tells no logits, so whether that is a near tie is not known."


def _token_at(
    loaded: LoadedPair, token_ids: Sequence[int], position: int
) -> tuple[int | None, str | None]:
    if position >= len(token_ids):
        return None, None
    return token_ids[position], loaded.token_texts([token_ids[position]])[0]


def near_tie_logits(loaded: LoadedPair) -> float:
    """The margin below which rounding alone decides between two tokens of a pair's target."""
    limits = (loaded.dtype, loaded.quantization)
    return max(NEAR_TIE_LOGITS.get(limit or "", 0.0) for limit in limits)
