"""URLs on the command lines: what is refused, in one line that tells no secrets."""

import json

import pytest

from tests.command_lines import assert_user_error, run_reelseek_here

SECRET = "s3cr3t-0123456789"


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@example.org/a.mp4",
        f"https://{SECRET}@example.org/a.mp4?x=1",
        f"s3://key:{SECRET}@bucket/films",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url, tmp_path):
    for command in (
        ["index", url, "--index", tmp_path / "i"],
        ["search", "a dog", "--index", url],
        ["publish", url, "--index", tmp_path],
    ):
        done = run_reelseek_here(*command)
        assert_user_error(done, "holds a user or a password", "environment")
        assert SECRET not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("ftp://host/a.mp4", "must begin with s3, gs, hf, https, http"),
        ("s3:///films", "names no bucket"),
        ("s3://bucket/*.mp4", "globs of URLs are not expanded"),
    ],
)
def test_url_that_cannot_be_read_is_one_line(url, part, tmp_path):
    pytest.importorskip("s3fs")
    assert_user_error(run_reelseek_here("index", url, "--index", tmp_path / "i"), url, part)


# Every command that changes an index, or reads more of it than a search does.
@pytest.mark.parametrize(
    "command",
    [
        ["index", "videos", "index=s3://b/n"],
        ["status", "index=s3://b/n"],
        ["verify", "index=s3://b/n"],
        ["repair", "index=s3://b/n"],
        ["delete", "a.mp4", "index=s3://b/n"],
        ["merge", "a", "index=s3://b/n"],
        ["enrich", "ocr=true", "index=s3://b/n"],
        ["export", "output=o", "index=s3://b/n"],
        ["publish", "s3://b/other", "index=s3://b/n"],
        ["rank", "judgements=j", "output=o", "index=s3://b/n"],
        ["clip", "a dog", "output=o.mp4", "index=s3://b/n"],
    ],
    ids=lambda words: words[0],
)
def test_published_index_is_only_searched(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_reelseek_here(*command)
    assert_user_error(done, "index=s3://b/n: is a URL; a published index is only searched")
    assert list(tmp_path.iterdir()) == []


def test_queries_to_a_published_index_are_not_logged():
    done = run_reelseek_here("search", "a dog", "index=s3://b/n", "log_queries=true")
    assert_user_error(done, "log_queries=true: index=s3://b/n is published, and only read")


def test_publishing_needs_a_url(tmp_path):
    done = run_reelseek_here("publish", tmp_path, "--index", tmp_path)
    assert_user_error(done, "to=", "must be a URL such as s3://BUCKET/NAME")


@pytest.mark.parametrize(
    ("url", "missing", "remedy"),
    [
        ("s3://b/films", "s3fs", "pip install 'reelseek[remote]'"),
        ("https://example.org/a.mp4", "aiohttp", "pip install 'reelseek[remote]'"),
        ("gs://b/films", "gcsfs", "pip install gcsfs"),
    ],
)
def test_missing_library_is_named_with_what_to_install(url, missing, remedy, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "reelseek.indexing.remote.stores.find_spec", lambda name: None if name == missing else name
    )
    done = run_reelseek_here("index", url, "--index", tmp_path / "i")
    assert_user_error(done, f"{url}: needs {missing}: {remedy}")


def test_bucket_that_is_not_there_is_one_line(bucket, tmp_path):
    done = run_reelseek_here("index", "s3://no-such-bucket/films", "--index", tmp_path / "i")
    assert_user_error(
        done, "s3://no-such-bucket/films: cannot be listed (no such bucket or folder)"
    )
    assert "made-up-secret" not in done.stderr


@pytest.mark.model
def test_index_publish_and_search_over_urls(bucket, films, tmp_path):
    for film in films[:3]:
        bucket.put(f"films/{film.name}", film)
    index, url = tmp_path / "index", f"{bucket.url}/published/name"
    given = ["precision=fp32", "niceness=0"]
    done = run_reelseek_here("index", f"{bucket.url}/films/", "--index", index, *given)
    assert done.metrics["indexed"] == 3
    assert f"{bucket.url}/films" in (index / "config.yaml").read_text()
    assert run_reelseek_here("publish", url, "--index", index).metrics["sent"] > 0
    question = ["search", "something red", "--json"]
    local = run_reelseek_here(*question, "--index", index)
    remote = run_reelseek_here(*question, "--index", url, "--index-cache", tmp_path / "cache")
    assert json.loads(remote.stdout) == json.loads(local.stdout)
    assert len(json.loads(local.stdout)) == 3
