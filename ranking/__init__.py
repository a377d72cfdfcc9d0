"""Which evidence counts: rankings, scores and features of candidates in, ranks and reasons out.

Its parts know of no index, model or video: arrays come in, arrays go out. `retrieval` puts them
together over an index (with `texts`, `background`, `candidates`, `reranking`), `query_encoding`
over a model; `evaluation` measures, `python -m ranking` and
`python -m ranking.token_matching` learn.
"""

import lazy_loader

import reelseek  # noqa: F401  # in a checkout, its modules are shared

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
