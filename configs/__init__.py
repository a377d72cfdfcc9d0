"""Hydra configuration: values in YAML groups, types in `configs.schema`."""
