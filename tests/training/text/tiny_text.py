"""A model whose text tower is a small one of transformers, texts to train it on, and what each
process of `torchrun` does with them: `torchrun -m tests.training.text.tiny_text FOLDER`."""

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from safetensors.torch import save_file

from reelseek.configs.composition import compose
from reelseek.configs.train_schema import TrainConfig
from reelseek.training.checkpoints import Checkpoints
from reelseek.training.processes import Processes, join_processes
from reelseek.training.text.lists import TextLists, read_text_lists
from reelseek.training.text.run import TextRun
from reelseek.training.trainer import Trainer
from reelseek.vision import DualEncoder, ModelSpec, load_model
from tests.training import tiny_run

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "a dog cat horse red green blue runs sleeps jumps in the park house sea # animal ##s".split()
)
CONTEXT_LENGTH = 16
ALONE = Processes(0, 1, torch.device("cpu"))


def write_model(folder: Path, *, words: list[str] | None = None) -> Path:
    """An open_clip folder with a BERT of two layers, weights by chance."""
    folder.mkdir(parents=True)
    vocabulary = [*SPECIAL, *(WORDS if words is None else words)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=CONTEXT_LENGTH,
    ).save_pretrained(folder)
    text_cfg = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": False,
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
        "context_length": CONTEXT_LENGTH,
    }
    vision_cfg = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
    model_cfg = {"embed_dim": 12, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CustomTextCLIP(**model_cfg)
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}})
    )
    return folder


def load(folder: Path) -> DualEncoder:
    return load_model(ModelSpec(str(folder), scripts=("Latin",)))


def write_texts(folder: Path) -> dict[str, Path]:
    """Titles, and pairs of a query and a title; more of them held out."""
    titles = [
        f"the {colour} {animal} {verb} in the {place} #{animal}"
        for colour in ("red", "green", "blue")
        for animal in ("dog", "cat", "horse")
        for verb in ("runs", "sleeps", "jumps")
        for place in ("park", "sea")
    ]
    held_out = titles[::5]
    train = [title for title in titles if title not in held_out]
    files = {"train": train, "val": held_out}
    files["pairs"] = [f"{title.split()[2]}\t{title}" for title in train[:12]]
    files["val_pairs"] = [f"{' '.join(title.split()[1:3])}\t{title}" for title in held_out]
    paths = {}
    for name, lines in files.items():
        suffix = ".tsv" if "pairs" in name else ".txt"
        paths[name] = folder / f"{name}{suffix}"
        paths[name].write_text("".join(line + "\n" for line in lines))
    return paths


def arguments(model: Path, paths: dict[str, Path], output: Path, *changes: str) -> list[str]:
    """Of `train.py`: the last of two that name the same option counts."""
    given = [
        "task=text",
        f"data.train={paths['train']}",
        f"pairs={paths['pairs']}",
        f"data.val={paths['val']}",
        f"val_pairs={paths['val_pairs']}",
        f"model={model}",
        f"output={output}",
        *("loop.batch_size=16", "loop.epochs=2", "optimizer.warmup_steps=2", "device=cpu"),
        *("optimizer.lr=1e-2", "optimizer.text_lr=1e-2", "optimizer.trunk_lr=1e-2"),
        "precision=fp32",
    ]
    by_name = {argument.partition("=")[0]: argument for argument in [*given, *changes]}
    return [argument for argument in by_name.values() if not argument.endswith("=MISSING")]


class Run:
    """A run of tiny texts in this process.

    Args:
        folder: with the `model` and the texts; checkpoints go into a folder in it.
        changes: arguments of `train.py`.
    """

    def __init__(
        self, folder: Path, name: str, *changes: str, processes: Processes = ALONE
    ) -> None:
        self.paths = {
            each: next(folder.glob(f"{each}.t*")) for each in ("train", "pairs", "val", "val_pairs")
        }
        self.config = compose(
            TrainConfig, arguments(folder / "model", self.paths, folder / name, *changes)
        )
        self.lists: TextLists = read_text_lists(self.config)
        self.folder = folder / name
        self._model = folder / "model"
        self._processes = processes

    def trainer(self) -> Trainer:
        """Begins, or goes on from the checkpoint."""
        checkpoints = Checkpoints(self.folder)
        run = TextRun(self.config, load(self._model), self.lists, self._processes)
        trainer = run.make_trainer(checkpoints, {"data": {}})
        if (state := checkpoints.read_last()) is not None:
            trainer.restore(state)
        return trainer


def make_folder(folder: Path) -> Path:
    write_model(folder / "model")
    write_texts(folder)
    return folder


# Of training over two processes: with masks, dropout, hashtags, pairs and an anchor.
CONFIGURATIONS = {
    "all": ("loop.chunk_size=3", "loop.accumulate_steps=2", "text.anchor_weight=0.5"),
    "heads": ("trainable.text=heads", "objective.train_logit_scale=true"),
}


def train_all(folder: Path, name: str, processes: Processes) -> dict[str, Any]:
    """The losses and the weights that each of the configurations ends with."""
    results: dict[str, Any] = {}
    for number, (configuration, changes) in enumerate(CONFIGURATIONS.items()):
        trainer = Run(
            folder, f"{name}-{number}", "loop.epochs=1", *changes, processes=processes
        ).trainer()
        assert tiny_run.run(trainer)
        results[configuration] = (tiny_run.losses_of(trainer), trainer.finished_weights())
    return results


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with join_processes("cpu") as processes:
        results = train_all(folder, "two", processes)
        if processes.is_main_process:
            torch.save(results, folder / "two.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
