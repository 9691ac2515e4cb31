"""Run by vLLM's own Python: parses commands as `vllm serve` would, and says what it understood."""

import json
import sys
from dataclasses import fields

from vllm.config.attention import AttentionConfig
from vllm.config.speculative import SpeculativeConfig
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.attention.backends.registry import AttentionBackendEnum

MODULE = ["python", "-m", "vllm.entrypoints.openai.api_server"]


def understand(words: list[str]) -> dict[str, object]:
    rest = words[3:] if words[:3] == MODULE else words[2:]
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(rest)
    drafting = dict(parsed.speculative_config or {})
    known = {field.name for field in fields(SpeculativeConfig)}
    assert set(drafting) <= known, set(drafting) - known
    if "attention_backend" in drafting:
        AttentionBackendEnum[drafting["attention_backend"].upper()]
    if parsed.attention_backend is not None:
        AttentionConfig(backend=parsed.attention_backend)
    return {
        "model": parsed.model_tag or parsed.model,
        "tensor": parsed.tensor_parallel_size,
        "pipeline": parsed.pipeline_parallel_size,
        "nodes": parsed.nnodes,
        "rank": parsed.node_rank,
        "headless": parsed.headless,
        "length": parsed.max_model_len,
        "drafting": drafting,
    }


print(json.dumps([understand(words) for words in json.load(sys.stdin)]))
