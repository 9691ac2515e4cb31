"""The bundled registry says what the research says, frozen here, and no more."""

import pytest

from dflash_app.backends.mlx.families import ROLLBACK_KINDS as MLX_ROLLBACK_KINDS
from dflash_app.backends.torch.families import ROLLBACK_KINDS
from dflash_app.registry.load import Registry, load_registry
from dflash_app.settings import PACKAGE_DIR

# name, target, drafter; None: none is published.
RESEARCHED = [
    ("qwen3-4b", "Qwen/Qwen3-4B", "z-lab/Qwen3-4B-DFlash-b16"),
    ("qwen3-8b", "Qwen/Qwen3-8B", "z-lab/Qwen3-8B-DFlash-b16"),
    (
        "llama-3.1-8b",
        "meta-llama/Llama-3.1-8B-Instruct",
        "z-lab/LLaMA3.1-8B-Instruct-DFlash-UltraChat",
    ),
    ("qwen3.5-4b", "Qwen/Qwen3.5-4B", "z-lab/Qwen3.5-4B-DFlash"),
    ("qwen3.5-9b", "Qwen/Qwen3.5-9B", "z-lab/Qwen3.5-9B-DFlash"),
    ("qwen3.5-27b", "Qwen/Qwen3.5-27B", "z-lab/Qwen3.5-27B-DFlash"),
    ("qwen3.5-35b-a3b", "Qwen/Qwen3.5-35B-A3B", "z-lab/Qwen3.5-35B-A3B-DFlash"),
    ("qwen3.5-122b-a10b", "Qwen/Qwen3.5-122B-A10B", "z-lab/Qwen3.5-122B-A10B-DFlash"),
    ("qwen3.5-397b-a17b", "Qwen/Qwen3.5-397B-A17B", "z-lab/Qwen3.5-397B-A17B-DFlash"),
    ("qwen3.6-27b", "Qwen/Qwen3.6-27B", "z-lab/Qwen3.6-27B-DFlash"),
    ("qwen3.6-35b-a3b", "Qwen/Qwen3.6-35B-A3B", "z-lab/Qwen3.6-35B-A3B-DFlash"),
    ("qwen3-coder-next", "Qwen/Qwen3-Coder-Next", "z-lab/Qwen3-Coder-Next-DFlash"),
    (
        "qwen3-coder-30b-a3b",
        "Qwen/Qwen3-Coder-30B-A3B-Instruct",
        "z-lab/Qwen3-Coder-30B-A3B-DFlash",
    ),
    ("gpt-oss-20b", "openai/gpt-oss-20b", "z-lab/gpt-oss-20b-DFlash"),
    ("gpt-oss-120b", "openai/gpt-oss-120b", "z-lab/gpt-oss-120b-DFlash"),
    ("gemma-4-31b", "google/gemma-4-31B-it", "z-lab/gemma-4-31B-it-DFlash"),
    ("gemma-4-26b-a4b", "google/gemma-4-26B-A4B-it", "z-lab/gemma-4-26B-A4B-it-DFlash"),
    ("gemma-4-12b", "google/gemma-4-12B-it", "z-lab/gemma4-12B-it-DFlash"),
    ("kimi-k2.5", "moonshotai/Kimi-K2.5", "z-lab/Kimi-K2.5-DFlash"),
    ("kimi-k2.6", "moonshotai/Kimi-K2.6", "z-lab/Kimi-K2.6-DFlash"),
    ("kimi-k2.7-code", "moonshotai/Kimi-K2.7-Code", "z-lab/Kimi-K2.7-Code-DFlash"),
    ("minimax-m2.5", "MiniMaxAI/MiniMax-M2.5", "z-lab/MiniMax-M2.5-DFlash"),
    ("minimax-m2.7", "MiniMaxAI/MiniMax-M2.7", "z-lab/MiniMax-M2.7-DFlash"),
    ("glm-5.1", "zai-org/GLM-5.1-FP8", "z-lab/GLM-5.1-FP8-DFlash"),
    ("qwen3.8-27b-dflash2", "Qwen/Qwen3.8-27B", "z-lab/Qwen3.8-27B-DFlash2"),
    ("muse-glimmer-30b-dflash2", "meta-models/Muse-Glimmer-30B", "z-lab/Muse-Glimmer-30B-DFlash2"),
    ("deepseek-v4-flash", "deepseek-ai/DeepSeek-V4-Flash", None),
    ("deepseek-v4-pro", "deepseek-ai/DeepSeek-V4-Pro", None),
]

# The commits that the research pins; no other model is pinned.
REVISIONS = {
    "Qwen/Qwen3-4B": "1cfa9a7208912126459214e8b04321603b3df60c",
    "z-lab/Qwen3-4B-DFlash-b16": "b74e3a329c4d963783143b1e970d95b002be72bd",
    "Qwen/Qwen3-8B": "b968826d9c46dd6066d109eabc6255188de91218",
    "z-lab/Qwen3-8B-DFlash-b16": "9b41424b7109f9c5413454f481b09a82b85333f4",
    "z-lab/LLaMA3.1-8B-Instruct-DFlash-UltraChat": "d3af30def9601abdd10810aba220d692f0e803f0",
    "z-lab/Qwen3.6-27B-DFlash": "0919688658996800f86b895034249700e9481106",
    "z-lab/Qwen3-Coder-Next-DFlash": "6d741db11b89d7ea80a423b109f0424817ce8f1b",
    "z-lab/Qwen3-Coder-30B-A3B-DFlash": "98ca0e3e2e6a372f2789d3a5e146566194084317",
    "z-lab/gpt-oss-20b-DFlash": "d53f6551543204c859e8bbaaddbd15d11b447af9",
    "z-lab/gpt-oss-120b-DFlash": "1278df34f0a7bd2c8588a27f49048aaa05c7db00",
    "z-lab/gemma-4-31B-it-DFlash": "eabd648301ce28583cc14757912e5e0f84e152e1",
    "z-lab/gemma-4-26B-A4B-it-DFlash": "77d4202772dfe50b2396ec7bac9cfffc7b9e7057",
    "z-lab/Kimi-K2.5-DFlash": "e2db14df8337367b5eae8a6c206ea0d7d01a42a8",
    "z-lab/Kimi-K2.6-DFlash": "c1462ef46589f6ccb3eca424bffef94d72354ea9",
    "z-lab/MiniMax-M2.7-DFlash": "0b9e26e35d991dc03f6b4198fb9681a1ab053e70",
    "z-lab/Qwen3.8-27B-DFlash2": "50307d4c4cde6860d4eee73e2547cd786fe8e8a4",
    "z-lab/Muse-Glimmer-30B-DFlash2": "b54ffdd11fa9cfe2af370012e5763d492c904128",
}

# The table of z-lab's README as the seed documents carry it: the model's name, its drafter.
SEEDS = [
    ("gemma-4-26B-A4B-it", "z-lab/gemma-4-26B-A4B-it-DFlash"),
    ("gemma-4-31B-it", "z-lab/gemma-4-31B-it-DFlash"),
    ("Qwen3.6-27B", "z-lab/Qwen3.6-27B-DFlash"),
    ("Qwen3.6-35B-A3B", "z-lab/Qwen3.6-35B-A3B-DFlash"),
    ("MiniMax-M2.5", "z-lab/MiniMax-M2.5-DFlash"),
    ("Kimi-K2.5", "z-lab/Kimi-K2.5-DFlash"),
    ("Qwen3.5-4B", "z-lab/Qwen3.5-4B-DFlash"),
    ("Qwen3.5-9B", "z-lab/Qwen3.5-9B-DFlash"),
    ("Qwen3.5-27B", "z-lab/Qwen3.5-27B-DFlash"),
    ("Qwen3.5-35B-A3B", "z-lab/Qwen3.5-35B-A3B-DFlash"),
    ("Qwen3.5-122B-A10B", "z-lab/Qwen3.5-122B-A10B-DFlash"),
    ("Qwen3-Coder-Next", "z-lab/Qwen3-Coder-Next-DFlash"),
    ("Qwen3-Coder-30B-A3B-Instruct", "z-lab/Qwen3-Coder-30B-A3B-DFlash"),
    ("gpt-oss-20b", "z-lab/gpt-oss-20b-DFlash"),
    ("gpt-oss-120b", "z-lab/gpt-oss-120b-DFlash"),
    ("Qwen3-4B", "z-lab/Qwen3-4B-DFlash-b16"),
    ("Qwen3-8B", "z-lab/Qwen3-8B-DFlash-b16"),
    ("Llama-3.1-8B-Instruct", "z-lab/LLaMA3.1-8B-Instruct-DFlash-UltraChat"),
]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry([PACKAGE_DIR.parent / "model_registry.yaml"])


def test_the_embedded_pair_comes_first_and_every_researched_pair_follows(
    registry: Registry,
) -> None:
    assert registry.pairs[0].name == "embedded"
    assert [
        (pair.name, pair.target.repo, pair.drafter and pair.drafter.repo)
        for pair in registry.pairs[1:]
    ] == RESEARCHED


def test_the_researched_commits_are_pinned_and_no_others(registry: Registry) -> None:
    refs = [ref for pair in registry.pairs for ref in (pair.target, pair.drafter) if ref]
    assert {ref.repo: ref.revision for ref in refs if ref.revision} == REVISIONS


def test_the_embedded_pair_is_ours_and_runs_on_both_of_our_backends(registry: Registry) -> None:
    pair = registry.get("embedded")
    assert pair.target.path == "embedded:target"
    assert pair.drafter is not None
    assert pair.drafter.path == "embedded:drafter"
    assert (pair.family, pair.block_size, pair.backends) == ("qwen3", 16, ("torch", "mlx"))
    assert pair.target.licence == pair.drafter.licence == "MIT"


@pytest.mark.parametrize(("model", "drafter"), SEEDS)
def test_each_pair_of_the_seed_documents_is_there(
    registry: Registry, model: str, drafter: str
) -> None:
    found = [pair for pair in registry.pairs if pair.drafter and pair.drafter.repo == drafter]
    assert [pair.target.source.split("/")[1] for pair in found] == [model]


def test_only_pairs_without_a_published_drafter_are_planned(registry: Registry) -> None:
    planned = {pair.name for pair in registry.pairs if pair.status == "planned"}
    assert planned == {"deepseek-v4-flash", "deepseek-v4-pro"}
    assert planned == {pair.name for pair in registry.pairs if pair.drafter is None}


def test_block_sizes_that_no_source_tells_are_left_out(registry: Registry) -> None:
    assert {pair.name for pair in registry.pairs if pair.block_size is None} == {
        "qwen3.5-397b-a17b",
        "kimi-k2.7-code",
        "minimax-m2.7",
        "glm-5.1",
        "deepseek-v4-flash",
        "deepseek-v4-pro",
    }


def test_a_drafter_retrained_in_place_is_not_pinned_and_says_so(registry: Registry) -> None:
    retrained = [pair for pair in registry.pairs if "retrained in place" in (pair.notes or "")]
    assert len(retrained) == 6
    assert all(pair.drafter and pair.drafter.revision is None for pair in retrained)


def test_licences_on_which_the_sources_disagree_are_left_out(registry: Registry) -> None:
    for name in ("qwen3-4b", "qwen3-8b", "llama-3.1-8b", "gemma-4-12b", "kimi-k2.7-code"):
        drafter = registry.get(name).drafter
        assert drafter is not None
        assert drafter.licence is None


def test_the_gated_models_are_known(registry: Registry) -> None:
    refs = [ref for pair in registry.pairs for ref in (pair.target, pair.drafter) if ref]
    assert {ref.repo for ref in refs if ref.gated} == {
        "meta-llama/Llama-3.1-8B-Instruct",
        "z-lab/MiniMax-M2.5-DFlash",
        "z-lab/MiniMax-M2.7-DFlash",
    }


def test_the_papers_figures_of_qwen3_8b_are_there_with_their_source(registry: Registry) -> None:
    first = registry.get("qwen3-8b").published[0]
    assert (first.task, first.speedup, first.acceptance_length) == ("GSM8K", 5.15, 6.54)
    assert first.source == "arXiv 2602.06036v2, table 1"
    assert first.setup is not None
    assert "H200" in first.setup


def test_no_published_figure_is_impossible(registry: Registry) -> None:
    # Drafting costs time, so a speedup stays below the acceptance length, which the block bounds.
    for pair in registry.pairs:
        for row in pair.published:
            if row.speedup and row.acceptance_length:
                assert row.speedup < row.acceptance_length, (pair.name, row)
            if pair.block_size and row.acceptance_length:
                assert row.acceptance_length <= (row.block_size or pair.block_size), (
                    pair.name,
                    row,
                )


TEXT_OF = {
    "gemma4_text": "gemma4",
    "gemma4_unified_text": "gemma4_unified",
    "qwen3_5_text": "qwen3_5",
    "qwen3_5_moe_text": "qwen3_5_moe",
    "deepseek_v3": "kimi_k25",
}
"""Text models that are published inside the wrapper beside them."""


def test_every_row_is_of_a_family_that_the_engine_knows(registry: Registry) -> None:
    assert {pair.family for pair in registry.pairs} <= set(ROLLBACK_KINDS)
    silent = {pair.name for pair in registry.pairs if "torch" not in pair.backends}
    # No drafter, or one whose config nobody has seen.
    assert silent == {
        "kimi-k2.7-code", "minimax-m2.7", "glm-5.1", "deepseek-v4-flash", "deepseek-v4-pro",
    }  # fmt: skip


def test_every_family_of_the_engine_can_be_chosen(registry: Registry) -> None:
    families = {pair.family for pair in registry.pairs}
    assert {TEXT_OF.get(family, family) for family in ROLLBACK_KINDS} == families


def test_mlx_is_named_where_it_reads_the_family_and_nowhere_else(registry: Registry) -> None:
    on_torch = [pair for pair in registry.pairs if "torch" in pair.backends]
    assert [pair.name for pair in on_torch if "mlx" in pair.backends] == [
        pair.name for pair in on_torch if pair.family in MLX_ROLLBACK_KINDS
    ]
    assert not [
        pair.name
        for pair in registry.pairs
        if "mlx" in pair.backends and "torch" not in pair.backends
    ]
