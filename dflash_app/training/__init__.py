"""Train a DFlash drafter for a target: config, data, anchors, loss, trainer, provenance."""
