import json

import pytest
import torch

from dflash_app.backends.torch.loading import load_models
from dflash_app.backends.torch.target import load_target
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.prompt import encode_prompt
from dflash_app.errors import TrainingError
from dflash_app.request import Message
from dflash_app.training.config import DrafterShape, TrainingConfig
from dflash_app.training.data import Sequences, load_sequences, read_conversations
from dflash_app.training.evaluation import decode_greedy
from tests.training.tiny_target import write_target

NUM_NEW = 12


@pytest.fixture(scope="module")
def target_dir(tmp_path_factory):
    return write_target(tmp_path_factory.mktemp("target"))


def config_for(target_dir, tmp_path, rows, **changes):
    path = tmp_path / "conversations.jsonl"
    lines = [json.dumps({"messages": [{"role": r, "content": c} for r, c in row]}) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    shape = DrafterShape(num_layers=1, block_size=4, target_layer_ids=(0, 2), mask_token_id=3)
    values = {
        "target": target_dir,
        "conversations": path,
        "output": tmp_path / "out",
        "drafter": shape,
        "max_new_tokens": NUM_NEW,
        "sequence_length": 48,
    }
    return TrainingConfig(**(values | changes))


def sequences_of(config, said=None):
    target = load_target(config.target, torch.device("cpu"), torch.float32)
    log = said.append if said is not None else lambda _: None
    return load_sequences(config, load_tokenizer(config.target), target, log)


def rows_by_prompt(sequences):
    found = {}
    for ids, length, start in zip(
        sequences.token_ids.tolist(), sequences.lengths, sequences.starts, strict=True
    ):
        found[tuple(ids[:start])] = tuple(ids[start:length])
    return found


def test_every_reply_is_the_engines_own_greedy_output(target_dir, tmp_path):
    prompts = [f"w{i} w{(3 * i) % 28} w{(5 * i + 1) % 28}" for i in range(1, 12)]
    rows = [[("user", p)] for p in prompts] + [
        [("user", "w1 w2"), ("assistant", "w3"), ("user", "w4")]
    ]
    config = config_for(target_dir, tmp_path, rows)
    found = rows_by_prompt(sequences_of(config))
    models, tokenizer = load_models(target_dir, None), load_tokenizer(target_dir)
    for row in rows:
        prompt = encode_prompt(tokenizer, [Message(r, c) for r, c in row])
        expected = decode_greedy(models, prompt, NUM_NEW, mode="ar").token_ids
        assert found[tuple(prompt)] == expected


def test_a_reply_in_the_file_is_kept_only_where_the_target_would_have_said_it(target_dir, tmp_path):
    models, tokenizer = load_models(target_dir, None), load_tokenizer(target_dir)
    ending = None
    for i in range(28):
        prompt = encode_prompt(tokenizer, [Message("user", f"w{i}")])
        reply = decode_greedy(models, prompt, NUM_NEW, mode="ar").token_ids
        if reply[-1] == 1 and len(reply) > 2:
            ending = (f"w{i}", tokenizer.decode(reply[:-1]), prompt, reply)
    assert ending is not None, "the tiny target ends none of its replies: choose another seed"
    text, said, prompt, reply = ending
    rows = [[("user", text), ("assistant", said)], [("user", "w5"), ("assistant", "w6 w7 w8")]]
    log: list[str] = []
    found = rows_by_prompt(sequences_of(config_for(target_dir, tmp_path, rows), log))
    assert "1 of 2 replies are the target's own already" in log[0]
    assert found[tuple(prompt)] == reply


def test_sequences_are_answered_once_and_again_when_the_data_changes(target_dir, tmp_path):
    config = config_for(target_dir, tmp_path, [[("user", "w1 w2")], [("user", "w3")]])
    log: list[str] = []
    first = sequences_of(config, log)
    spoken = len(log)
    again = sequences_of(config, log)
    assert len(log) == spoken
    assert torch.equal(first.token_ids, again.token_ids)
    sequences_of(config_for(target_dir, tmp_path, [[("user", "w9")]]), log)
    assert len(log) > spoken


def test_no_batch_reads_more_than_it_may_however_unlike_its_prompts(
    target_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("dflash_app.training.data._BATCH_TOKENS", 60)
    rows = [[("user", text)] for text in ("w1", "w2", "w3 " * 20, "w4 " * 20)]
    target = load_target(target_dir, torch.device("cpu"), torch.float32)
    read = []
    target.model.register_forward_pre_hook(
        lambda model, args, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    config = config_for(target_dir, tmp_path, rows)
    found = load_sequences(config, load_tokenizer(target_dir), target, lambda _: None)
    assert len(found.lengths) == len(rows)
    assert 20 < max(read) <= 60


def test_without_regeneration_the_files_replies_are_taken(target_dir, tmp_path):
    rows = [[("user", "w1"), ("assistant", "w2 w3")]]
    found = rows_by_prompt(sequences_of(config_for(target_dir, tmp_path, rows, regenerate=False)))
    tokenizer = load_tokenizer(target_dir)
    assert list(found.values()) == [(*tokenizer.encode("w2 w3"), 1)]


def test_only_a_newline_ends_a_line(tmp_path):
    path = tmp_path / "c.jsonl"
    texts = ["one\u2028two", "three\u0085four\u000bfive"]
    rows = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    assert [each[0].content for each in read_conversations(path)] == texts


@pytest.mark.parametrize("line", ["{", '{"messages": [{"role": "robot", "content": "x"}]}', "[]"])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "c.jsonl"
    good = '{"messages": [{"role": "user", "content": "x"}]}'
    path.write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(Exception, match=r"line 2|role") as caught:
        read_conversations(path)
    assert isinstance(caught.value, TrainingError)
    assert "c.jsonl, line 2" in str(caught.value)


def test_batches_hold_sequences_of_like_length_and_mark_the_reply():
    lengths = torch.tensor([20, 30, 200, 210])
    token_ids = torch.arange(4 * 256).view(4, 256).int()
    sequences = Sequences(token_ids, lengths, torch.tensor([5, 6, 7, 8]))
    order = sequences.shuffled(2, 16_384, torch.Generator().manual_seed(0))
    seen = [set(next(order).tolist()) for _ in range(4)]
    assert all(rows in ({0, 1}, {2, 3}) for rows in seen)
    ids, reply = sequences.batch(torch.tensor([0, 1]))
    assert ids.shape == (2, 128)
    assert reply[0].nonzero().flatten().tolist() == list(range(5, 20))


def test_a_batch_of_long_sequences_holds_no_more_tokens_than_it_may():
    lengths = torch.tensor([100] * 8 + [500] * 4 + [2_000] * 2)
    sequences = Sequences(torch.zeros(14, 2_048).int(), lengths, torch.ones(14).long())
    order = sequences.shuffled(4, 1_024, torch.Generator().manual_seed(0))
    sizes = {(int(lengths[rows[0]]), len(rows)) for rows in (next(order) for _ in range(12))}
    assert sizes == {(100, 4), (500, 2), (2_000, 1)}  # one even where it alone is too long
