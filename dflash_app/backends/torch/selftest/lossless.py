"""Is greedy DFlash greedy plain decoding? Asked of one target, with drafts that an oracle makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from dflash_app.backends.torch.selftest.decoding import run_lane
from dflash_app.backends.torch.selftest.oracle import Divergence, OracleLane
from dflash_app.backends.torch.selftest.plain import PlainText, decode_plainly, recorded_logits
from dflash_app.backends.torch.selftest.tiny_families import WINDOW
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.speculative import PREFILL_CHUNK

BLOCK_SIZE = 16
TAPS = (0, 2, 3)
ROUNDS = {WINDOW - 7: 1, 3 * WINDOW + 4: 2}
"""Of every accepted length, in no order, by the length of the prompt: shorter and longer than the
sliding windows."""
SMALL_CHUNK = 7
"""Of prefill: several to a window."""


@dataclass(slots=True)
class Evidence:
    """What the runs of one target showed.

    Attributes:
        problems: one sentence each, of the first run that has any; empty where DFlash is lossless.
        num_compared: tokens that DFlash put out.
        near_ties: of each token that a block decided otherwise within rounding noise: the gap
            between the target's own logits of the two. Always empty in float32.
    """

    problems: list[str] = field(default_factory=list)
    num_compared: int = 0
    near_ties: list[float] = field(default_factory=list)


def check_lossless(target: TorchTarget) -> Evidence:
    """Compare DFlash with plain decoding, token by token.

    Every accepted length of a block of 16 several times, prompts shorter and longer than the
    sliding windows, a prompt read in small chunks, and a length limit and a stop token at every
    place of a block. In float32 nothing may differ. In lower precision a token may, where the
    target's own gap between the two is within the rounding noise that was measured there; the text
    then goes on as plain decoding has it, so that everything behind is compared too. Going back
    must not run the model again, but where snapshots were chosen.

    Args:
        target: of `tiny_families`, or as small.
    """
    examiner = _Examiner(target)
    for num_prompt, num_rounds in ROUNDS.items():
        accepted = list(range(BLOCK_SIZE)) * num_rounds
        Random(num_prompt).shuffle(accepted)
        # The first token, the rounds' blocks, and room in which no draft of theirs is cut.
        num_tokens = 1 + sum(accepted) + len(accepted) + BLOCK_SIZE
        text = decode_plainly(target, num_prompt, num_tokens)
        examiner.force_accepted_lengths(text, accepted)
    examiner.read_in_chunks(text)
    examiner.end_at_every_length(text)
    examiner.stop_at_every_place(text)
    return examiner.evidence


class _Examiner:
    """Runs lanes on one target and writes down what they show."""

    def __init__(self, target: TorchTarget) -> None:
        self.evidence = Evidence()
        self._target = target

    def force_accepted_lengths(self, text: PlainText, accepted: Sequence[int]) -> None:
        where = f"after a prompt of {len(text.prompt)} tokens"
        self._run(where, text, accepted, len(text.truth))

    def read_in_chunks(self, text: PlainText) -> None:
        where = f"after a prompt read by {SMALL_CHUNK} tokens"
        self._run(where, text, [3, 0, 15, 5], 1 + 27, chunk=SMALL_CHUNK)

    def end_at_every_length(self, text: PlainText) -> None:
        for offset in range(BLOCK_SIZE + 1):
            where = f"with a limit {offset} tokens into a block"
            # The first token, a block of 5, and what the limit leaves of the next.
            self._run(where, text, [4], 1 + 5 + offset)

    def stop_at_every_place(self, text: PlainText) -> None:
        for offset in range(BLOCK_SIZE):
            where = f"with a stop token {offset} tokens into a block"
            place = _new_token(text.truth, offset)
            if place is None:
                self._object(f"{where}: no token of the text would stop there first")
                continue
            accepted, index = place
            # All of the second block's drafts are right, those behind the stop token too.
            self._run(where, text, [accepted, BLOCK_SIZE - 1], index + 1, stop_id=text.truth[index])

    def _run(
        self,
        where: str,
        text: PlainText,
        accepted: Sequence[int],
        num_tokens: int,
        *,
        stop_id: int | None = None,
        chunk: int = PREFILL_CHUNK,
    ) -> None:
        """One lane; it must put out the first `num_tokens` of the truth, and end there."""
        if self.evidence.problems:
            return  # one is enough to know
        target = self._target
        lane = OracleLane(target, text.prompt, text.truth, accepted, taps=TAPS, corrected=True)
        with recorded_logits(target) as forwards:
            found = run_lane(
                lane,
                text.prompt,
                num_tokens if stop_id is None else len(text.truth),
                num_draft=BLOCK_SIZE - 1,
                eos_ids=frozenset() if stop_id is None else frozenset({stop_id}),
                prefill_chunk=chunk,
            )
        self.evidence.num_compared += len(found.token_ids)
        self._judge(where, text, lane.divergences)
        expected = "length" if stop_id is None else "stop"
        if (found.token_ids, found.reason) != (text.truth[:num_tokens], expected):
            self._object(f"{where}, it ends by {found.reason} after {len(found.token_ids)} tokens")
        steps = zip(found.steps, accepted, strict=False)
        as_forced = sum(step.num_accepted == wanted for step, wanted in steps)
        if as_forced + len(lane.divergences) < len(accepted):
            self._object(f"{where}, not every accepted length was the one forced")
        num_chunks = -(-len(text.prompt) // chunk)
        if target.rollback_kind != "snapshot" and len(forwards) != num_chunks + len(found.steps):
            self._object(f"{where}, going back ran the model again")

    def _judge(self, where: str, text: PlainText, divergences: Sequence[Divergence]) -> None:
        for each in divergences:
            index = each.position - len(text.prompt)
            row, noise = text.logits[index], float(text.noise[index])
            margin = abs(float(row[each.expected] - row[each.found]))
            if margin < noise:
                self.evidence.near_ties.append(margin)
            else:
                self._object(
                    f"{where}, output token {index} is {each.found} and not {each.expected}: their "
                    f"logits are {margin:.3g} apart, of which rounding explains {noise:.3g}"
                )
                return

    def _object(self, problem: str) -> None:
        self.evidence.problems.append(problem)


def _new_token(token_ids: Sequence[int], offset: int) -> tuple[int, int] | None:
    """A token that appears first at an offset of the second block, for some length of the first.

    Returns:
        (drafts accepted in the first block, the token's index), or None.
    """
    for num_accepted in range(BLOCK_SIZE):
        index = 1 + num_accepted + 1 + offset
        if token_ids[index] not in token_ids[:index]:
            return num_accepted, index
    return None
