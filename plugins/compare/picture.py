"""The card of a race as a PNG: drawn here, without a browser or a network."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image, ImageDraw

from dflash_app.ui.format import (
    format_bytes,
    format_count,
    format_decimal,
    format_duration,
    format_speed,
    format_when,
)

from .fonts import clean, draw_text, num_undrawn, width, wrap
from .outcome import LaneOutcome, RaceOutcome
from .render import explain, names_of, say_measured, say_saved, say_speedup, say_what, say_word
from .words import speaking_drawable, texts

WIDTH, MARGIN = 1200, 56
_INNER = WIDTH - 2 * MARGIN
_PAPER, _PANEL, _INK, _QUIET = "#0f172a", "#1e293b", "#f1f5f9", "#94a3b8"
_COLOURS = {"ar": "#94a3b8", "dflash": "#818cf8"}
_GOOD, _BAD = "#4ade80", "#fbbf24"
_MAX_LINES, _MAX_CHARACTERS = 3, 2000
_LIBRARIES = ("python", "torch", "transformers", "mlx", "mlx-lm")


class _Pen:
    """Draws downwards on a picture that is cut to what was drawn."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, 2400), _PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.y = float(MARGIN)

    def text(
        self, text: str, size: int, colour: str = _INK, *, x: float = MARGIN, lines: int = 1
    ) -> None:
        """Write below what is there, wrapped, in at most so many lines."""
        # A prompt may be as long as a book, and only its beginning finds room.
        for line in wrap(clean(text)[:_MAX_CHARACTERS], size, WIDTH - MARGIN - x, lines):
            self.y += size * 1.2
            draw_text(self.draw, (x, self.y), line, size, colour)
            self.y += size * 0.2

    def gap(self, pixels: float) -> None:
        """Leave room."""
        self.y += pixels

    def png(self) -> bytes:
        """The picture as far as it was drawn."""
        out = io.BytesIO()
        self.image.crop((0, 0, WIDTH, min(int(self.y) + MARGIN, 2400))).save(out, "PNG")
        return out.getvalue()


def draw_card(outcome: RaceOutcome, *, with_prompt: bool) -> bytes:
    """The card as a PNG.

    Args:
        outcome: of the race.
        with_prompt: False leaves the prompt and every word of the outputs out.
    """
    with speaking_drawable(lambda text: num_undrawn(clean(text)) == 0):
        pen = _Pen()
        first = outcome.lanes[0].start
        pen.text(f"{texts.say('card_title')} · {first.pair}", 34)
        pen.text(format_when(first.started_at), 19, _QUIET)
        pen.gap(14)
        if with_prompt:
            _draw_prompt(pen, outcome.prompt)
        fastest = max(lane.metrics.decode_tok_s or 0.0 for lane in outcome.lanes)
        baseline = outcome.lanes[outcome.baseline]
        for lane, name in zip(outcome.lanes, names_of(outcome), strict=True):
            _draw_lane(pen, lane, baseline, name, fastest)
            if lane is not baseline:
                _draw_verdict(pen, lane, baseline, words=with_prompt)
            pen.gap(18)
        _draw_facts(pen, outcome)
        return pen.png()


def _draw_prompt(pen: _Pen, prompt: str) -> None:
    pen.text(texts.say("card_prompt"), 18, _QUIET)
    pen.text(prompt, 24, lines=_MAX_LINES)
    undrawn = num_undrawn(clean(prompt))
    if undrawn:
        pen.text(texts.say("card_undrawn", count=format_count(undrawn)), 17, _QUIET)
    pen.gap(16)


def _draw_lane(
    pen: _Pen, lane: LaneOutcome, baseline: LaneOutcome, name: str, fastest: float
) -> None:
    metrics, colour = lane.metrics, _COLOURS[lane.start.mode]
    top = pen.y
    pen.text(name, 25, colour)
    below, pen.y = pen.y, top
    if lane.speedup is not None:
        ratio = say_speedup(lane, baseline)
        draw_text(pen.draw, (WIDTH - MARGIN - width(ratio, 52), top + 46), ratio, 52, _INK)
    pen.y = below + 6
    share = (metrics.decode_tok_s or 0.0) / fastest if fastest else 0.0
    bar = _INNER - 190
    pen.draw.rounded_rectangle((MARGIN, pen.y, MARGIN + bar, pen.y + 18), 9, fill=_PANEL)
    if share:
        end = MARGIN + max(18.0, bar * share)
        pen.draw.rounded_rectangle((MARGIN, pen.y, end, pen.y + 18), 9, fill=colour)
    pen.gap(20)
    figures = texts.say(
        "card_lane",
        speed=format_speed(metrics.decode_tok_s),
        time=format_duration(metrics.total_s),
        tokens=format_count(metrics.num_output_tokens),
        steps=format_count(metrics.num_steps),
    )
    if metrics.mean_acceptance_length is not None:
        length = format_decimal(metrics.mean_acceptance_length)
        figures += f" · {texts.say('card_acceptance', length=length)}"
    pen.text(figures, 21)


def _draw_verdict(pen: _Pen, lane: LaneOutcome, baseline: LaneOutcome, *, words: bool) -> None:
    found = lane.verdict
    if found is None:
        return
    same = found.identical and found.num_compared
    sign = "= " if same else "" if found.identical else "≠ "
    pen.text(sign + say_word(lane, found), 22, _GOOD if same else _BAD)
    explained = " ".join(explain(lane, baseline, words=words))
    if explained:
        pen.text(explained, 18, _QUIET, lines=4)
    pen.text(say_saved(lane, baseline), 18, _QUIET)
    if lane.speedup is not None:
        what = f"{say_speedup(lane, baseline)} {say_what(lane, baseline)}"
        pen.text(f"{what}. {say_measured(lane, baseline)}", 18, _QUIET, lines=3)


def _draw_facts(pen: _Pen, outcome: RaceOutcome) -> None:
    pen.draw.line((MARGIN, pen.y, WIDTH - MARGIN, pen.y), fill=_PANEL, width=2)
    pen.gap(10)
    for key, values in _facts(outcome).items():
        said = "; ".join(dict.fromkeys(values))
        if said:
            pen.text(f"{texts.say(key)}: {said}", 18, _QUIET, lines=2)


def _facts(outcome: RaceOutcome) -> dict[str, Iterable[str]]:
    """What it ran on and with, by the key of its name; what is empty is not drawn."""
    lanes, start = outcome.lanes, outcome.lanes[0].start
    version = f"DFlash Studio {start.app_version}"
    versions = start.library_versions
    libraries = [f"{name} {versions[name]}" for name in _LIBRARIES if name in versions]
    return {
        "card_target": [_at(lane.target, lane.start.target_revision, lane) for lane in lanes],
        "card_drafter": [
            _at(lane.drafter, lane.start.drafter_revision, lane) for lane in lanes if lane.drafter
        ],
        "card_place": [
            texts.say("on_server") if lane.start.on_server else lane.start.place for lane in lanes
        ],
        "card_settings": [_settings(outcome)],
        "card_client" if _all_served(lanes) else "card_machine": [_machine(start.hardware)],
        "card_versions": [", ".join([version, *libraries])],
    }


def _all_served(lanes: Sequence[LaneOutcome]) -> bool:
    return all(lane.start.on_server for lane in lanes)


def _at(source: str, revision: str | None, lane: LaneOutcome) -> str:
    if lane.start.on_server:
        return f"{source} ({lane.start.path or texts.say('on_server')})"
    if source.startswith("embedded:"):
        version = f"DFlash Studio {lane.start.app_version}"
        return f"{source} ({texts.say('shipped', version=version)})"
    return f"{source} @ {revision[:12] if revision else texts.say('no_revision')}"


def _settings(outcome: RaceOutcome) -> str:
    """By the names that the command line gives them; what is as usual is left out."""
    start, threads = outcome.lanes[0].start, outcome.lanes[0].spec.options.num_threads
    said: dict[str, object] = {"temperature": start.temperature}
    said["max_new_tokens"] = start.max_new_tokens
    usual = {"top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1}
    said |= {name: getattr(start, name) for name in usual if getattr(start, name) != usual[name]}
    named = {"seed": start.seed, "thinking": start.thinking}
    named |= {"threads": threads if start.device == "cpu" else None}
    said |= {name: value for name, value in named.items() if value is not None}
    return ", ".join(f"{name}={value}" for name, value in said.items())


def _machine(hardware: dict[str, Any]) -> str:
    ram, cores = hardware.get("ram_bytes"), hardware.get("cores")
    parts = [
        *(hardware.get("gpus") or ()),
        hardware.get("cpu"),
        texts.say("card_cores", count=cores) if cores else None,
        format_bytes(ram) if ram else None,
        hardware.get("os"),
    ]
    return ", ".join(str(part) for part in parts if part)
