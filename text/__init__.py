"""A sentence -> tokens -> a text embedding; and a query -> what it means."""

from text.analysis import AnalyzedQuery, QueryAnalyzer
from text.constraints import Constraint
from text.encoding import TextEncoder, trimmed
from text.entities import Entity
from text.everyday import everyday_queries
from text.scripts import scripts_of
from text.segmentation import missing_segmenters, words
from text.spelling import Correction
from text.tokenizer import Tokenizer
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
    "everyday_queries",
    "missing_segmenters",
    "scripts_of",
    "trimmed",
    "words",
]
