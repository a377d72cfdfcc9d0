"""A sentence -> tokens -> a text embedding; and a query -> what it means."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from text.analysis import AnalyzedQuery, QueryAnalyzer
    from text.constraints import Constraint
    from text.encoding import TextEncoder, strip_padding
    from text.entities import Entity
    from text.everyday import everyday_queries
    from text.function_words import content_words
    from text.scripts import scripts_of
    from text.segmentation import missing_segmenters, words
    from text.spelling import Correction
    from text.token_encoding import TokenEncoder
    from text.tokenizer import Tokenizer
    from text.vocabulary import Vocabulary

__all__ = [
    "AnalyzedQuery",
    "Constraint",
    "Correction",
    "Entity",
    "QueryAnalyzer",
    "TextEncoder",
    "TokenEncoder",
    "Tokenizer",
    "Vocabulary",
    "content_words",
    "everyday_queries",
    "missing_segmenters",
    "scripts_of",
    "strip_padding",
    "words",
]

# Imported when first asked for: words can be cut without PyTorch, and sentences encoded without
# patterns that take a seventh of a second to compile.
_MODULES = {
    "AnalyzedQuery": "analysis",
    "Constraint": "constraints",
    "Correction": "spelling",
    "Entity": "entities",
    "QueryAnalyzer": "analysis",
    "TextEncoder": "encoding",
    "TokenEncoder": "token_encoding",
    "Tokenizer": "tokenizer",
    "Vocabulary": "vocabulary",
    "content_words": "function_words",
    "everyday_queries": "everyday",
    "missing_segmenters": "segmentation",
    "scripts_of": "scripts",
    "strip_padding": "encoding",
    "words": "segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"text.{_MODULES[name]}"), name)
