"""A sentence -> tokens -> a text embedding; and a query -> what it means."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from text.encoding import TextEncoder, trimmed
from text.scripts import scripts_of
from text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from text.analysis import AnalyzedQuery, QueryAnalyzer
    from text.constraints import Constraint
    from text.entities import Entity
    from text.segmentation import missing_segmenters, words
    from text.spelling import Correction
    from text.vocabulary import Vocabulary

__all__ = [
    "AnalyzedQuery",
    "Constraint",
    "Correction",
    "Entity",
    "QueryAnalyzer",
    "TextEncoder",
    "Tokenizer",
    "Vocabulary",
    "missing_segmenters",
    "scripts_of",
    "trimmed",
    "words",
]

# Imported when first asked for: their patterns take a seventh of a second to compile.
_MODULES = {
    "AnalyzedQuery": "analysis",
    "QueryAnalyzer": "analysis",
    "Constraint": "constraints",
    "Entity": "entities",
    "missing_segmenters": "segmentation",
    "words": "segmentation",
    "Correction": "spelling",
    "Vocabulary": "vocabulary",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"text.{_MODULES[name]}"), name)
