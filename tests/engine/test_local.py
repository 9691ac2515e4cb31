import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise, product

import pytest

from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedPair
from dflash_app.engine.worker import Worker
from dflash_app.errors import GenerationFailed, PromptTooLong, RequestError
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone, TextDelta
from dflash_app.metrics import summarize
from dflash_app.request import GenerationRequest, Message, SamplingParams
from tests.engine.scripted import Costs, ScriptedModels, output, reason
from tests.engine.tiny_tokenizers import chat_tokenizer

ANSWER = "196 = 2² · 7², so 日本 👩 (2+1)·(2+1) = 9 divisors."
REQUEST = GenerationRequest(messages=(Message("user", "How many?"),), max_new_tokens=500)
TOKENIZER = chat_tokenizer()
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
PROMPT_IDS = TOKENIZER.apply_chat_template(
    [{"role": "user", "content": "How many?"}], add_generation_prompt=True, return_dict=False
)
ANSWER_IDS = TOKENIZER.encode(ANSWER, add_special_tokens=False)


def answering(prefix: Sequence[int]) -> int:
    """A target that gives the answer and ends its turn; garbage after any other prefix."""
    ids = [*PROMPT_IDS, *ANSWER_IDS, END]
    right = len(prefix) < len(ids) and list(prefix) == ids[: len(prefix)]
    return ids[len(prefix)] if right else (sum(prefix) * 31) % 300


@pytest.fixture
def models() -> ScriptedModels:
    return ScriptedModels(next_token=answering, accepts=(2, 0, 3, 1), eos_ids=frozenset({END}))


@pytest.fixture
def pair(models) -> Iterator[LocalPair]:
    pair = LocalPair(
        name="scripted",
        backend="none",
        tokenizer=TOKENIZER,
        models=models,
        worker=Worker("test-local"),
        now=models.time,
    )
    yield pair
    pair.close()


def text(events: Sequence[DecodeEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_local_pair_is_a_loaded_pair_and_tells_what_it_runs_on(pair):
    loaded: LoadedPair = pair
    assert (loaded.name, loaded.backend, loaded.device) == ("scripted", "none", "cpu")
    assert (loaded.dtype, loaded.block_size, loaded.context_length) == ("float32", 4, 10_000)
    assert loaded.memory_bytes() == 1234


@pytest.mark.parametrize("mode", ["ar", "dflash"])
def test_a_run_streams_the_answer_and_ends_at_the_stop_token(pair, models, mode):
    events = list(pair.stream(replace(REQUEST, mode=mode)))
    assert text(events) == ANSWER
    assert output(events) == [*ANSWER_IDS, END]
    assert reason(events) == "stop"
    assert isinstance(events[0], PrefillDone)
    assert events[0].num_prompt_tokens == len(PROMPT_IDS)
    assert [lane.closed for lane in models.lanes] == [1]


def test_text_follows_the_tokens_that_it_came_from(pair):
    events = list(pair.stream(REQUEST))
    assert not isinstance(events[0], TextDelta)
    assert all(event.text for event in events if isinstance(event, TextDelta))
    for before, after in pairwise(events):
        assert not (isinstance(before, TextDelta) and isinstance(after, TextDelta))


def test_ar_drafts_nothing_and_dflash_drafts_the_block_without_its_anchor(pair, models):
    for request in (
        replace(REQUEST, mode="ar"),
        REQUEST,
        replace(REQUEST, block_size=8),
    ):
        list(pair.stream(request))
    assert [max(lane.proposed) for lane in models.lanes] == [0, 3, 7]


def stop_cases() -> list[tuple[str, ...]]:
    return [("divisors",), ("so",), ("2",), ("日本",), ("zzz",), (" 7", "= 9"), ("196 =",), (".",)]


@pytest.mark.parametrize("stop", stop_cases())
def test_a_stop_text_ends_ar_and_dflash_at_the_same_token(pair, models, stop):
    expected = min((ANSWER.partition(each)[0] for each in stop), key=len)
    plain = list(pair.stream(replace(REQUEST, mode="ar", stop=stop)))
    assert text(plain) == expected
    assert reason(plain) == "stop"
    assert TOKENIZER.decode(output(plain)).startswith(expected)
    for accepts in product(range(4), repeat=2):
        models.accepts = accepts
        drafted = list(pair.stream(replace(REQUEST, stop=stop)))
        assert text(drafted) == expected
        assert output(drafted) == output(plain)
        assert reason(drafted) == "stop"


def test_without_a_chat_template_a_reply_ends_where_the_model_asks_itself(models):
    tokenizer = chat_tokenizer(None)
    answer = tokenizer.encode(" Nine.\nUser: And 197?", add_special_tokens=False)
    prompt_ids = tokenizer.encode("User: How many?\nAssistant:", add_special_tokens=False)
    models.next_token = lambda ids: [*answer, END][min(len(ids) - len(prompt_ids), len(answer))]
    pair = LocalPair(
        name="plain", backend="none", tokenizer=tokenizer, models=models,
        worker=Worker("test-plain"), now=models.time,
    )  # fmt: skip
    with closing(pair):
        for mode in ("ar", "dflash"):
            events = list(pair.stream(replace(REQUEST, mode=mode)))
            assert text(events) == " Nine."
            assert reason(events) == "stop"


@pytest.mark.parametrize("limit", range(1, 24))
def test_the_limit_cuts_ar_and_dflash_alike_and_never_inside_a_character(pair, limit):
    plain = list(pair.stream(replace(REQUEST, mode="ar", max_new_tokens=limit)))
    drafted = list(pair.stream(replace(REQUEST, max_new_tokens=limit)))
    assert output(plain) == output(drafted) == ANSWER_IDS[:limit]
    assert text(plain) == text(drafted) == TOKENIZER.decode(ANSWER_IDS[:limit]).rstrip("\ufffd")
    assert reason(plain) == reason(drafted) == "length"


def test_the_prompt_may_fill_the_context_but_not_exceed_it(pair, models):
    models.context_length = len(PROMPT_IDS)
    events = list(pair.stream(REQUEST))
    assert output(events) == ANSWER_IDS[:1]
    assert reason(events) == "length"
    models.context_length = len(PROMPT_IDS) - 1
    with pytest.raises(PromptTooLong, match=f"{len(PROMPT_IDS)} tokens .* {len(PROMPT_IDS) - 1}:"):
        pair.stream(REQUEST)
    with pytest.raises(PromptTooLong):
        pair.race([REQUEST])
    assert len(models.lanes) == 1


@pytest.mark.parametrize("room", [3, 7, 12])
def test_the_output_is_clipped_to_the_context(pair, models, room):
    models.context_length = len(PROMPT_IDS) + room
    for mode in ("ar", "dflash"):
        events = list(pair.stream(replace(REQUEST, mode=mode)))
        assert output(events) == ANSWER_IDS[: room + 1]
        assert reason(events) == "length"


@pytest.mark.parametrize(
    ("own", "asked", "message"),
    [(None, None, "No drafter is loaded"), (None, 4, "No drafter"), (4, 9, "at most 8")],
)
def test_a_block_that_no_drafter_can_draft_is_refused_before_anything_is_computed(
    pair, models, own, asked, message
):
    models.block_size = own
    with pytest.raises(RequestError, match=message):
        pair.stream(replace(REQUEST, block_size=asked))
    assert models.lanes == []
    assert reason(list(pair.stream(replace(REQUEST, mode="ar")))) == "stop"


def test_closing_the_stream_ends_the_run_within_a_step_and_closes_the_lane(pair, models):
    in_step, go_on = threading.Event(), threading.Event()

    def step() -> None:
        in_step.set()
        assert go_on.wait(10)

    models.on_verify = step
    stream = pair.stream(REQUEST)
    assert isinstance(next(stream), PrefillDone)
    assert in_step.wait(10)
    stream.close()
    go_on.set()
    pair._worker.call(lambda: None)
    assert models.lanes[0].num_verified == 1
    assert models.lanes[0].closed == 1
    models.on_verify = lambda: None
    assert text(list(pair.stream(REQUEST))) == ANSWER


def test_an_error_in_the_loop_reaches_the_reader_and_closes_the_lane(pair, models):
    def fail() -> None:
        raise RuntimeError("CUDA error: device-side assert")

    models.on_verify = fail
    with pytest.raises(GenerationFailed, match="device-side assert"):
        list(pair.stream(REQUEST))
    assert models.lanes[0].closed == 1


def test_an_error_in_one_lane_ends_the_race_and_closes_every_lane(pair, models):
    def fail() -> None:
        raise MemoryError

    models.on_verify = fail
    with pytest.raises(GenerationFailed, match="out of memory"):
        list(pair.race([REQUEST, replace(REQUEST, mode="ar")]))
    assert [lane.closed for lane in models.lanes] == [1, 1]


def test_a_stream_may_reuse_the_turn_before_and_a_race_may_not(pair, models):
    list(pair.stream(REQUEST))
    list(pair.race([REQUEST, replace(REQUEST, mode="ar")]))
    assert models.prompts == [PROMPT_IDS, None, None]


def test_a_savepoint_is_set_before_the_replys_opening_and_in_no_race(pair, models):
    models.need_savepoints = True
    list(pair.stream(REQUEST))
    list(pair.race([REQUEST]))
    messages = [{"role": "user", "content": "How many?"}]
    closed = TOKENIZER.apply_chat_template(messages, return_dict=False)
    assert PROMPT_IDS[: len(closed)] == closed != PROMPT_IDS
    assert [lane.savepoints for lane in models.lanes] == [[len(closed)], []]


@pytest.mark.parametrize(("need_savepoints", "num_encodings"), [(False, 1), (True, 2)])
def test_a_prompt_is_encoded_twice_only_for_caches_that_need_savepoints(
    pair, models, monkeypatch, need_savepoints, num_encodings
):
    models.need_savepoints = need_savepoints
    asked: list[bool] = []
    render = TOKENIZER.apply_chat_template

    def listen(conversation, *, add_generation_prompt, **options):
        asked.append(add_generation_prompt)
        return render(conversation, add_generation_prompt=add_generation_prompt, **options)

    monkeypatch.setattr(TOKENIZER, "apply_chat_template", listen)
    list(pair.stream(REQUEST))
    assert asked == [True, False][:num_encodings]


def lanes_of(events: Sequence[tuple[int, DecodeEvent]], count: int) -> list[list[DecodeEvent]]:
    return [[event for lane, event in events if lane == index] for index in range(count)]


def test_a_race_gives_each_lane_what_it_would_give_alone_times_included(pair, models):
    models.costs = Costs(0.01, 0.5, 1.0)
    requests = [replace(REQUEST, mode="ar"), REQUEST, replace(REQUEST, block_size=2)]
    together = lanes_of(list(pair.race(requests)), 3)
    for request, events in zip(requests, together, strict=True):
        alone = list(pair.stream(request))
        assert len(alone) == len(events)
        for one, other in zip(alone, events, strict=True):
            if isinstance(one, StepDone):
                assert isinstance(other, StepDone)
                assert other.elapsed_s == pytest.approx(one.elapsed_s)
                assert other.token_ids == one.token_ids
            elif isinstance(one, TextDelta | Finished):
                assert type(one) is type(other)
        assert text(events) == text(alone) == ANSWER
        assert summarize(events).decode_tok_s == pytest.approx(summarize(alone).decode_tok_s)


def test_in_a_race_no_lane_decodes_before_every_prompt_is_read(pair, models):
    events = list(pair.race([REQUEST] * 3))
    kinds = [(lane, type(event)) for lane, event in events if not isinstance(event, TextDelta)]
    assert kinds[:3] == [(0, PrefillDone), (1, PrefillDone), (2, PrefillDone)]


def test_the_lane_whose_clock_is_behind_moves_next(pair, models):
    models.costs = Costs(0.01, 0.5, 1.0)
    clocks = {0: 0.0, 1: 0.0}
    reading, racing, order = {0, 1}, {0, 1}, []
    for lane, event in pair.race([replace(REQUEST, mode="ar"), REQUEST]):
        if isinstance(event, TextDelta):
            continue
        if not reading and len(racing) == 2 and isinstance(event, StepDone):
            assert clocks[lane] == min(clocks.values())
            order.append(lane)
        clocks[lane] = event.elapsed_s
        reading.discard(lane)
        if isinstance(event, Finished):
            racing.discard(lane)
    # A plain step costs 1.0 and a drafted one 1.5, so AR moves three times to DFlash's two.
    assert order[:10].count(0) == 6
    assert order[:10].count(1) == 4


def test_closing_a_race_closes_every_lane(pair, models):
    race = pair.race([REQUEST, replace(REQUEST, mode="ar")])
    for _ in range(4):
        next(race)
    race.close()
    pair._worker.call(lambda: None)
    assert [lane.closed for lane in models.lanes] == [1, 1]


def test_the_clock_starts_when_the_worker_takes_the_job_up(pair, models):
    models.costs = Costs(0.0, 0.0, 1.0)
    stream = pair.stream(replace(REQUEST, mode="ar"))
    models.time.spend(100.0)
    events = list(stream)
    num_steps = sum(isinstance(event, StepDone) for event in events)
    assert events[-1] == Finished("stop", float(num_steps))


def test_requests_checked_on_many_threads_give_the_same_prompts(pair):
    results: list[list[DecodeEvent]] = []
    threads = [
        threading.Thread(target=lambda: results.append(list(pair.stream(REQUEST))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [text(events) for events in results] == [ANSWER] * 8


def test_next_logits_follow_the_prompt_and_the_output(pair, models):
    given = pair.next_logits(REQUEST, ANSWER_IDS[:3], [ANSWER_IDS[3], 7])
    assert given == (1.0, 0.0)
    models.context_length = len(PROMPT_IDS) + 2
    with pytest.raises(PromptTooLong):
        pair.next_logits(REQUEST, ANSWER_IDS[:3], [7])


def test_next_logits_are_those_that_greedy_decoding_compares(pair):
    penalised = replace(REQUEST, sampling=SamplingParams(repetition_penalty=4.0))
    given = {}
    for index, token_id in enumerate(ANSWER_IDS):
        came_before = token_id in [*PROMPT_IDS, *ANSWER_IDS[:index]]
        given[came_before] = pair.next_logits(penalised, ANSWER_IDS[:index], [token_id])
    assert given == {True: (0.25,), False: (1.0,)}


def test_token_texts_show_spaces_and_special_tokens_one_by_one(pair):
    ids = TOKENIZER.encode("How many<|im_end|>", add_special_tokens=False)
    texts = pair.token_texts(ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == "How many<|im_end|>"
    assert pair.token_texts([]) == []


def test_closing_the_pair_frees_the_models_once_and_ends_its_streams(pair, models):
    stream = pair.stream(REQUEST)
    pair.close()
    pair.close()
    assert models.closed == 1
    with pytest.raises(GenerationFailed, match="load it again"):
        next(stream)
    with pytest.raises(GenerationFailed, match="load it again"):
        pair.next_logits(REQUEST, [], [1])


def test_start_up_is_told_by_models_that_record_and_is_none_for_others(pair):
    class Recording(ScriptedModels):
        startup_s = 0.8

    assert pair.startup_s == 0.0
    with closing(
        LocalPair(
            name="scripted",
            backend="none",
            tokenizer=TOKENIZER,
            models=Recording(),
            worker=Worker("test-recording"),
        )
    ) as recording:
        assert recording.startup_s == 0.8
