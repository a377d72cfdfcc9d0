"""Objects of a bucket, in S3's protocol; keys are passed on exactly as they are."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import ObjectChangedError, Retry, status_of
from reelseek.indexing.remote.store import BLOCK_BYTES, Store, version_of


class S3Store(Store):
    """Buckets."""

    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        bucket, prefix = _bucket_and_key(url)
        prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        after: dict[str, str] = {}
        while True:
            # Each page is a request of its own, which goes on behind the last key.
            request = partial(
                self._request, "list_objects_v2", Bucket=bucket, Prefix=prefix, **after
            )
            page = retry.call(request)
            entries = page.get("Contents", [])
            yield [
                RemoteObject(f"s3://{bucket}/{entry['Key']}", entry["Size"], *version_of(entry))
                for entry in entries
            ]
            if not page.get("IsTruncated") or not entries:
                return
            after = {"StartAfter": entries[-1]["Key"]}

    def look(self, item: RemoteObject) -> RemoteObject:
        bucket, key = _bucket_and_key(item.url)
        head = self._request("head_object", Bucket=bucket, Key=key)
        return RemoteObject(item.url, head["ContentLength"], *version_of(head))

    def read(self, item: RemoteObject, at: int, sink: Callable[[bytes], None]) -> None:
        bucket, key = _bucket_and_key(item.url)
        options = {"IfMatch": item.etag} if item.etag else {}
        if at:
            options["Range"] = f"bytes={at}-"

        async def stream() -> None:
            response = await asyncio.wait_for(
                self._fs._call_s3("get_object", Bucket=bucket, Key=key, **options), self._timeout
            )
            body = response["Body"]
            try:
                while data := await asyncio.wait_for(body.read(BLOCK_BYTES), self._timeout):
                    sink(data)
            finally:
                body.close()

        try:
            self._wait(stream(), self._stream_seconds(item, at))
        except OSError as error:
            if status_of(error) == 412:
                raise ObjectChangedError from error
            raise

    def replace(self, url: str, content: bytes, before: RemoteObject | None) -> None:
        bucket, key = _bucket_and_key(url)
        condition = {"IfNoneMatch": "*"} if before is None else {"IfMatch": before.etag}
        body: dict[str, Any] = {"Bucket": bucket, "Key": key, "Body": content}
        try:
            self._request("put_object", **body, **condition)
        except OSError as error:
            if status_of(error) == 501:  # a server without conditions
                super().replace(url, content, before)
            elif status_of(error) in (404, 409, 412):
                raise ObjectChangedError from error
            else:
                raise

    def _request(self, name: str, **values: Any) -> dict[str, Any]:
        return self._wait(self._fs._call_s3(name, **values), self._timeout)


def _bucket_and_key(url: str) -> tuple[str, str]:
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key
