"""The five sets that DFlash's published tables use, from the hub through the `datasets` library.

Repositories, splits and prompt formats are those of the paper's own benchmark (z-lab's dflash
0.1.0, `benchmark.py`). Revisions are pinned, so a set means the same questions everywhere. Files
lie in the hub's own cache; what is there is read without asking the network.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflash_app.errors import HubError, PluginError
from dflash_app.hookspecs import Question
from dflash_app.hub.faults import translate
from dflash_app.hub.remote import REQUEST_TIMEOUT_S, within_limit

_BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HubSet:
    """Where a set lies, and how a row becomes a question.

    Attributes:
        repo: of the hub's datasets.
        revision: pinned commit.
        files: of the split, as a pattern inside the repository.
        builder: how `datasets` reads them: "parquet" or "json".
        read: a question of a row and its index.
    """

    repo: str
    revision: str
    files: str
    builder: str
    read: Callable[[Row, int], Question]


def _read_gsm8k(row: Row, index: int) -> Question:
    answer = row["answer"].rpartition("####")[2].strip()
    return Question(str(index), (row["question"] + _BOXED,), answer=answer)


def _read_math500(row: Row, _: int) -> Question:
    return Question(row["unique_id"], (row["problem"] + _BOXED,), answer=row["answer"])


def _read_humaneval(row: Row, _: int) -> Question:
    asked = "Write a solution to the following problem and make sure that it passes the tests:"
    return Question(row["task_id"], (f"{asked}\n```python\n{row['prompt']}\n```",))


def _read_mbpp(row: Row, _: int) -> Question:
    return Question(str(row["task_id"]), (row["prompt"],))


def _read_mt_bench(row: Row, _: int) -> Question:
    return Question(str(row["prompt_id"]), tuple(row["prompt"]))


GSM8K = HubSet(
    "openai/gsm8k",
    "740312add88f781978c0658806c59bc2815b9866",
    "main/test-*.parquet",
    "parquet",
    _read_gsm8k,
)
MATH500 = HubSet(
    "HuggingFaceH4/MATH-500",
    "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
    "test.jsonl",
    "json",
    _read_math500,
)
HUMANEVAL = HubSet(
    "openai/openai_humaneval",
    "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
    "openai_humaneval/test-*.parquet",
    "parquet",
    _read_humaneval,
)
MBPP = HubSet(
    "google-research-datasets/mbpp",
    "4bb6404fdc6cacfda99d4ac4205087b89d32030c",
    "sanitized/test-*.parquet",
    "parquet",
    _read_mbpp,
)
MT_BENCH = HubSet(
    "HuggingFaceH4/mt_bench_prompts",
    "b60d01a44377daa2d9434e50a91a9e4169a090d5",
    "data/train-*.parquet",
    "parquet",
    _read_mt_bench,
)


def load_gsm8k() -> Iterator[Question]:
    """1,319 word problems from primary school; the answer is a number."""
    return load_hub_set(GSM8K)


def load_math500() -> Iterator[Question]:
    """500 problems of mathematics contests; the answer is a LaTeX expression."""
    return load_hub_set(MATH500)


def load_humaneval() -> Iterator[Question]:
    """164 Python functions to complete. Ungraded: that would run a model's code."""
    return load_hub_set(HUMANEVAL)


def load_mbpp() -> Iterator[Question]:
    """257 small Python tasks, the sanitized ones. Ungraded: that would run a model's code."""
    return load_hub_set(MBPP)


def load_mt_bench() -> Iterator[Question]:
    """80 conversations of two turns. Ungraded: that would take a judge."""
    return load_hub_set(MT_BENCH)


def load_hub_set(source: HubSet) -> Iterator[Question]:
    """Read a set from the hub's cache, or download it first.

    Raises:
        PluginError: the `datasets` library is not installed.
        HubError: it cannot be downloaded, or its files are not what they were.
    """
    library = _library()
    paths = _find(source) or _download(source)
    try:
        rows = library.load_dataset(source.builder, data_files=paths, split="train")
        # One after the other, as `rows` reads from disk and a row may be wrong in any place.
        for index, row in enumerate(rows):
            yield source.read(row, index)
    except (library.exceptions.DatasetsError, KeyError, AttributeError, TypeError) as error:
        raise HubError(
            f"The files of {source.repo} are not what they were ({type(error).__name__}: "
            f"{str(error)[:200]}): delete them from the hub's cache and try again."
        ) from error


def _library() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise PluginError(
            "Sets of the hub need the datasets library, which is not installed: run "
            "`pip install 'dflash-studio[benchmark]'` or `pip install datasets`."
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _find(source: HubSet) -> list[str]:
    """The set's files in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            source.repo,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=source.files,
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return []
    return [str(path) for path in sorted(Path(folder).glob(source.files))]


def _download(source: HubSet) -> list[str]:
    import httpx2
    from huggingface_hub import HfApi, snapshot_download

    def ask() -> object:
        return HfApi().dataset_info(
            source.repo, revision=source.revision, timeout=REQUEST_TIMEOUT_S
        )

    within_limit(ask, source.repo, source.revision)  # a download would try again for a minute
    try:
        snapshot_download(
            source.repo,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=source.files,
        )
    except (httpx2.HTTPError, OSError) as error:
        raise translate(error, source.repo, source.revision) from error
    found = _find(source)
    if not found:
        raise HubError(f"{source.repo} has no {source.files} any more: update the app.")
    return found
