"""DFlash 2: what its convolutions see, the path of its selector, and a lane that stays lossless."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.acceptance import draw, sampling_probs
from dflash_app.backends.torch.dflash import DFlashConfig, DFlashDrafter, Sampler
from dflash_app.backends.torch.dflash2 import DFlash2Drafter, DynamicConv, convolve, new_drafter
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selector import walk
from dflash_app.request import SamplingParams
from tests.backends.torch.chi_square import (
    PROCESSORS,
    chance_of,
    distribution_of_sequences,
    draw_sequences,
)

GREEDY = SamplingParams()
PROMPT = [1, 0, 2, 2, 1]


def _drafter(vocab_size: int, block_size: int, top_k: int, **changes: Any) -> DFlash2Drafter:
    raw: dict[str, Any] = {
        "architectures": ["DFlash2DraftModel"],
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_theta": 10_000.0,
        "dflash_config": {
            "block_size": block_size,
            "mask_token_id": vocab_size - 1,
            "target_layer_ids": [0],
            "conv_kernel_size": 2,
            "conv_group_size": 8,
            "selector_rank": 4,
            "selector_top_k": top_k,
        },
        **changes,
    }
    torch.manual_seed(2)
    drafter = new_drafter(DFlashConfig.from_dict(raw)).eval().requires_grad_(False)
    assert isinstance(drafter, DFlash2Drafter)
    for name, parameter in drafter.candidate_selector.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if "hidden" in name else 1.0)
    return drafter


def _sampler(sampling: SamplingParams, generator: torch.Generator) -> Sampler:
    def sample(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probs = sampling_probs(scores, sampling)
        return probs, draw(probs, generator)

    return sample


def test_the_config_decides_the_generation() -> None:
    raw = _drafter(8, 4, 3).config.to_dict()
    first = DFlashConfig.from_dict({**raw, "architectures": ["DFlashDraftModel"]})
    assert type(new_drafter(first)) is DFlashDrafter
    assert type(new_drafter(DFlashConfig.from_dict(raw))) is DFlash2Drafter
    with pytest.raises(ValueError, match="selector"):
        DFlash2Drafter(first)


def test_an_untrained_convolution_passes_its_input_on() -> None:
    conv = DynamicConv(32, 3, 8)
    torch.nn.init.zeros_(conv.kernel_projection.weight)
    hidden = torch.randn(2, 7, 32)
    for kernels in conv(hidden):
        assert torch.equal(convolve(hidden, kernels, 1), hidden)


@pytest.mark.parametrize(("num_blocks", "width", "taps"), [(1, 5, 2), (3, 4, 2), (2, 2, 4)])
def test_a_convolution_mixes_the_slots_before_in_its_own_block_only(
    num_blocks: int, width: int, taps: int
) -> None:
    hidden = torch.randn(2, num_blocks * width, 6)
    kernels = torch.randn(2, num_blocks * width, taps, 6)
    mixed = convolve(hidden, kernels, num_blocks)
    for index in range(num_blocks * width):
        expected = torch.zeros(2, 6)
        for tap in range(min(taps, index % width + 1)):
            expected += hidden[:, index - tap] * kernels[:, index, tap]
        assert torch.allclose(mixed[:, index], expected, atol=1e-6)


def test_channels_of_a_group_share_the_dynamic_part_of_their_kernel() -> None:
    conv = DynamicConv(32, 2, 8)
    torch.nn.init.normal_(conv.kernel_projection.weight)
    before, after = conv(torch.randn(1, 5, 32))
    dynamic = torch.stack([before, after], dim=2) - conv.base_kernel
    grouped = dynamic.unflatten(-1, (4, 8))
    assert torch.allclose(grouped, grouped[..., :1].expand_as(grouped), atol=1e-6)
    assert not torch.allclose(grouped[..., 0, :], grouped[..., 1, :], atol=0.1)


def test_the_walk_reads_the_row_that_it_came_from() -> None:
    choices = torch.tensor([[2, 2, 2], [0, 1, 1], [9, 0, 9], [5, 9, 9]])
    came_from, chosen = walk(choices)
    assert came_from.tolist() == [0, 2, 1, 0]
    assert chosen.tolist() == [2, 1, 0, 5]


def test_drafts_are_among_the_best_of_their_slot_and_another_anchor_changes_them() -> None:
    drafter = _drafter(40, 8, 4)
    head = torch.nn.Linear(32, 40, bias=False)
    hidden = torch.randn(7, 32)
    allowed = drafter.logits(hidden, head).topk(4).indices
    paths = set()
    for anchor in range(40):
        for sampler in (None, _sampler(SamplingParams(temperature=1.0), torch.Generator())):
            proposal = drafter.propose(hidden, torch.tensor([anchor]), head, sampler)
            assert (proposal.token_ids[:, None] == allowed).any(-1).all()
            assert ((proposal.confidences > 0) & (proposal.confidences <= 1)).all()
        paths.add(tuple(proposal.token_ids.tolist()))
    assert len(paths) > 1


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.6, "top_k": 2}, {"top_p": 0.7}])
@torch.inference_mode()
def test_drafts_are_drawn_from_the_q_that_comes_with_them(sampling: dict[str, Any]) -> None:
    params = SamplingParams(**{"temperature": 1.0} | sampling)
    drafter = _drafter(6, 3, 4)
    head = torch.nn.Linear(32, 6, bias=False)
    hidden, anchor = torch.randn(2, 32), torch.tensor([3])
    sampler = _sampler(params, torch.Generator().manual_seed(0))
    pairs: Counter[tuple[int, ...]] = Counter()
    rows: dict[int, torch.Tensor] = {}
    for _ in range(4000):
        proposal = drafter.propose(hidden, anchor, head, sampler)
        assert proposal.probs is not None
        pairs[tuple(proposal.token_ids.tolist())] += 1
        rows[int(proposal.token_ids[0])] = proposal.probs
        assert torch.allclose(proposal.probs.sum(-1), torch.ones(2))
    expected = {
        (first, second): float(q[0, first] * q[1, second])
        for first, q in rows.items()
        for second in range(6)
        if q[1, second] > 0
    }
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)
    assert chance_of(pairs, expected) > 0.001


def _models(make_target: Callable[..., Any], top_k: int = 3) -> TorchModels:
    target = make_target("qwen3", 4, num_hidden_layers=1)
    target.head.weight.mul_(0.5)  # flat enough that drafter and target often agree
    return TorchModels(target, _drafter(4, 4, top_k))


@pytest.mark.parametrize("top_k", [2, 3, 16])
def test_greedy_dflash2_equals_greedy_ar(
    make_target: Callable[..., Any], run_lane: Callable[..., Any], top_k: int
) -> None:
    models = _models(make_target, top_k)
    plain = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 80, num_draft=0)
    drafted = run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 80, num_draft=3)
    assert drafted.token_ids == plain.token_ids
    assert {step.num_accepted for step in drafted.steps} >= {0, 1}
    assert all(len(step.confidences) == len(step.drafted_ids) for step in drafted.steps)


@pytest.mark.parametrize("processors", ["none", "all"])  # one by one: test_acceptance
def test_sampled_dflash2_sequences_have_the_targets_distribution(
    make_target: Callable[..., Any], processors: str
) -> None:
    models = _models(make_target)
    sampling = SamplingParams(**{"temperature": 1.0, "seed": 0} | PROCESSORS[processors])
    sequences, accepted = draw_sequences(models, PROMPT, sampling, "dflash", 1500)
    assert min(accepted[number] for number in range(3)) > 50
    assert chance_of(sequences, distribution_of_sequences(models, PROMPT, sampling)) > 0.001


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("greedy", [True, False])
def test_proposing_on_cuda_synchronises_nothing(greedy: bool) -> None:
    drafter = _drafter(400, 16, 16).cuda()
    head = torch.nn.Linear(32, 400, bias=False).cuda()
    hidden, anchor = torch.randn(15, 32).cuda(), torch.tensor([3]).cuda()
    sampler = None if greedy else _sampler(SamplingParams(1.0), torch.Generator("cuda"))
    drafter.propose(hidden, anchor, head, sampler)
    torch.cuda.set_sync_debug_mode("error")
    try:
        drafter.propose(hidden, anchor, head, sampler)
    finally:
        torch.cuda.set_sync_debug_mode("default")
