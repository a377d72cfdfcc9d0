"""A sentence, an image or a video -> the videos, and the seconds in them, that match.

`search("a dog catches a frisbee", index="DIR")` for one question, a `Searcher` for many, and
`python search.py index=DIR query="..."` from the command line.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig
    from PIL import Image

    from indexing import IndexReader, SearchHit
    from text import TextEncoder
    from vision import DualEncoder, FrameEncoder

logger = logging.getLogger(__name__)

USAGE = """usage: python search.py index=DIR query="..." [k=10] [level=video|moment] [json=true]
       [where="..."] [page=FILE.html] [name=value ...]

Searches an index by words (query=), by an image (image=FILE) or by a video (video=FILE)."""

_QUERY_FRAMES = 12  # of a video that is searched by


class Searcher:
    """An index and its model, opened once for many questions.

    Use `Searcher.open`; the constructor takes the parts.
    """

    def __init__(self, reader: IndexReader, model: DualEncoder, *, device: str = "auto") -> None:
        from text import TextEncoder, Tokenizer
        from vision import choose_device

        self._reader = reader
        self._model = model
        self._device = choose_device(device)
        self._frame_encoder: FrameEncoder | None = None  # made at the first image or video query
        self._text_encoder: TextEncoder = TextEncoder(
            model.clip,
            Tokenizer(model.tokenize, context_length=model.context_length),
            scripts=model.spec.scripts,
            device=self._device,
        )

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        model: str | None = None,
        device: str = "auto",
        log_queries: bool = False,
    ) -> Searcher:
        """Opens an index and loads the model it was built with.

        Args:
            index: the folder.
            model: to insist on a model by preset, open_clip name or folder.
            device: `auto`, `cpu`, `cuda`, ...
            log_queries: keep the queries' embeddings (not their words) in the index's folder, for
                its recall to be measured on and its FAISS indexes to be tuned for.

        Raises:
            ValueError: not an index, a damaged one, or nothing in it yet; a model that cannot be
                loaded (`vision.ModelUnavailableError`) or is not the one the index was built
                with (`indexing.IndexMismatchError`).
        """
        from configs.command_line import load_model_config

        spec = None if model is None else load_model_config(model).spec()
        return cls._open(Path(index), spec, device=device, log_queries=log_queries)

    @classmethod
    def _open(cls, folder: Path, spec: Any, *, device: str, log_queries: bool) -> Searcher:
        from configs.command_line import preset_names
        from configs.schema import ModelConfig
        from indexing.manifest import IndexMismatchError
        from indexing.reading import IndexReader
        from vision import load_model

        reader = IndexReader(folder, log_queries=log_queries)
        settings = reader.manifest.settings
        if spec is None:
            spec = ModelConfig(**settings.model).spec()
        model = load_model(spec, known_names=preset_names("model"))
        if model.fingerprint != settings.fingerprint:
            raise IndexMismatchError(
                f"index={folder}: was built with model={settings.model['name']} (fingerprint "
                f"{settings.fingerprint[:8]}), and model={spec.name} is another "
                f"({model.fingerprint[:8]}); search with the model it was built with, or index "
                "into a new folder"
            )
        return cls(reader, model, device=device)

    def search(
        self,
        query: str | Path | Image.Image,
        *,
        k: int = 10,
        level: str = "video",
        where: str | None = None,
    ) -> list[SearchHit]:
        """Finds the best matches.

        Args:
            query: a sentence; or the path (a `Path`, not a `str`) of an image or a video; or a
                Pillow image.
            k: hits to return, at least 1; fewer come back where the index holds fewer.
            level: `video` for whole videos, `moment` for the seconds in them.
            where: only in videos like this, such as `duration < 60 and tag = 'cat'`; the language
                is in `indexing.filters`.

        Returns:
            The hits, best first.

        Raises:
            ValueError: an empty query, k or level out of range, a filter that cannot be read or
                names a field that no video has.
            vision.VideoDecodeError: the image or video cannot be read.
        """
        return self._reader.search(self._embed(query), k=k, level=level, where=where)

    def close(self) -> None:
        """Closes the index's files."""
        self._reader.close()

    def _embed(self, query: str | Path | Image.Image) -> np.ndarray:
        """The query's embedding, `(D,)` float32."""
        if isinstance(query, str):
            return self._text_encoder.encode_query(query).numpy()

        import torch

        from vision import FrameEncoder, FrameSettings, UniformSampler, iter_frames

        if self._frame_encoder is None:
            self._frame_encoder = FrameEncoder(
                self._model, device=str(self._device), precision="fp32"
            )
        encoder = self._frame_encoder
        if isinstance(query, Path):
            settings = FrameSettings(UniformSampler(_QUERY_FRAMES), encoder.preprocessing)
            pixels = torch.cat([frames.pixels for frames in iter_frames(query, settings)])
        else:
            import numpy as np

            image = torch.from_numpy(np.array(query.convert("RGB"))).permute(2, 0, 1)
            pixels = encoder.preprocessing.resize(image[None])
        return encoder.pool(encoder.encode(pixels)).numpy()


def search(
    query: str | Path | Image.Image,
    *,
    index: str | Path,
    k: int = 10,
    level: str = "video",
    where: str | None = None,
    model: str | None = None,
    device: str = "auto",
) -> list[SearchHit]:
    """Opens an index, asks one question and closes it; see `Searcher` for the arguments."""
    searcher = Searcher.open(index, model=model, device=device)
    try:
        return searcher.search(query, k=k, level=level, where=where)
    finally:
        searcher.close()


def main(cfg: DictConfig) -> None:
    from omegaconf import OmegaConf

    from configs.schema import SearchConfig, as_plain

    config = OmegaConf.to_object(cfg)
    assert isinstance(config, SearchConfig)
    query: str | Path = config.query if config.query is not None else ""
    if config.query is not None and not config.query.strip():
        raise ValueError("query is empty: say in a few words what the video should show")
    if config.query is None:
        query = Path(config.image or config.video or "")

    from vision import VideoDecodeError

    spec = None if config.model is None else config.model.spec()
    searcher = Searcher._open(
        Path(config.index), spec, device=config.device, log_queries=config.log_queries
    )
    try:
        hits = searcher.search(query, k=config.k, level=config.level.value, where=config.where)
    except VideoDecodeError as error:
        raise ValueError(f"{query}: {error}") from error
    finally:
        searcher.close()
    if config.page is not None:
        from indexing.page import write_page

        write_page(Path(config.page), [(str(query), hits)])
    if config.json:
        print(json.dumps([as_plain(hit) for hit in hits]))
    else:
        print(table(hits))


def table(hits: list[SearchHit]) -> str:
    """The hits as lines of text: rank, score, time, file."""
    from indexing.page import clock

    lines = [f"{'#':>3}  {'score':>6}  {'time':<15}  video"]
    for hit in hits:
        span = f"{clock(hit.start_seconds)}-{clock(hit.end_seconds)}"
        lines.append(f"{hit.rank:>3}  {hit.score:6.3f}  {span:<15}  {hit.key}")
    return "\n".join(lines).encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    from configs import command_line

    command_line.run(main, config_name="search", usage=USAGE)
