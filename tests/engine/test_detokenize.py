import random
from collections.abc import Sequence
from typing import Any

import pytest

from dflash_app.engine.detokenize import Detokenizer
from tests.engine.tiny_tokenizers import byte_fallback, byte_level, chat_tokenizer, fallback_ids

CHARS = "ab hi日本👩éжΩ\ufffd\n"


class Counting:
    """A tokenizer that counts the tokens it decodes."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.num_decoded = 0

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        self.num_decoded += len(token_ids)
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)


class Letters:
    """One token, one character."""

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, token_ids))


def pieces(ids: Sequence[int], sizes: Sequence[int]) -> list[Sequence[int]]:
    parts, start = [], 0
    while start < len(ids):
        size = sizes[len(parts) % len(sizes)]
        parts.append(ids[start : start + size])
        start += size
    return parts


def stream(tokenizer: Any, ids: Sequence[int], sizes: Sequence[int], stop: Sequence[str] = ()):
    detokenizer = Detokenizer(tokenizer, stop)
    shown = [detokenizer.feed(part) for part in pieces(ids, sizes)]
    return [*shown, detokenizer.finish()], detokenizer


@pytest.mark.parametrize("sizes", [[1], [2, 3], [1, 7, 17], [1000]])
@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_the_pieces_add_up_to_the_text_whatever_their_sizes(kind, sizes):
    rng = random.Random(1)
    for _ in range(150):
        text = "".join(rng.choices(CHARS, k=rng.randint(1, 90)))
        if kind == "byte level":
            tokenizer, ids = byte_level(), byte_level().encode(text).ids
        else:
            tokenizer, ids = byte_fallback(), fallback_ids(text)
        shown, _ = stream(tokenizer, ids, sizes)
        # SentencePiece decoders take the first space away: decode() itself is the reference.
        assert "".join(shown) == tokenizer.decode(ids)


@pytest.mark.parametrize("sizes", [[1], [3, 1, 16]])
def test_half_a_character_is_never_shown(sizes):
    text = "a日本é👩‍👩‍👧b"
    for tokenizer, ids in (
        (byte_level(), byte_level().encode(text).ids),
        (byte_fallback(), fallback_ids(text)),
    ):
        shown, _ = stream(tokenizer, ids, sizes)
        assert "\ufffd" not in "".join(shown)
        assert "".join(shown) == text


@pytest.mark.parametrize("sizes", [[1], [7], [16], [1, 7, 17]])
def test_a_long_text_in_single_bytes_comes_whole_and_in_time(sizes):
    text = "日本👩ж" * 300
    ids = fallback_ids(text)
    counting = Counting(byte_fallback())
    detokenizer = Detokenizer(counting)
    num_fed, shown = 0, ""
    for part in pieces(ids, sizes):
        shown += detokenizer.feed(part)
        num_fed += len(part)
        complete = byte_fallback().decode(ids[:num_fed]) if num_fed < 60 else None
        if complete is not None and "\ufffd" not in complete:
            assert shown == complete
        # Four characters are twelve bytes: never more than one of them is missing.
        assert len(shown) >= num_fed * 4 // 12 - 2
    assert shown + detokenizer.finish() == text
    assert counting.num_decoded < 150 * len(ids)


@pytest.mark.parametrize("num_special", [1, 20, 50])
def test_the_space_of_a_word_after_special_tokens_is_kept(num_special):
    vocab = byte_fallback().get_vocab()
    ids = [vocab["\u2581hi"], *[vocab["<s>"]] * num_special, vocab["\u2581world"]]
    shown, _ = stream(byte_fallback(), ids, [1])
    assert "".join(shown) == "hi world"


class Bytes:
    """Token i is the i-th of some byte strings."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = parts

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        return b"".join(self.parts[i] for i in token_ids).decode(errors="replace")


def test_characters_come_when_complete_though_every_token_ends_one_and_begins_the_next():
    text = "日本語" * 400
    data = text.encode()
    parts = [data[:1], *(data[start : start + 3] for start in range(1, len(data), 3))]
    counting = Counting(Bytes(parts))
    detokenizer = Detokenizer(counting)
    shown = [detokenizer.feed([index]) for index in range(len(parts))]
    assert shown == ["", *text]
    assert counting.num_decoded < 200 * len(parts)


def test_random_tokens_are_printed_as_the_tokenizer_prints_them():
    rng = random.Random(2)
    size = byte_level().get_vocab_size()
    for _ in range(300):
        ids = [rng.randrange(size) for _ in range(rng.randint(1, 250))]
        for sizes in ([1], [5, 2], [17]):
            shown, _ = stream(byte_level(), ids, sizes)
            assert "".join(shown) == byte_level().decode(ids)


def test_a_real_unknown_character_at_the_end_is_shown_at_the_end():
    ids = byte_level().encode("ok \ufffd").ids
    shown, _ = stream(byte_level(), ids, [1])
    assert "".join(shown) == "ok \ufffd"


def test_a_run_of_unknown_characters_is_shown_while_it_runs():
    ids = byte_level().encode("\ufffd" * 200).ids
    detokenizer = Detokenizer(byte_level())
    shown = "".join(detokenizer.feed([token_id]) for token_id in ids)
    assert len(shown) > 150
    assert shown + detokenizer.finish() == "\ufffd" * 200


def test_an_output_cut_inside_a_character_ends_before_it():
    ids = byte_level().encode("ab👩").ids
    for num_missing in (1, 2):
        detokenizer = Detokenizer(byte_level())
        shown = detokenizer.feed(ids[:-num_missing])
        assert shown + detokenizer.finish(cut=True) == "ab"


@pytest.mark.parametrize("text", ["日本語 plain ", "\ufffd", "x"])
def test_the_work_grows_linearly_with_the_output(text):
    def decoded_per_token(repeats: int) -> float:
        ids = byte_level().encode(text * repeats).ids
        counting = Counting(byte_level())
        stream(counting, ids, [1])
        return counting.num_decoded / len(ids)

    assert decoded_per_token(1600) < 1.2 * decoded_per_token(200) + 1


def test_special_tokens_are_skipped_by_the_thousand_and_without_hurt_to_their_neighbours():
    tokenizer = chat_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    hi = tokenizer.encode("hi 日", add_special_tokens=False)
    counting = Counting(tokenizer)
    shown, _ = stream(counting, [*hi, *[end] * 2000, *hi], [1])
    assert "".join(shown) == "hi 日hi 日"
    assert counting.num_decoded < 200 * 2000


def letters(text: str) -> list[int]:
    return [ord(char) for char in text]


def until_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The stop text that is complete first ends the text; the longest of several."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


def test_stop_texts_cut_at_the_first_that_is_complete_however_the_text_is_cut_up():
    rng = random.Random(3)
    num_stopped = 0
    for _ in range(3000):
        text = "".join(rng.choices("ab", k=rng.randint(0, 14)))
        stops = ["".join(rng.choices("ab", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 3))]
        expected, found = until_stop(text, stops)
        sizes = rng.choice([[1], [2], [3, 1], [100]])
        shown, detokenizer = stream(Letters(), letters(text), sizes, stops)
        assert ("".join(shown), detokenizer.stopped) == (expected, found), (text, stops)
        num_stopped += found
    assert 500 < num_stopped < 2900


def test_no_part_of_a_stop_text_is_shown_and_what_is_not_one_comes_when_that_is_certain():
    detokenizer = Detokenizer(Letters(), ["STOP", "OPAL"])
    shown = [detokenizer.feed([ord(char)]) for char in "a STO STOPAL"]
    assert shown[:7] == ["a", " ", "", "", "", "STO ", ""]
    assert detokenizer.stopped
    assert "".join(shown) + detokenizer.finish() == "a STO "


def test_a_stop_text_in_the_making_is_shown_when_the_output_ends():
    for cut in (False, True):
        detokenizer = Detokenizer(Letters(), ["END"])
        assert detokenizer.feed(letters("the EN")) == "the "
        assert detokenizer.finish(cut=cut) == "EN"
        assert not detokenizer.stopped


def test_a_stop_text_that_finish_completes_still_stops():
    detokenizer = Detokenizer(byte_level(), ["\ufffd"])
    assert detokenizer.feed(byte_level().encode("a\ufffd").ids) == "a"
    assert detokenizer.finish() == ""
    assert detokenizer.stopped


def test_take_tells_the_token_that_completed_the_stop_text():
    ids = letters("one. two. three")
    for sizes in ([1], [3], [100]):
        detokenizer = Detokenizer(Letters(), [". t"])
        taken, text = 0, ""
        for part in pieces(ids, sizes):
            fresh, num_taken = detokenizer.take(part)
            text, taken = text + fresh, taken + num_taken
            if detokenizer.stopped:
                break
        assert (text, taken) == ("one", len("one. t"))


def test_nothing_is_taken_after_a_stop_text():
    detokenizer = Detokenizer(Letters(), ["x"])
    assert detokenizer.feed(letters("axb")) == "a"
    assert detokenizer.feed(letters("more")) == ""
    assert detokenizer.finish() == ""


def test_a_stop_text_of_100000_characters_costs_no_more_than_a_short_one_per_character():
    stop = "a" * 99_999 + "b"
    detokenizer = Detokenizer(Letters(), [stop])
    text = "a" * 20_000
    shown = "".join(detokenizer.feed(part) for part in pieces(letters(text), [100]))
    assert shown == ""
    assert detokenizer.finish() == text
