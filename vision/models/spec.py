"""Names a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """Names a model, so that it can be loaded again.

    Attributes:
        name: `mini`, an open_clip architecture, `hf-hub:owner/name`, or a folder.
        pretrained: An open_clip weights tag or a weights file; None where the name is enough.
        scripts: Unicode scripts the text tower was trained on, such as `Latin`; empty if unknown.
    """

    name: str
    pretrained: str | None = None
    scripts: tuple[str, ...] = ()
