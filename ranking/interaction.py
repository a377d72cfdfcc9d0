"""`python -m ranking.interaction index=DIR output=DIR`: learns what each token and frame counts."""

import json
from itertools import product
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from configs import command_line
from configs.schema import InteractionConfig

USAGE = """usage: python -m ranking.interaction index=DIR output=DIR [name=value ...]

Trains the weights of late interaction on the captions of an index; a search with reranker=DIR then
reorders its best videos by them. The last line on stdout is a JSON object: R@1 and R@10 of captions
of videos that were not trained on, among these, with and without."""


def main(cfg: DictConfig) -> None:
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, InteractionConfig)

    from ranking.interaction_training import train_interaction
    from ranking.late_interaction import MAX_FRAMES
    from ranking.reranking import RERANKED, combined
    from search import Searcher

    searcher = Searcher.open(config.index, device=config.device)
    try:
        reader = searcher.reader
        frames = reader.frames(list(reader.video_ids().values()), at_most=MAX_FRAMES)
        records = reader.records(list(frames))
        captions = {n: records[n].metadata.get("captions") or [] for n in frames}
        videos = [n for n in frames if captions[n]]
        if len(videos) < 4:
            raise ValueError(
                f"index={config.index}: {len(videos)} of its videos have captions to learn from, "
                "and at least four are needed"
            )
        videos = np.random.default_rng(config.seed).permutation(videos).tolist()
        num_tested = int(config.test_share * len(videos))
        pairs = [(n, caption) for n in videos for caption in captions[n]]
        tokens = searcher.encoder.tokens([caption for _, caption in pairs])
        queries = searcher.encoder.sentences([caption for _, caption in pairs])
        whole = np.stack(list(reader.whole(videos).values()))
        fingerprint = reader.manifest.settings.fingerprint
    finally:
        searcher.close()
    place = {n: number for number, n in enumerate(videos)}
    own = np.array([place[n] for n, _ in pairs])
    trained = np.flatnonzero(own >= num_tested)
    weights = train_interaction(
        [tokens[row] for row in trained],
        [frames[videos[own[row]]] for row in trained],
        video_ids=own[trained].tolist(),
        num_epochs=config.epochs,
        seed=config.seed,
        fingerprint=fingerprint,
    )
    weights.save(Path(config.output))
    shown = [frames[n] for n in videos[:num_tested]]
    ranks: dict[str, list[int]] = {"": [], "_without": []}
    for row in np.flatnonzero(own < num_tested):
        scores = whole[:num_tested] @ queries[row]
        best = np.argsort(-scores, kind="stable")[:RERANKED]
        late = weights.scores(
            tokens[row],
            np.concatenate([shown[n] for n in best]),
            counts=[len(shown[n]) for n in best],
        )
        reordered = best[np.argsort(-combined(scores[best], late), kind="stable")]
        for name, order in (("", reordered), ("_without", best)):
            place_of_own = np.flatnonzero(order == own[row])
            ranks[name].append(int(place_of_own[0]) + 1 if len(place_of_own) else len(videos))
    summary: dict[str, float | None] = {"captions": len(trained), "tested": len(ranks[""])}
    for k, (name, found) in product((1, 10), ranks.items()):
        share = 100 * float(np.mean([rank <= k for rank in found])) if found else None
        summary[f"R@{k}{name}"] = None if share is None else round(share, 1)
    print(json.dumps(summary))


if __name__ == "__main__":
    command_line.run(main, config_name="interaction", usage=USAGE)
