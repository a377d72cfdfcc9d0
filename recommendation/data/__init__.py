"""Logs and files of interactions -> typed, compact structures, and splits of them."""
