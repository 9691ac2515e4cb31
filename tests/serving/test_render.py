"""Plans as text: a shell and a YAML reader have to get exactly the words of the plan back."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.serving.gpus import find_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.plan import Engine, ServePlan
from dflash_app.serving.planner import Wishes, plan_pair
from dflash_app.serving.render import FORMS, blocks, reasons_of, render

ECHO = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv))\n"


def make(
    pair: Pair, engine: Engine = "vllm", gpus: int = 1, nodes: int = 1, **wishes: object
) -> ServePlan:
    machines = Machines(find_gpu("cpu" if pair.name == "embedded" else "H200-141"), gpus, nodes)
    return plan_pair(pair, engine, machines, Wishes(**wishes), online=False)  # type: ignore[arg-type]


def run_in_shell(text: str, tmp_path: Path) -> list[str]:
    """The words that a shell gives to the program that a text begins with."""
    for name in ("vllm", "python", "python3", "docker"):
        script = tmp_path / name
        script.write_text(ECHO)
        script.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/home/me"}
    done = subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, check=True, env=environment
    )
    words: list[str] = json.loads(done.stdout)
    return words[1:]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_shell_reads_the_command_as_it_was_meant(
    pairs: dict[str, Pair], engine: Engine, tmp_path: Path
) -> None:
    plan = make(pairs["gemma-4-31b"], engine, 2)
    assert run_in_shell(render(plan), tmp_path) == list(plan.argv()[1:])
    (block,) = blocks(plan, "command")
    assert run_in_shell(block.text, tmp_path) == list(plan.argv()[1:])


def test_a_folder_with_odd_characters_survives_every_form(
    pairs: dict[str, Pair], tmp_path: Path
) -> None:
    odd = f'{tmp_path}/it\'s $HOME `x` "y" é'
    plan = make(pairs["embedded"])
    words = tuple(odd if word == plan.folders[0] else word for word in plan.program)
    plan = replace(plan, program=words, folders=(odd,))
    assert odd in run_in_shell(render(plan, "command"), tmp_path)
    docker = run_in_shell(render(plan, "docker"), tmp_path)
    assert f"{odd}:{odd}:ro" in docker
    assert docker[docker.index("--model") + 1] == odd
    (service,) = yaml.safe_load(render(plan, "compose"))["services"].values()
    assert [word.replace("$$", "$") for word in service["command"]].count(odd) == 1
    assert not [word for word in service["command"] if "$" in word.replace("$$", "")]


def test_docker_publishes_on_the_plans_host_only_and_passes_no_secret(
    pairs: dict[str, Pair], tmp_path: Path
) -> None:
    plan = make(pairs["qwen3-8b"], gpus=2)
    words = run_in_shell(render(plan, "docker"), tmp_path)
    assert words[words.index("-p") + 1] == "127.0.0.1:8000:8000"
    assert words[words.index("-e") + 1] == "HF_TOKEN"
    assert words[words.index("--gpus") + 1] == "2"
    assert words[words.index("-v") + 1] == "/home/me/.cache/huggingface:/root/.cache/huggingface"
    image = words.index("vllm/vllm-openai:v0.32.0")
    inside = plan.listening_on("0.0.0.0")
    assert words[image + 1 :] == list(inside.argv()[2:])  # the image begins with `vllm serve`


@pytest.mark.parametrize(("engine", "port"), [("vllm", 8000), ("sglang", 30000)])
def test_compose_is_yaml_with_the_same_words(
    pairs: dict[str, Pair], engine: Engine, port: int
) -> None:
    plan = make(pairs["qwen3-8b"], engine)
    service = yaml.safe_load(render(plan, "compose"))["services"][engine]
    entry = service.get("entrypoint", ["vllm", "serve"])
    assert (*entry, *service["command"]) == plan.listening_on("0.0.0.0").argv()
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_each_node_has_a_text_of_its_own_on_the_hosts_network(pairs: dict[str, Pair]) -> None:
    plan = make(pairs["kimi-k2.5"], gpus=8, nodes=2, head="10.0.0.1")
    texts = [block.text for block in blocks(plan, "compose")]
    services = [yaml.safe_load(text)["services"]["vllm"] for text in texts]
    assert [service["network_mode"] for service in services] == ["host", "host"]
    assert "--headless" not in services[0]["command"]
    assert "--headless" in services[1]["command"]
    assert "# on node 1: save as compose.node1.yaml" in render(plan, "compose")
    assert "--network=host" in blocks(plan, "docker")[0].text


def test_every_argument_is_explained_in_a_comment(pairs: dict[str, Pair]) -> None:
    plan = make(pairs["kimi-k2.5"], gpus=8, nodes=2)
    text = render(plan)
    for flag, reason in reasons_of(plan):
        assert f"# {flag}: {reason.split()[0]}" in text
    flags = {each.flag for node in (0, 1) for each in plan.arguments_of(node)}
    assert {flag for flag, _ in reasons_of(plan)} == flags
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert max(map(len, comments)) <= 100


def test_comments_can_be_left_out(pairs: dict[str, Pair]) -> None:
    assert "#" not in render(make(pairs["qwen3-8b"]), reasons=False)


def test_gated_models_and_the_address_are_told(pairs: dict[str, Pair]) -> None:
    text = render(make(pairs["llama-3.1-8b"]))
    assert "meta-llama/Llama-3.1-8B-Instruct is gated: accept its licence and set HF_TOKEN" in text
    assert "Then: http://127.0.0.1:8000/v1, model meta-llama/Llama-3.1-8B-Instruct." in text


def test_a_repository_id_needs_no_quotes_and_a_pair_cannot_smuggle_words_in(
    pairs: dict[str, Pair],
) -> None:
    with pytest.raises(ValueError, match="repository id"):
        ModelRef(repo="a/b; rm -rf ~")
    for form in FORMS:
        assert shlex.quote("Qwen/Qwen3-8B") in render(make(pairs["qwen3-8b"]), form)
