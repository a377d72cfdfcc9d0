"""`python train.py eval_only=true data.val=B.jsonl model=NAME`: how well a model retrieves.

Training itself is to come; until then this says so.
"""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from configs import command_line
from configs.schema import TrainConfig

logger = logging.getLogger(__name__)

USAGE = """usage: python train.py eval_only=true data.val=B.jsonl model=NAME [output=DIR]
       [name=value ...]

Evaluates text-to-video and video-to-text retrieval on captioned videos. The last line on stdout
is a JSON object of metrics."""


def main(cfg: DictConfig) -> None:
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, TrainConfig)
    if config.output is not None:  # before the work, so that a mistake costs nothing
        output = Path(config.output)
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"output={output}: cannot be made ({error.strerror})") from error
    metrics = evaluate(config)
    if config.output is not None:
        from indexing.atomic import write_atomically

        OmegaConf.save(cfg, output / "config.yaml", resolve=True)
        write_atomically(output / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    print(json.dumps(metrics))


def evaluate(config: TrainConfig) -> dict:
    """Retrieval metrics of a model on `config.data.val`, and how many videos failed."""
    from indexing import collect_videos, encode_captioned, retrieval_metrics
    from text import TextEncoder, Tokenizer
    from vision import FrameEncoder, load_model, start_decode_server

    items = collect_videos(str(config.data.val))
    start_decode_server()  # it loads its libraries while the model is loaded here
    model = load_model(config.model.spec(), known_names=command_line.preset_names("model"))
    encoder = FrameEncoder(model, device=config.device, precision=config.precision, compiled=True)
    with config.decoding.pool(config.sampling, model.preprocessing) as pool:
        videos = encode_captioned(items, encoder=encoder, pool=pool)
    text_encoder = TextEncoder(
        model.clip,
        Tokenizer(model.tokenize, context_length=model.context_length),
        device=encoder.device,
    )
    similarity = text_encoder.encode(videos.captions) @ videos.embeddings.T
    metrics = retrieval_metrics(similarity.numpy(), videos.caption_video)
    return metrics | {"num_failed": len(videos.failed), "fingerprint": model.fingerprint}


if __name__ == "__main__":
    command_line.run(main, config_name="train", usage=USAGE)
