"""A choice says what to load and how."""

import os

import pytest

from dflash_app.errors import RequestError
from dflash_app.ui.choice import Choice, page_threads, read_choice
from tests.ui.stage import bar


def test_a_choice_is_read_from_the_widgets() -> None:
    assert read_choice(bar()) == Choice("scripted", "dflash", None, None, None, backend="script")
    chosen = read_choice(["a", "b", "8", "bfloat16", "cpu", "auto"])
    assert chosen == Choice("b", "dflash", 8, "bfloat16", "cpu")
    for bits in ("nf4", "int8", "4bit", "8bit"):
        options = read_choice(["a", "b", "auto", bits, "auto", None]).options()
        assert (options.quantization, options.dtype) == (bits, None)
    plain = read_choice(["a", "none", "8", "auto", "auto", "mlx"])
    assert plain == Choice("a", "ar", None, None, None, backend="mlx")


def test_a_block_size_that_is_no_number_is_refused() -> None:
    with pytest.raises(RequestError, match="no block size"):
        read_choice(["scripted", "scripted", "many", "auto", "auto", "auto"])


def test_a_core_is_left_to_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (16, 15)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert page_threads() == threads
        assert read_choice(bar()).options().num_threads == threads
