"""Which model is advised, with its price, and how often."""

import pytest

from reelseek.configs import command_line
from reelseek.indexing.model_advice import first_advice
from reelseek.vision import check_model_name


@pytest.fixture(autouse=True)
def not_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)


@pytest.mark.parametrize(
    ("has_gpu", "preset", "architecture"),
    [(False, "siglip2_b32", "ViT-B-32-SigLIP2-256"), (True, "pe_core_b16", "PE-Core-B-16")],
)
def test_advice_names_a_preset_of_an_architecture_that_open_clip_has(
    tmp_path, has_gpu, preset, architecture
):
    import open_clip

    advice = first_advice(tmp_path / "cache", has_gpu=has_gpu)
    assert f"model={preset} " in advice
    assert all(word in advice for word in ("R@1", "speed", "GB"))
    config = command_line.load_model_config(preset)
    assert config.name == architecture
    check_model_name(config.name)
    assert config.pretrained in open_clip.list_pretrained_tags_by_model(config.name)


def test_advice_is_given_once_a_user(tmp_path):
    assert first_advice(tmp_path / "a", has_gpu=False)
    assert not first_advice(tmp_path / "a", has_gpu=True)
    assert first_advice(tmp_path / "b", has_gpu=False)


def test_advice_is_not_given_in_ci(tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert not first_advice(tmp_path, has_gpu=False)
    monkeypatch.delenv("CI")
    assert first_advice(tmp_path, has_gpu=False)


def test_cache_that_cannot_be_written_does_not_end_the_run(tmp_path):
    (tmp_path / "file").touch()
    assert first_advice(tmp_path / "file" / "cache", has_gpu=False)
