"""`python -m indexing.delete index=DIR where="..."`: removes videos from an index."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from configs import command_line
from configs.schema import DeleteConfig
from indexing.filters import check_fields, metadata_fields, parse_filter
from indexing.writer import IndexWriter

USAGE = """usage: python -m indexing.delete index=DIR where="..." | keys=[KEY,KEY]

Removes videos from an index; their files are not touched. The last line on stdout is a JSON object.
A later python -m indexing adds them again if its videos= still lists them."""


def main(cfg: DictConfig) -> None:
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, DeleteConfig)
    with IndexWriter(Path(config.index)) as writer:
        known = writer.catalogue.records()
        if config.where is not None:
            condition = parse_filter(config.where)
            with writer.catalogue.named_errors():
                check_fields(condition, metadata_fields(writer.catalogue.connection))
            keys = writer.catalogue.matching_keys(*condition.condition())
        else:
            keys = list(dict.fromkeys(config.keys))
            unknown = [key for key in keys if key not in known]
            if unknown:
                raise ValueError(f"keys: the index has no video {unknown[0]}")
        if keys:
            writer.delete(keys)
        manifest = writer.publish()
    for key in keys:
        print(f"deleted {command_line.printable(key)}")
    command_line.print_json({"deleted": len(keys), "searchable": manifest.num_videos})


if __name__ == "__main__":
    command_line.run(main, config_name="delete", usage=USAGE)
