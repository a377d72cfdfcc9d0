"""Which text is a URL, and what of it may be shown and stored."""

import pytest

from reelseek.text.urls import as_link, check_url, is_url, public_url, without_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a", True),
        ("HTTPS://host", True),
        ("C:\\films", False),
        ("/films/s3:/x", False),
        ("hf-hub:owner/name", False),
        ("a b://c", False),
    ],
)
def test_url_is_told_from_a_path(text, expected):
    assert is_url(text) is expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.mp4?X-Amz-Signature=1#t=2", "https://host/a.mp4"),
        ("https://user:secret@host/a@b.mp4", "https://host/a@b.mp4"),
        ("S3://bucket/a?b#c@d", "s3://bucket/a?b#c@d"),  # characters of a key
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
    ],
)
def test_query_and_credentials_are_left_out(url, shown):
    assert public_url(url) == shown


@pytest.mark.parametrize("url", ["https://u@h/a", "s3://k:s@b", "https://u:p@h?x"])
def test_credentials_are_refused(url):
    with pytest.raises(ValueError, match="holds a user or a password") as caught:
        check_url("videos", url)
    assert "p@" not in str(caught.value)


def test_credentials_are_taken_out_of_messages():
    message = "404, url='https://u:p@host/a.mp4?sig=abc&x=1', s3://b/c"
    assert without_secrets(message) == "404, url='https://host/a.mp4', s3://b/c"
    assert without_secrets("what is it?") == "what is it?"


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("/films/a b.mp4", "file:///films/a%20b.mp4"),
        ("https://host/a%20b.mp4", "https://host/a%20b.mp4"),
        ('s3://bucket/a "b"?.mp4', "s3://bucket/a%20%22b%22%3F.mp4"),
    ],
)
def test_links_are_escaped(address, link):
    assert as_link(address) == link
