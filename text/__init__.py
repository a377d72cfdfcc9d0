"""A sentence -> tokens -> a text embedding."""

from text.encoding import TextEncoder, trimmed
from text.everyday import everyday_queries
from text.scripts import scripts_of
from text.tokenizer import Tokenizer

__all__ = ["TextEncoder", "Tokenizer", "everyday_queries", "scripts_of", "trimmed"]
