import torch

from dflash_app.training.anchors import IGNORED, draw_blocks

LENGTH, BLOCK = 24, 4


def drawn(reply_from=6, reply_to=18, num_anchors=40, seed=0):
    token_ids = torch.arange(100, 100 + LENGTH)[None]
    reply = torch.zeros(1, LENGTH, dtype=torch.bool)
    reply[:, reply_from:reply_to] = True
    blocks = draw_blocks(
        token_ids,
        reply,
        num_anchors=num_anchors,
        block_size=BLOCK,
        mask_token_id=3,
        generator=torch.Generator().manual_seed(seed),
    )
    return token_ids, blocks


def test_every_block_begins_with_its_anchor_and_is_masked_after_it():
    token_ids, blocks = drawn()
    inputs = blocks.input_ids.view(-1, BLOCK)
    anchors = blocks.positions.view(-1, BLOCK)[:, 0]
    assert torch.equal(inputs[:, 0], token_ids[0, anchors])
    assert (inputs[:, 1:] == 3).all()


def test_slot_k_is_taught_the_token_at_anchor_plus_k():
    token_ids, blocks = drawn()
    taught = blocks.targets[0] != IGNORED
    assert torch.equal(blocks.targets[0, taught], token_ids[0, blocks.positions[0, taught]])
    assert torch.equal(blocks.slots.view(-1, BLOCK)[0], torch.arange(BLOCK))


def test_nothing_is_taught_at_the_anchor_or_past_the_end_of_the_reply():
    _, blocks = drawn(reply_to=18)
    targets = blocks.targets.view(-1, BLOCK)
    positions = blocks.positions.view(-1, BLOCK)
    assert (targets[:, 0] == IGNORED).all()
    assert (targets[positions >= 18] == IGNORED).all()
    assert (targets[:, 1:][positions[:, 1:] < 18] != IGNORED).all()


def test_anchors_cover_the_reply_and_always_have_a_successor_to_draft():
    _, blocks = drawn(num_anchors=400)
    anchors = set(blocks.positions.view(-1, BLOCK)[:, 0].tolist())
    assert anchors == set(range(6, 17))


def test_a_slot_sees_the_context_before_its_anchor_and_its_own_block_only():
    _, blocks = drawn(num_anchors=5)
    visible = blocks.visible[0, 0]
    for block in range(5):
        anchor = int(blocks.positions[0, block * BLOCK])
        for slot in range(block * BLOCK, (block + 1) * BLOCK):
            context, own = visible[slot, :LENGTH], visible[slot, LENGTH:]
            assert context.nonzero().flatten().tolist() == list(range(anchor))
            expected = list(range(block * BLOCK, (block + 1) * BLOCK))
            assert own.nonzero().flatten().tolist() == expected


def test_the_same_state_draws_the_same_blocks_and_another_draws_others():
    _, first = drawn(seed=1)
    _, again = drawn(seed=1)
    _, other = drawn(seed=2)
    assert torch.equal(first.positions, again.positions)
    assert not torch.equal(first.positions, other.positions)
