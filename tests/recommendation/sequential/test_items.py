"""Embeddings of items: ids, content, and what is known of items that nobody chose."""

import torch

from reelseek.recommendation.sequential.items import ItemEmbeddings


def embeddings(id_dropout: float = 0.0) -> ItemEmbeddings:
    torch.manual_seed(0)
    content = torch.randn(5, 3)
    content[1] = content[3] = 0.0
    has_history = torch.tensor([True, True, False, False, True])
    return ItemEmbeddings(has_history, 4, content=content, id_dropout=id_dropout).eval()


def test_an_embedding_is_the_normalised_sum_of_id_and_projected_content() -> None:
    items = embeddings()
    assert items.projection is not None and items.content is not None
    expected = items.ids.weight[0] + items.content[0] @ items.projection.weight.T
    torch.testing.assert_close(items(torch.tensor(0)), expected / expected.norm())


def test_an_item_that_nobody_chose_lies_where_its_content_says() -> None:
    items = embeddings()
    assert items.projection is not None and items.content is not None
    expected = items.content[2] @ items.projection.weight.T
    torch.testing.assert_close(items(torch.tensor(2)), expected / expected.norm())
    items.ids.weight.data[2] += 1.0  # what it was drawn as has no part in it
    torch.testing.assert_close(items(torch.tensor(2)), expected / expected.norm())


def test_an_item_of_which_nothing_is_known_is_zero() -> None:
    assert embeddings()(torch.tensor(3)).eq(0).all()
    without_content = ItemEmbeddings(torch.tensor([True, False]), 4)
    assert without_content.table()[1].eq(0).all()


def test_id_dropout_leaves_content_alone_and_spares_items_without_content() -> None:
    items = embeddings(id_dropout=1.0).train()
    assert items.projection is not None and items.content is not None
    content_alone = items.content[0] @ items.projection.weight.T
    torch.testing.assert_close(items(torch.tensor([0]))[0], content_alone / content_alone.norm())
    own_id = items.ids.weight[1]
    torch.testing.assert_close(items(torch.tensor([1]))[0], own_id / own_id.norm())


def test_the_table_is_that_of_evaluation_also_while_training() -> None:
    items = embeddings(id_dropout=0.9).train()
    torch.testing.assert_close(items.table(), items.eval()(torch.arange(5)))
    items.train()
    items.table()
    assert items.training
