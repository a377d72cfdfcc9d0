"""Item indices -> embeddings: an id part and a part projected from content, summed."""

import torch
from torch import nn
from torch.nn import functional as F

_NEW_WEIGHT_STD = 1.0  # of a whole vector, divided by sqrt(dim) for each component


class ItemEmbeddings(nn.Module):
    """The embeddings of a catalogue of N items, for histories and for what comes next alike.

    An item's embedding is `normalize(id + content @ projection)`. Items that nobody chose in
    training have no id part, as theirs would stay what it was drawn as: content alone says where
    they lie. So that content learns to say it, items that do have an id part lose it at random in
    training (DropoutNet, Volkovs et al., NeurIPS 2017, section 4.2).

    Args:
        has_history: `(N,)` bool, whether an item was chosen in training.
        dim: D.
        content: `(N, C)` float32; rows of zeros for items whose content is not known. None for a
            catalogue without content.
        id_dropout: how often an item with content loses its id part in training, 0 to 1.
    """

    has_id: torch.Tensor
    content: torch.Tensor | None
    has_content: torch.Tensor | None

    def __init__(
        self,
        has_history: torch.Tensor,
        dim: int,
        *,
        content: torch.Tensor | None = None,
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_items = len(has_history)
        self.ids = nn.Embedding(num_items, dim)
        nn.init.normal_(self.ids.weight, std=_NEW_WEIGHT_STD * dim**-0.5)
        self.register_buffer("has_id", has_history.float()[:, None], persistent=False)
        self.register_buffer("content", content, persistent=False)
        has_content = None if content is None else content.any(dim=1, keepdim=True)
        self.register_buffer("has_content", has_content, persistent=False)
        self.projection = None if content is None else nn.Linear(content.shape[1], dim, bias=False)
        self._id_dropout = id_dropout

    @property
    def num_items(self) -> int:
        return self.ids.num_embeddings

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Maps item indices `(...)` to embeddings `(..., D)`, L2-normalised; an item with neither
        history nor content is zero."""
        vectors = self.ids(items) * F.embedding(items, self.has_id)
        if self.content is not None and self.projection is not None:
            assert self.has_content is not None
            if self.training and self._id_dropout:
                is_dropped = torch.rand(items.shape, device=items.device) < self._id_dropout
                is_dropped &= F.embedding(items, self.has_content.float())[..., 0] > 0
                vectors = vectors.masked_fill(is_dropped[..., None], 0.0)
            vectors = vectors + self.projection(F.embedding(items, self.content))
        return F.normalize(vectors, dim=-1)

    @torch.no_grad()
    def table(self) -> torch.Tensor:
        """Returns the embeddings of all items, `(N, D)`, as they are used after training."""
        was_training = self.training
        self.eval()
        try:
            return self(torch.arange(self.num_items, device=self.ids.weight.device))
        finally:
            self.train(was_training)
