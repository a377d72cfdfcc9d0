"""A sentence -> tokens -> a text embedding."""

from text.encoding import TextEncoder, trimmed
from text.scripts import scripts_of
from text.tokenizer import Tokenizer

__all__ = ["TextEncoder", "Tokenizer", "scripts_of", "trimmed"]
