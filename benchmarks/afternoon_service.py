"""The peer of `benchmarks/serving.py`: the search service that one writes in an afternoon.

FastAPI, the model's text tower in float32, FAISS flat over all segments, JSON by a response model.
`uvicorn --factory benchmarks.afternoon_service:create_app`, with the folder of embeddings in
`AFTERNOON_FOLDER`.
"""

import json
import os
from pathlib import Path

import faiss
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from reelseek.text import TextEncoder, Tokenizer
from reelseek.vision import ModelSpec, load_model


class Hit(BaseModel):
    rank: int
    id: str
    video: str
    score: float
    start_seconds: float
    end_seconds: float
    metadata: dict[str, str]


class Answer(BaseModel):
    query: str
    hits: list[Hit]


def create_app() -> FastAPI:
    folder = Path(os.environ["AFTERNOON_FOLDER"])
    vectors = np.load(folder / "segments.npy")
    segments = json.loads((folder / "segments.json").read_text())
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    model = load_model(ModelSpec("mini"))
    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    encoder = TextEncoder(model.clip, tokenizer)
    app = FastAPI()

    @app.get("/api/search", response_model=Answer)
    def search(q: str, k: int = 10) -> Answer:
        scores, rows = index.search(encoder.encode([q]).numpy(), k)
        hits = [
            Hit(rank=rank, score=score, **segments[row])
            for rank, (score, row) in enumerate(zip(scores[0], rows[0], strict=True), start=1)
        ]
        return Answer(query=q, hits=hits)

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app
