"""How text and image towers of `mini` are aligned: the file, and what computed it."""

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F

from reelseek.vision.models.alignment import (
    TEMPLATES,
    align,
    load_alignment,
    pooled_features,
)
from reelseek.vision.models.mini_text import SENTENCE_ENCODERS

NAMES = pytest.mark.parametrize("name", ["mini", "mini_fast"])


@NAMES
def test_file_agrees_with_the_sentence_encoder(name):
    alignment = load_alignment(name)
    classes = list(range(3, 1000, 90))
    names = [open_clip.IMAGENET_CLASSNAMES[i] for i in classes]
    sentences = [template.format(each) for template in TEMPLATES for each in names]
    features = pooled_features(SENTENCE_ENCODERS[name], sentences).unflatten(0, (4, -1))
    embeddings = F.normalize(features, dim=-1).mean(dim=0)
    mapped = embeddings @ alignment["projection"].double().T
    # The mean of all classes is missing here, so that differences are compared.
    torch.testing.assert_close(
        mapped - mapped[0],
        (alignment["classes"].T[classes] - alignment["classes"].T[classes[0]]).double(),
        rtol=0,
        atol=1e-4,
    )
    mean = features.mean(dim=(0, 1))  # of a sample
    assert F.cosine_similarity(mean, alignment["mean"], dim=0) > 0.85
    assert float(mean.norm() / alignment["mean"].norm()) == pytest.approx(1, abs=0.25)


@NAMES
def test_map_is_orthonormal_and_classes_are_centred(name):
    alignment = load_alignment(name)
    rows = alignment["projection"].double()
    small = rows @ rows.T if rows.shape[0] < rows.shape[1] else rows.T @ rows
    torch.testing.assert_close(small, torch.eye(len(small)).double(), rtol=0, atol=1e-4)
    assert float(alignment["classes"].mean(dim=1).abs().max()) < 1e-5


@pytest.mark.parametrize("width", [24, 600])
def test_alignment_keeps_the_space_in_which_classes_differ_most(width):
    features = torch.randn(2, 700, width, generator=torch.Generator().manual_seed(0)).double()
    features *= torch.logspace(0, -2, width)
    alignment = align(features)
    embeddings = F.normalize(features, dim=-1).mean(dim=0).numpy()
    centred = embeddings - embeddings.mean(axis=0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    kept = (left[:, :512] * values[:512]) @ right[:512]
    classes = alignment["classes"].double().numpy()
    np.testing.assert_allclose(classes.T @ classes, kept @ kept.T, rtol=0, atol=1e-3)
    torch.testing.assert_close(alignment["mean"], features.mean(dim=(0, 1)))
