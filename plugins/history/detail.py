"""One run with everything that is recorded of it, as inert HTML."""

from collections.abc import Iterator, Sequence

from dflash_app.store.records import RunRecord, RunStart
from dflash_app.ui.chat_acts import render_run_link
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_bytes,
    format_count,
    format_decimal,
    format_duration,
    format_percent,
    format_speed,
    format_when,
)
from dflash_app.ui.run_view import say_of_server

from .table import MODES, say_end
from .words import texts

Facts = list[tuple[str, str]]


def render_detail(run: RunRecord) -> str:
    """Everything about one run."""
    title = escape_html(texts.say("run", run_id=run.id))
    parts = [f"<h3>{title} {render_run_link(run.id)}</h3>"]
    parts.append(f"<dl class='run-facts'>{_render(settings_of(run) + figures_of(run))}</dl>")
    if run.error:
        parts.append(f"<h3>{_say('error')}</h3><pre tabindex='0'>{escape_html(run.error)}</pre>")
    for message in run.start.messages:
        role, content = message.get("role", ""), message.get("content", "")
        parts.append(f"<h3>{escape_html(role)}</h3><pre tabindex='0'>{escape_html(content)}</pre>")
    output = escape_html(run.output) or UNKNOWN
    parts.append(f"<h3>{_say('output')}</h3><pre tabindex='0'>{output}</pre>")
    parts.append(
        f"<details><summary>{_say('machine_and_versions')}</summary>"
        f"<dl class='run-facts'>{_render(machine_of(run.start))}</dl></details>"
    )
    return f'<div class="run-detail">{"".join(parts)}</div>'


def render_no_detail(text: str = "") -> str:
    """The place of the detail before a run is chosen, or why there is none."""
    return f'<div class="run-detail">{escape_html(text or texts.say("no_detail"))}</div>'


def settings_of(run: RunRecord) -> Facts:
    """What was asked for and where it ran, in words."""
    start = run.start
    revisions = (start.target_revision, start.drafter_revision)
    told = {
        "when": _when(run),
        "pair": start.pair,
        "mode": MODES.get(start.mode, start.mode),
        "block_size": start.block,
        "policy": start.policy,
        "where": start.place,
        "path": start.paths,
        "rollback": None if start.on_server else start.rollback_kind,
        "sampling": _sampling(start),
        "limit": format_count(start.max_new_tokens),
        "stop": ", ".join(map(repr, start.stop)),
        "thinking": start.thinking,
        "task": start.task,
        "source": start.source,
        "group": start.group_id,
        "revisions": ", ".join(each[:12] for each in revisions if each),
    }
    # What is not set has no line, but for what every run has.
    kept = ("path",) if start.on_server else ("path", "rollback")
    return [
        (texts.say(key), value or UNKNOWN) for key, value in told.items() if value or key in kept
    ]


def figures_of(run: RunRecord) -> Facts:
    """What came of it."""
    metrics = run.metrics
    reused = metrics.num_reused_tokens
    read = format_count(metrics.num_prompt_tokens)
    if reused:
        read = texts.say("tokens_reused", num_tokens=read, num_reused=format_count(reused))
    told = {
        "end": say_end(run),
        "speed": format_speed(metrics.decode_tok_s),
        "end_to_end": format_speed(metrics.end_to_end_tok_s),
        "first_token": format_duration(metrics.ttft_s),
        "total": format_duration(metrics.total_s),
        "queue": format_duration(metrics.queue_s),
        "tpot": format_duration(metrics.tpot_s),
        "shares": _shares(run),
        "prompt_tokens": read,
        "output_tokens": format_count(metrics.num_output_tokens),
        "steps": format_count(metrics.num_steps),
        "acceptance": format_decimal(metrics.mean_acceptance_length),
        "counted": "".join(say_of_server(metrics, drafting=run.start.mode != "ar")).strip(),
        "by_position": " · ".join(map(format_percent, metrics.acceptance_by_position)),
        "histogram": " · ".join(_counted(metrics.acceptance_histogram)),
        "memory": format_bytes(metrics.peak_memory_bytes),
    }
    if not metrics.at_client:
        del told["counted"]
    return [(texts.say(key), value or UNKNOWN) for key, value in told.items()]


def machine_of(start: RunStart) -> Facts:
    """The machine and the versions."""
    hardware = start.hardware
    ram = hardware.get("ram_bytes")
    facts = [
        (texts.say("cpu"), str(hardware.get("cpu") or UNKNOWN)),
        (texts.say("cores"), str(hardware.get("cores") or UNKNOWN)),
        (texts.say("ram"), format_bytes(ram if isinstance(ram, int) else None)),
        (texts.say("gpus"), ", ".join(map(str, hardware.get("gpus") or ())) or UNKNOWN),
        (texts.say("os"), str(hardware.get("os") or UNKNOWN)),
        ("DFlash Studio", start.app_version),
    ]
    return facts + [(name, str(version)) for name, version in start.library_versions.items()]


def _when(run: RunRecord) -> str:
    began = format_when(run.start.started_at)
    return f"{began} – {run.finished_at.astimezone():%H:%M:%S}" if run.finished_at else began


def _shares(run: RunRecord) -> str:
    metrics = run.metrics
    if not metrics.num_steps or metrics.propose_s is None:
        return UNKNOWN
    return texts.say(
        "shares_told",
        propose=format_duration(metrics.propose_s),
        verify=format_duration(metrics.verify_s),
    )


def _counted(histogram: Sequence[int]) -> Iterator[str]:
    return (f"{accepted}: {count:,}" for accepted, count in enumerate(histogram) if count)


def _sampling(start: RunStart) -> str:
    parts = [texts.say("greedy")]
    if start.temperature > 0:
        parts = [f"{texts.say('temperature')} {start.temperature:g}", f"top-p {start.top_p:g}"]
        parts += [f"top-k {start.top_k}", f"min-p {start.min_p:g}"]
    if start.repetition_penalty != 1:
        parts.append(f"{texts.say('repetition_penalty')} {start.repetition_penalty:g}")
    if start.temperature > 0 and start.seed is not None:
        parts.append(f"{texts.say('seed')} {start.seed}")
    return ", ".join(parts)


def _render(facts: Facts) -> str:
    return "".join(
        f"<div><dt>{escape_html(label)}</dt><dd>{escape_html(value)}</dd></div>"
        for label, value in facts
    )


def _say(key: str) -> str:
    return escape_html(texts.say(key))
