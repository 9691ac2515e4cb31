"""A race as inert HTML: each lane's text and figures, and the outcome."""

from collections.abc import Sequence

from dflash_app.metrics import RunMetrics
from dflash_app.race import LaneSpec, say_ratio
from dflash_app.ui.chat_acts import render_run_link
from dflash_app.ui.components import Card, count_or_unknown, render_cards
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_count,
    format_decimal,
    format_duration,
    format_speed,
)
from dflash_app.verdict import Verdict

from .outcome import LaneOutcome, RaceOutcome
from .words import texts


def lane_ids(specs: Sequence[LaneSpec]) -> list[str]:
    """What the lanes' element ids end in: the mode, with a number from the second one of it on."""
    ids: list[str] = []
    for spec in specs:
        mode = spec.request.mode
        again = sum(each.split("-")[0] == mode for each in ids)
        ids.append(f"{mode}-{again + 1}" if again else mode)
    return ids


def lane_details(specs: Sequence[LaneSpec], precisions: Sequence[str] = ()) -> list[str]:
    """What tells each lane from the others, in a few words; "" where its mode says it all.

    Args:
        specs: of the lanes.
        precisions: what each computes in, once its pair is loaded.
    """
    asked = [spec.options.quantization or spec.options.dtype for spec in specs]
    precisions = precisions or [each or texts.say("auto") for each in asked]
    drafters = {spec.pair for spec in specs if spec.request.mode == "dflash"}
    details = []
    for spec, precision in zip(specs, precisions, strict=True):
        said = []
        if spec.request.mode == "dflash":
            if len(drafters) > 1:
                said.append(spec.pair)
            if spec.request.block_size is not None:
                said.append(texts.say("detail_block", size=spec.request.block_size))
            if spec.request.policy == "adaptive":
                policy = texts.say("drafts_adaptive")
                said.append(texts.say("detail_drafts", policy=policy))
        if len(set(precisions)) > 1:
            said.append(precision)
        details.append(", ".join(said))
    return details


def lane_names(specs: Sequence[LaneSpec], precisions: Sequence[str] = ()) -> list[str]:
    """Each lane in words, with its number where two would be called the same."""
    names = [
        ", ".join(filter(None, [texts.say(f"title_{spec.request.mode}"), detail]))
        for spec, detail in zip(specs, lane_details(specs, precisions), strict=True)
    ]
    return [
        texts.say("numbered", number=number, name=name) if names.count(name) > 1 else name
        for number, name in enumerate(names, start=1)
    ]


def names_of(outcome: RaceOutcome) -> list[str]:
    """The lanes of a race that has ended, in words."""
    specs = [lane.spec for lane in outcome.lanes]
    return lane_names(specs, [lane.precision for lane in outcome.lanes])


def render_lanes(
    specs: Sequence[LaneSpec],
    details: Sequence[str],
    metrics: Sequence[RunMetrics],
    outputs: Sequence[str],
    *,
    waiting: Sequence[bool] = (),
    run_ids: Sequence[int | None] = (),
) -> str:
    """The lanes side by side.

    Args:
        specs: of the lanes.
        details: as from `lane_details`.
        metrics: figures of each.
        outputs: of each, as far as it has come.
        waiting: for each, whether it begins when another has ended; empty: none does.
        run_ids: of each in the run log, None where it is not there; empty: of none.
    """
    pairs = zip(outputs, waiting or [False] * len(specs), strict=True)
    texts_drawn = [render_lane_text(output, waits=waits) for output, waits in pairs]
    links = ["" if run_id is None else render_run_link(run_id) for run_id in run_ids]
    links = links or [""] * len(specs)
    rows = zip(lane_ids(specs), specs, details, metrics, texts_drawn, strict=True)
    linked = zip(rows, links, strict=True)
    return "".join(_render_lane(*row, link=link) for row, link in linked)


def _render_lane(
    lane_id: str, spec: LaneSpec, detail: str, metrics: RunMetrics, output: str, *, link: str
) -> str:
    """One lane: its title, the link to its steps, figures and drawn output."""
    title = escape_html(texts.say(f"title_{spec.request.mode}"))
    hint = escape_html(detail or texts.say(f"hint_{spec.request.mode}"))
    return (
        f'<div class="lane"><div class="lane-title">{title}<small>{hint} {link}</small></div>'
        f'<div id="race-cards-{lane_id}">{lane_cards(metrics)}</div>'
        f'<div id="race-text-{lane_id}">{output}</div></div>'
    )


def lane_cards(metrics: RunMetrics) -> str:
    """The figures of one lane; each lane's clock counts its own work only."""
    speed = "speed_client" if metrics.at_client else "speed"
    acceptance = "acceptance_shared" if metrics.acceptance_shared else "acceptance"
    figures = {
        speed: format_speed(metrics.decode_tok_s),
        "time": format_duration(metrics.total_s),
        "first_token": format_duration(metrics.ttft_s),
        "tokens": count_or_unknown(metrics, metrics.num_output_tokens),
        "steps": count_or_unknown(metrics, metrics.num_steps),
        acceptance: format_decimal(metrics.mean_acceptance_length),
    }
    return render_cards(
        [
            Card(texts.say(key), value, texts.say(f"{key}_hint"), main=key == speed)
            for key, value in figures.items()
        ]
    )


def render_lane_text(text: str, *, waits: bool = False) -> str:
    """A lane's output as it is, without Markdown, so that the two can be compared by eye.

    Args:
        text: as far as it has come.
        waits: another lane runs, and this one begins when that has ended.
    """
    if not text:
        empty = escape_html(texts.say("waits" if waits else "output_here"))
        return f'<div class="lane-text empty" tabindex="0"><div>{empty}</div></div>'
    return f'<div class="lane-text" tabindex="0"><div>{escape_html(text)}</div></div>'


def render_outcome(outcome: RaceOutcome) -> str:
    """Each lane against the baseline: speedup, what was saved, whether the output is the same."""
    drawn = "".join(_render_judged(outcome, index) for index in outcome.others)
    return f'<div class="verdicts" role="status">{drawn}</div>'


def render_command(command: str) -> str:
    """The command with a button that copies it; `COPY_JS` listens."""
    copied = escape_html(texts.say("copied"))
    return (
        '<div class="race-command"><button type="button" data-copy="code" '
        f'data-copied="{copied}">'
        f"{escape_html(texts.say('copy_command'))}</button>"
        f'<code tabindex="0">{escape_html(command)}</code></div>'
    )


def _render_judged(outcome: RaceOutcome, index: int) -> str:
    lane, baseline = outcome.lanes[index], outcome.lanes[outcome.baseline]
    names = names_of(outcome)
    against = texts.say("against", name=names[index], baseline=names[outcome.baseline])
    found = lane.verdict
    judged = "" if found is None else _render_verdict(lane, baseline, found)
    saved = say_saved(lane, baseline)
    hint = escape_html(texts.say("seconds_hint"))
    return (
        f'<div class="verdict">{_render_speedup(lane, baseline)}'
        f"<span>{escape_html(against)}</span>{judged}"
        f'<span class="detail" title="{hint}">{escape_html(saved)}</span>'
        f"{_render_measured(lane, baseline)}{_render_explained(lane, baseline)}</div>"
    )


def _render_speedup(lane: LaneOutcome, baseline: LaneOutcome) -> str:
    ratio = escape_html(say_speedup(lane, baseline))
    what = "" if lane.speedup is None else escape_html(say_what(lane, baseline))
    return f'<span class="speedup">{ratio} <small>{what}</small></span>'


def _render_measured(lane: LaneOutcome, baseline: LaneOutcome) -> str:
    if lane.speedup is None:
        return ""
    return f'<span class="detail">{escape_html(say_measured(lane, baseline))}</span>'


def _render_verdict(lane: LaneOutcome, baseline: LaneOutcome, found: Verdict) -> str:
    word, same = say_word(lane, found), found.identical and found.num_compared > 0
    look = "identical" if same else "" if found.identical else "differs"
    sign = "✓" if same else UNKNOWN if found.identical else "≠"
    return f'<span class="judged {look}">{sign} {escape_html(word)}</span>'


def _render_explained(lane: LaneOutcome, baseline: LaneOutcome) -> str:
    said = " ".join(explain(lane, baseline))
    return f'<span class="detail">{escape_html(said)}</span>' if said else ""


def say_word(lane: LaneOutcome, found: Verdict) -> str:
    """The verdict in a word or two."""
    if found.identical:
        return texts.say("word_identical" if found.num_compared else "word_nothing")
    if not lane.spec.request.sampling.greedy:
        return texts.say("word_sampled")
    return texts.say("word_near_tie" if found.near_tie else "word_differs")


def say_speedup(lane: LaneOutcome, baseline: LaneOutcome) -> str:
    """How many times as fast the lane decodes, as "4.4×"."""
    return UNKNOWN if lane.speedup is None else _times(lane.speedup, lane, baseline)


def say_what(lane: LaneOutcome, baseline: LaneOutcome) -> str:
    """What the speedup is of, and what it is with the prompt."""
    if lane.end_to_end_speedup is None:
        return texts.say("of_decoding")
    ratio = _times(lane.end_to_end_speedup, lane, baseline)
    return texts.say("of_decoding_and_prompt", ratio=ratio)


def say_measured(lane: LaneOutcome, baseline: LaneOutcome) -> str:
    """What the speedup is worth: one run, others like it, whether the machine was busy."""
    found = lane.spread
    said = [texts.say("one_run")]
    if found is not None:
        figures = (found.median, found.lowest, found.highest)
        middle, lowest, highest = (_times(each, lane, baseline) for each in figures)
        said = [
            texts.say(
                "of_races",
                median=middle,
                count=format_count(found.num_races),
                lowest=lowest,
                highest=highest,
            )
        ]
    if lane.interrupted or baseline.interrupted:
        said.append(texts.say("interrupted"))
    return " ".join(said)


def _times(ratio: float, lane: LaneOutcome, baseline: LaneOutcome) -> str:
    return f"{say_ratio(ratio, lane.metrics, baseline.metrics)}×"


def say_saved(lane: LaneOutcome, baseline: LaneOutcome) -> str:
    """Tokens, and the seconds and target forwards that they took less than at the baseline."""
    tokens = format_count(lane.metrics.num_output_tokens)
    seconds = lane.seconds_saved
    if seconds is not None and seconds < 0:
        return texts.say("lost", tokens=tokens, seconds=format_duration(-seconds))
    saved = {"tokens": tokens, "seconds": format_duration(seconds)}
    steps, own = baseline.metrics.num_steps, lane.metrics.num_steps
    if steps is None or own is None:
        return texts.say("saved_seconds", **saved)
    return texts.say("saved", steps=format_count(steps - own), **saved)


def explain(lane: LaneOutcome, baseline: LaneOutcome, *, words: bool = True) -> list[str]:
    """The verdict in sentences.

    Args:
        lane: held against the baseline.
        baseline: the lane that it is held against.
        words: False leaves the tokens' texts out.
    """
    found = lane.verdict
    if found is None:
        return []
    greedy = lane.spec.request.sampling.greedy
    if found.position is None:
        whole = not any(each.reason in (None, "cancelled") for each in (lane, baseline))
        # The word alone says it.
        plain = greedy and whole and found.num_compared and not found.by_text
        return [] if plain else [_explain_same(found, whole=whole, greedy=greedy)]
    position = found.position + 1
    if found.on_server:
        return [*_say_of_servers(found, words=words), _why_of_servers(greedy=greedy)]
    if found.token_a is None or found.token_b is None:
        said = [texts.say("longer", position=format_count(found.position))]
    elif words:
        one, other = repr(found.text_a), repr(found.text_b)
        said = [texts.say("differs", position=format_count(position), one=one, other=other)]
    else:
        said = [texts.say("differs_hidden", position=format_count(position))]
    if not greedy:
        return [*said, texts.say("not_promised")]
    if found.logit_a is None or found.logit_b is None or found.margin is None:
        return said
    said.append(_say_logits(found, words=words))
    said.append(_say_cause(lane, baseline, found))
    return said


def _explain_same(found: Verdict, *, whole: bool, greedy: bool) -> str:
    if not found.num_compared:
        return texts.say("nothing")
    key = "identical_so_far"
    if whole:
        key = "identical" if greedy else "identical_sampled"
    unit = "_text" if found.by_text else ""
    return texts.say(f"{key}{unit}", count=format_count(found.num_compared))


def _say_of_servers(found: Verdict, *, words: bool) -> list[str]:
    """From where on outputs differ that servers gave."""
    position = format_count((found.position or 0) + 1)
    unit = "_text" if found.by_text else ""
    if not words:
        return [texts.say(f"differs_hidden{unit}", position=position)]
    one, other = repr(found.text_a or ""), repr(found.text_b or "")
    return [texts.say(f"differs{unit}", position=position, one=one, other=other)]


def _why_of_servers(*, greedy: bool) -> str:
    return texts.say("no_logits" if greedy else "not_promised")


def _say_logits(found: Verdict, *, words: bool) -> str:
    one = repr(found.text_a) if words else f"#{found.token_a}"
    other = repr(found.text_b) if words else f"#{found.token_b}"
    return texts.say(
        "logits",
        one=one,
        logit_one=f"{found.logit_a:.4f}",
        other=other,
        logit_other=f"{found.logit_b:.4f}",
        margin=f"{found.margin:.3g}",
    )


def _say_cause(lane: LaneOutcome, baseline: LaneOutcome, found: Verdict) -> str:
    coarse = max(lane, baseline, key=lambda each: each.noise)
    explained = {"precision": coarse.precision, "noise": f"{coarse.noise:g}"}
    if found.near_tie:
        return texts.say("rounding", **explained)
    if lane.precision != baseline.precision:
        return texts.say("other_precision", one=baseline.precision, other=lane.precision)
    low = "" if coarse.precision == "float32" else "_low"
    return texts.say(f"unexplained{low}", **explained)
