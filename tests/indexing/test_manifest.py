import json
from dataclasses import replace

import pytest

from indexing import IndexMismatchError, IndexSettings, Manifest
from indexing.manifest import FORMAT_VERSION, check_settings

SETTINGS = IndexSettings(
    model={"name": "mini", "pretrained": None, "scripts": ["Latin"]},
    fingerprint="0123456789abcdef",
    embedding_dim=512,
    sampling={"kind": "interval", "every_seconds": 1.0},
    segments={"seconds": 4.0, "overlap_seconds": 2.0},
)


def change(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_manifest_is_read_as_it_was_written(tmp_path):
    manifest = Manifest(SETTINGS, generation=3, revision=8, num_videos=5, num_segments=70)
    assert not Manifest.exists(tmp_path)
    manifest.write(tmp_path)
    assert Manifest.exists(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_missing_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"index=.*/none: no such folder; .*python -m indexing"):
        Manifest.read(tmp_path / "none")


def test_file_is_not_an_index(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"index=.*/file: is a file, not an index"):
        Manifest.read(tmp_path / "file")


def test_folder_without_manifest_is_not_an_index(tmp_path):
    with pytest.raises(ValueError, match=r"is not an index \(it has no manifest.json\)"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff\xfe\x00", b'{"format": 2}']
)
def test_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json is damaged \(\w+\); index again"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("values", [{"unknown": 1}, {"settings": {}}, {"settings": [1]}])
def test_manifest_with_other_fields_is_damaged(tmp_path, values):
    Manifest(SETTINGS).write(tmp_path)
    change(tmp_path, **values)
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("other_fields", [{}, {"shards": 4, "settings": {"models": []}}])
def test_other_format_version_is_named_whatever_else_it_holds(tmp_path, other_fields):
    Manifest(SETTINGS).write(tmp_path)
    change(tmp_path, format=FORMAT_VERSION + 1, **other_fields)
    match = f"has format {FORMAT_VERSION + 1}, this version of reelseek reads {FORMAT_VERSION}; "
    with pytest.raises(IndexMismatchError, match=match):
        Manifest.read(tmp_path)


def test_equal_settings_fit(tmp_path):
    check_settings(replace(SETTINGS), SETTINGS, tmp_path)


def test_model_under_another_name_with_the_same_fingerprint_fits(tmp_path):
    check_settings(replace(SETTINGS, model={"name": "/moved/mini"}), SETTINGS, tmp_path)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"fingerprint": "fedcba9876543210", "model": {"name": "ViT-B-32"}},
            r"was built with model=mini \(fingerprint 01234567\), not model=ViT-B-32 \(fedcba98\)",
        ),
        ({"sampling": {"kind": "uniform"}}, r"built with sampling .*interval.*, not .*uniform"),
        (
            {"segments": {"seconds": 8.0, "overlap_seconds": 2.0}},
            r"built with segments .*4\.0.*, not .*8\.0.*; leave segments out, or index into",
        ),
    ],
)
def test_mismatch_names_both_sides_and_the_remedy(tmp_path, asked, message):
    with pytest.raises(IndexMismatchError, match=message) as raised:
        check_settings(replace(SETTINGS, **asked), SETTINGS, tmp_path)
    assert str(raised.value).startswith(f"index={tmp_path}: ")
    assert "index into another folder" in str(raised.value)
