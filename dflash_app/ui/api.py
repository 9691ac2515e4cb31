"""The page's API: three named endpoints for programs, beside the page and in the same line."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import gradio as gr

from dflash_app.errors import DFlashAppError, PairNotReady, RequestError
from dflash_app.events import DecodeEvent
from dflash_app.race import RaceLane, end_to_end_speedup, speedup, warm_up
from dflash_app.request import GenerationRequest, Message, SamplingParams
from dflash_app.spaces.public import check_limits
from dflash_app.ui.choice import Choice
from dflash_app.ui.format import well_formed
from dflash_app.ui.live import LiveRun
from dflash_app.ui.model_bar import first_ready
from dflash_app.ui.run_view import RunView
from dflash_app.ui.sampling import as_mode
from dflash_app.ui.shell import Page
from dflash_app.verdict import Verdict, verdict

SOURCE = "api"
"""Of the runs in the log."""
FIGURES = (
    "num_prompt_tokens", "num_output_tokens", "num_steps", "queue_s", "ttft_s", "decode_s",
    "decode_tok_s", "end_to_end_tok_s", "mean_acceptance_length", "at_client",
    "acceptance_source", "acceptance_shared",
)  # fmt: skip
"""What an answer holds of `RunMetrics`; docs/metrics.md defines each."""
_WARM_UP_TOKENS = 8
_BROKEN = "The run broke off by an error of the app itself: try again, and report it."

_gr: Any = gr  # what it exports has no type
Answer = dict[str, Any]
ItemT = TypeVar("ItemT")


def build_api(page: Page) -> None:
    """Add the endpoints to the page that is being built."""
    api = Api(page)
    for endpoint in (api.pairs, api.chat, api.compare):
        # Our own line says who comes next, and refuses: Gradio's must not hold anybody back.
        _gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints. Gradio makes their description of the types and docstrings below."""

    page: Page

    def pairs(self) -> list[dict[str, Any]]:
        """List the pairs of target and drafter that this page knows.

        Returns:
            For each: name, title, family, status ("ready" can be used now), reason (why not),
            block_size (of the drafter, None without one).
        """
        listed = []
        for pair in self.page.workspace.pairs():
            state = self.page.workspace.state(pair.name)
            listed.append(
                {
                    "name": pair.name,
                    "title": pair.title,
                    "family": pair.family,
                    "status": state.status,
                    "reason": self.page.told(state.reason) if state.reason else None,
                    "block_size": pair.block_size,
                }
            )
        return listed

    def chat(  # noqa: PLR0917 Gradio calls by place, whatever programs do
        self,
        message: str,
        pair: str = "",
        mode: Literal["dflash", "ar"] = "dflash",
        history: list[dict[str, str]] | None = None,
        system: str = "",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        thinking: str | None = None,
        block_size: int | None = None,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        stop: list[str] | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[Answer]:
        """Answer a message; the text so far comes ten times a second.

        Args:
            message: what the user says.
            pair: name of a pair, as `pairs` lists them; "" takes the first that is ready.
            mode: "dflash" drafts blocks, "ar" decodes token by token.
            history: earlier turns, each with role ("user" or "assistant") and content.
            system: system prompt.
            max_new_tokens: most tokens of the answer.
            temperature: from 0 (always the likeliest token) to 2.
            top_p: nucleus mass above 0, up to 1.
            top_k: candidates kept; 0 keeps all.
            seed: makes sampling repeatable.
            thinking: "on", "off" or a level of the model's template.
            block_size: tokens of a block, anchor included; None takes the drafter's own.
            min_p: least probability kept, as a part of the likeliest token's; 0 keeps all.
            repetition_penalty: above 1 makes tokens that came before less likely; 1 is none.
            stop: texts that end the answer and are not part of it.
            request: Gradio's own; programs do not send it.

        Returns:
            state ("waiting", "loading", "running", "ended"), place (in the queue, 1 is next; None
            once it runs), text (so far), finish_reason (at the end), figures.
        """
        with self._refusing():
            turns = _read_turns(message, history, system)
            wanted = GenerationRequest(
                messages=turns,
                max_new_tokens=max_new_tokens,
                stop=_read_stop(stop),
                sampling=SamplingParams(temperature, top_p, top_k, min_p, repetition_penalty, seed),
                mode=mode,
                block_size=block_size,
                thinking=thinking,
            )
            choice = self._choose(pair, wanted)
        view = RunView()
        owner = self._owner(request)

        def decode() -> Iterator[DecodeEvent]:
            loaded = self.page.load(choice)
            return self.page.workspace.run(loaded, wanted, source=SOURCE, owner=owner)

        for run, events in self._looks(request, decode):
            view.add(events)
            yield {**_say_state(run), **_say_run(view)}

    def compare(  # noqa: PLR0917
        self,
        message: str,
        pair: str = "",
        system: str = "",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        block_size: int | None = None,
        top_p: float = 1.0,
        top_k: int = 0,
        thinking: str | None = None,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        stop: list[str] | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[Answer]:
        """Race plain decoding against DFlash on one message, under one fair clock.

        Args:
            message: what the user says.
            pair: name of a pair with a drafter; "" takes the first that is ready.
            system: system prompt.
            max_new_tokens: most tokens of each lane.
            temperature: from 0 (always the likeliest token) to 2.
            seed: makes sampling repeatable.
            block_size: tokens of a block, anchor included; None takes the drafter's own.
            top_p: nucleus mass above 0, up to 1.
            top_k: candidates kept; 0 keeps all.
            thinking: "on", "off" or a level of the model's template.
            min_p: least probability kept, as a part of the likeliest token's; 0 keeps all.
            repetition_penalty: above 1 makes tokens that came before less likely; 1 is none.
            stop: texts that end each lane and are not part of it.
            request: Gradio's own; programs do not send it.

        Returns:
            state and place as of `chat`; ar and dflash, each with text, finish_reason and figures;
            at the end speedup (of decoding), end_to_end_speedup (with the prompt) and verdict
            (identical, explanation, position).
        """
        with self._refusing():
            turns = _read_turns(message, None, system)
            wanted = GenerationRequest(
                messages=turns,
                max_new_tokens=max_new_tokens,
                stop=_read_stop(stop),
                sampling=SamplingParams(temperature, top_p, top_k, min_p, repetition_penalty, seed),
                block_size=block_size,
                thinking=thinking,
            )
            choice = self._choose(pair, wanted)
        race = _Race(self.page, choice, wanted, self._owner(request))
        for run, items in self._looks(request, race.decode):
            for lane, event in items:
                race.views[lane].add([event])
            yield {**_say_state(run), **race.say()}

    def _choose(self, pair: str, wanted: GenerationRequest) -> Choice:
        """What is to be loaded; the page's own choice where no pair is named.

        Raises:
            DFlashAppError: the request is too much for a public page, or the pair cannot be used.
        """
        check_limits([wanted], self.page.workspace.settings.public)  # before any lane warms up
        name = pair or first_ready(self.page.workspace)
        if not isinstance(name, str):
            raise PairNotReady("No pair is ready here: download one first.")
        if wanted.mode == "dflash" and self.page.workspace.registry.get(name).drafter is None:
            raise PairNotReady(f"{name} has no drafter: choose another pair, or the mode 'ar'.")
        choice = Choice(name, wanted.mode, wanted.block_size, None, None)
        self.page.check_ready(choice)
        return choice

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """What is wrong with a request, as the sentence that Gradio passes on."""
        try:
            yield
        except DFlashAppError as error:
            raise gr.Error(self.page.told(error), print_exception=False) from error

    def _owner(self, request: gr.Request | None) -> str | None:
        return self.page.owner(request) if request is not None else None

    def _looks(
        self, request: gr.Request | None, source: Callable[[], Iterator[ItemT]]
    ) -> Iterator[tuple[LiveRun[ItemT], list[ItemT]]]:
        """Run in the page's line; each request is on its own, also where a program sends several.

        Raises:
            gr.Error: what the run failed with.
        """
        asked, place = request or gr.Request(), f"{SOURCE}-{uuid.uuid4().hex}"
        run = self.page.start(asked, place, source)
        try:
            for items in run.looks():
                if run.phase == "ended" and (run.error is not None or run.broken):
                    raise gr.Error(str(run.error or _BROKEN), print_exception=False)
                yield run, items
        finally:
            self.page.drop(asked, place)


class _Race:
    """Two lanes of one message as they grow."""

    def __init__(
        self, page: Page, choice: Choice, wanted: GenerationRequest, owner: str | None
    ) -> None:
        self._page, self._choice, self._owner = page, choice, owner
        self._requests = [as_mode(wanted, "ar"), wanted]
        self.views = [RunView(), RunView()]
        self.verdict: Verdict | None = None

    def decode(self) -> Iterator[tuple[int, DecodeEvent]]:
        """Both lanes, then the verdict; in the reader's thread."""
        loaded = self._page.load(self._choice)
        warm_up([RaceLane(loaded, each) for each in self._requests], max_tokens=_WARM_UP_TOKENS)
        plain, drafted = seen = [RunView(colour=False), RunView(colour=False)]
        workspace = self._page.workspace
        for lane, event in workspace.race(loaded, self._requests, source=SOURCE, owner=self._owner):
            seen[lane].add([event])
            yield lane, event
        self.verdict = verdict(
            loaded,
            self._requests[0],
            plain.token_ids,
            drafted.token_ids,
            texts=(plain.text, drafted.text),
        )

    def say(self) -> Answer:
        """Both lanes so far."""
        plain, drafted = (view.metrics() for view in self.views)
        judged = self.verdict
        return {
            "ar": _say_run(self.views[0]),
            "dflash": _say_run(self.views[1]),
            "speedup": speedup(plain, drafted) if judged else None,
            "end_to_end_speedup": end_to_end_speedup(plain, drafted) if judged else None,
            "verdict": _say_verdict(judged) if judged else None,
        }


def _read_turns(message: Any, history: Any, system: Any) -> tuple[Message, ...]:
    """The conversation, of values that may be anything that JSON can be.

    Raises:
        RequestError: they are no conversation.
    """
    turns = history or []
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise RequestError('history must be a list of {"role": ..., "content": ...}.')
    earlier = [Message(turn.get("role"), turn.get("content")) for turn in turns]
    spoken = [Message("system", system)] if system else []
    return (*spoken, *earlier, Message("user", message))


def _read_stop(stop: Any) -> Any:
    """A list as the tuple that a request holds; whatever else it is, the request refuses it."""
    return tuple(stop or ()) if stop is None or isinstance(stop, list) else stop


def _say_state(run: LiveRun[Any]) -> Answer:
    waits = run.phase == "waiting" and run.num_before is not None
    return {"state": run.phase, "place": run.num_before if waits else None}


def _say_run(view: RunView) -> Answer:
    metrics = asdict(view.metrics())
    return {
        "text": well_formed(view.text),
        "finish_reason": view.finished.reason if view.finished else None,
        "figures": {name: metrics[name] for name in FIGURES},
    }


def _say_verdict(found: Verdict) -> Answer:
    return {
        "identical": found.identical,
        "num_compared": found.num_compared,
        "explanation": found.explanation,
        "position": found.position,
        "margin": found.margin,
        "near_tie": found.near_tie,
        "by_text": found.by_text,
    }
