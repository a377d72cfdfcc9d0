import json
import zlib
from dataclasses import asdict, replace

import pytest

from reelseek.indexing import IndexMismatchError, IndexSettings, Manifest
from reelseek.indexing.store.manifest import (
    FORMAT_VERSION,
    FaissOptions,
    LevelInfo,
    LexicalInfo,
    check_settings,
)
from reelseek.indexing.vectors.shard import ShardInfo

SETTINGS = IndexSettings(
    model={"name": "mini", "pretrained": None, "scripts": ["Latin"]},
    fingerprint="0123456789abcdef",
    embedding_dim=512,
    sampling={"kind": "interval", "every_seconds": 1.0},
    segments={"seconds": 4.0, "overlap_seconds": 2.0},
)


LEXICAL = LexicalInfo(
    "lexical-00000003", {"table.npy": 1, "video.meta.json": 2}, {"video": 5, "moment": 0}, "1"
)


def change(folder, **values):
    """Changes a manifest, and its checksum too."""
    path = folder / "manifest.json"
    values = json.loads(path.read_text()) | values
    del values["checksum"]
    values["checksum"] = zlib.crc32(json.dumps(values, sort_keys=True).encode())
    path.write_text(json.dumps(values))


def test_manifest_is_read_as_it_was_written(tmp_path):
    shard = ShardInfo(
        "moment-main-00000003", "moment-main-00000002", 70, "IVF16,SQ8", {"nprobe": 3}
    )
    manifest = Manifest(
        SETTINGS,
        generation=3,
        revision=8,
        num_videos=5,
        num_segments=70,
        frame_spread=0.25,
        faiss=FaissOptions("IVF16,SQ8", recall=0.9, memory_bytes=1 << 40),
        levels={"video": LevelInfo(), "moment": LevelInfo(shard, shard, "moment-deleted-3.npy", 7)},
        recall={"stored": 0.9125, "logged": 1.0},
        rebuild="recall of logged queries is below 0.9",
        lexical=LEXICAL,
    )
    assert not Manifest.exists(tmp_path)
    manifest.write(tmp_path)
    assert Manifest.exists(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_manifest_of_before_there_were_words_is_read(tmp_path):
    manifest = Manifest(SETTINGS, generation=3, num_videos=5)
    manifest.write(tmp_path)
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    del values["lexical"]
    path.write_text(json.dumps(values))
    change(tmp_path)
    assert "lexical" not in json.loads(path.read_text())
    assert Manifest.read(tmp_path) == manifest


@pytest.mark.parametrize(
    "values",
    [
        {"name": "../lexical-1"},
        {"name": "lexical-1/.."},
        {"name": "embeddings"},
        {"files": {"../x": 1}},
        {"files": {"a\0b": 1}},
        {"files": {"table.npy": "1"}},
        {"num_documents": {"video": 1}},
        {"more": 1},
    ],
)
def test_odd_lexical_index_is_refused(tmp_path, values):
    Manifest(SETTINGS, lexical=LEXICAL).write(tmp_path)
    said = json.loads((tmp_path / "manifest.json").read_text())["lexical"]
    change(tmp_path, lexical=said)
    assert Manifest.read(tmp_path).lexical == LEXICAL
    change(tmp_path, lexical=said | values)
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        Manifest.read(tmp_path)


def test_missing_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"index=.*/none: no such folder; .*reelseek index"):
        Manifest.read(tmp_path / "none")


def test_file_is_not_an_index(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"index=.*/file: is a file, not an index"):
        Manifest.read(tmp_path / "file")


def test_folder_without_manifest_is_not_an_index(tmp_path):
    with pytest.raises(ValueError, match=r"is not an index \(it has no manifest.json\)"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff\xfe\x00", b'{"format": 5}']
)
def test_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"manifest.json is damaged \(\w+\); run reelseek repair --index "
    ):
        Manifest.read(tmp_path)


def test_index_of_the_first_mini_is_one_of_mini_fast(tmp_path):
    for fingerprint, name in (
        ("c17a33e69adcd48f0a3c0425ed589733", "mini_fast"),
        ("c17a33e69adcd48f0a3c0425ed589734", "mini"),
    ):
        Manifest(replace(SETTINGS, fingerprint=fingerprint)).write(tmp_path)
        settings = Manifest.read(tmp_path).settings
        assert settings.model == SETTINGS.model | {"name": name}
        assert settings.fingerprint == fingerprint


def test_changed_value_is_noticed(tmp_path):
    Manifest(SETTINGS, generation=3, num_videos=5).write(tmp_path)
    path = tmp_path / "manifest.json"
    text = path.read_text()
    for old, new in (('"num_videos": 5', '"num_videos": 6'), ('"mini"', '"minj"'), ("4.0", "4.1")):
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=r"manifest.json is damaged \(ValueError\); run "):
            Manifest.read(tmp_path)


@pytest.mark.parametrize("name", ["../main", "/tmp/main", "a/../main"])
@pytest.mark.parametrize("which", ["name", "table", "deleted"])
def test_name_that_leads_out_of_the_folder_is_refused(tmp_path, name, which):
    main = ShardInfo("main", "main", 3, "Flat")
    level = LevelInfo(main, deleted="dead.npy")
    if which == "deleted":
        level = replace(level, deleted=name)
    else:
        level = replace(level, main=replace(main, **{which: name}))
    Manifest(SETTINGS, levels={"video": level}).write(tmp_path)
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"unknown": 1},
        {"settings": {}},
        {"settings": [1]},
        {"levels": []},
        {"levels": {"video": {}}},
    ],
)
def test_manifest_with_other_fields_is_damaged(tmp_path, values):
    Manifest(SETTINGS).write(tmp_path)
    change(tmp_path, **values)
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("version", [1, 3, FORMAT_VERSION + 2])
@pytest.mark.parametrize("other_fields", [{}, {"shards": 4, "settings": {"models": []}}])
def test_other_format_version_is_named_whatever_else_it_holds(tmp_path, version, other_fields):
    Manifest(SETTINGS).write(tmp_path)
    change(tmp_path, format=version, **other_fields)
    message = f"has format {version}, .* reads {FORMAT_VERSION}; index again into a new folder"
    with pytest.raises(IndexMismatchError, match=message):
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


def test_manifest_of_the_format_before_is_read(tmp_path):
    sampling = {"kind": "shots", "frames_per_shot": 3, "dedup_threshold": 0.5}
    level = LevelInfo(None, None, "moment-dead-3.npy", 7)
    manifest = Manifest(replace(SETTINGS, sampling=sampling), levels={"moment": level})
    manifest.write(tmp_path)
    old_level = {"main": None, "delta": None, "dead": "moment-dead-3.npy", "dead_checksum": 7}
    old_sampling = {"kind": "shots", "frames_a_shot": 3, "skip_similar": 0.5}
    settings = asdict(SETTINGS) | {"sampling": old_sampling}
    change(tmp_path, format=4, levels={"moment": old_level}, settings=settings)
    assert Manifest.read(tmp_path) == manifest
