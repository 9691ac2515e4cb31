"""The embedded pair, made from nothing: task generator, tokenizer, target, drafter, card."""
