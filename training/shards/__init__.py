"""Tar shards -> batches, decoded beside the training loop."""
