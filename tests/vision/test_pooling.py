import pytest
import torch
from torch.nn import functional as F

from vision import mean_pool


def test_mean_of_two_orthogonal_frames_lies_between_them():
    frames = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(mean_pool(frames), torch.tensor([0.5**0.5, 0.5**0.5]))


def test_one_frame_is_itself():
    frame = F.normalize(torch.randn(1, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(mean_pool(frame), frame[0])


def test_batch_is_pooled_video_by_video_and_normalised():
    frames = F.normalize(
        torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    pooled = mean_pool(frames)
    assert pooled.shape == (2, 3, 8)
    torch.testing.assert_close(pooled.norm(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(pooled[1, 2], mean_pool(frames[1, 2]))


def test_similarity_to_a_query_is_the_mean_similarity_up_to_its_length():
    frames = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    query = F.normalize(torch.randn(8, generator=torch.Generator().manual_seed(2)), dim=-1)
    length = float(sum(frames).norm()) / 6
    expected = sum(float(frame @ query) for frame in frames) / 6 / length
    assert float(mean_pool(frames) @ query) == pytest.approx(expected, abs=1e-6)
