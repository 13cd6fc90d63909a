"""A store's folder in, the same files in a bucket; and back, on any other machine.

The bucket is the truth, and the folder mirrors what was asked of it. A file is uploaded before it
gets its local name, and removed from the bucket before it is removed here; so a local file that
the bucket lacks was taken away elsewhere, and goes. Files of a mirrored folder never change, so a
name says what is in them. Where `bucket.json` is missing, nothing here does anything.

S3, Google Cloud Storage and mounted folders are reached as `pyarrow.fs` does, with its timeouts
and retries; credentials come from the environment. Arrow is imported where a bucket is asked: what
only looks whether there is one, such as the list of spaces, stays light.
"""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from feature_repo.atomic import exclusively, publish, replace_text
from feature_repo.base import StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import fs

FILE = "bucket.json"
OWN = "00000000-empty.parquet"  # every machine makes its own
SEAL = "store.json"  # in the bucket: tells a store from an empty bucket
CHUNK_BYTES = 8 * 2**20
NUM_DOWNLOADS = 8
# As in a compaction: whoever began to list the folder before the new files appeared has finished.
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a store's files lie, and how to get at them."""

    url: str
    files: "fs.FileSystem"
    prefix: str

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}"


def connect(root: Path, url: str) -> None:
    """Keep the store's files in a bucket from now on; those that it has already are uploaded.

    Only the first time is the bucket asked for anything. Nobody else may write to the folder
    meanwhile.

    Args:
        root: The store.
        url: As `s3://bucket/folder?region=eu-central-1`, `gs://bucket/folder` or
            `file:///mnt/folder`; `endpoint_override` and `scheme` for servers that speak S3.

    Raises:
        StoreError: the URL is none, or holds credentials; the store is in another bucket; or the
            bucket does not answer.
    """
    with exclusively(root / f".{FILE}.lock"):
        known = _url(root)
        if known == url:
            return
        if known is not None:
            raise StoreError(
                f"the parts of {root} are in {known}, not in {url}; take the setting back, or copy "
                f"the bucket's files, delete {root / FILE} and try again"
            )
        bucket = _open(url)
        patterns = ("parts/[!.]*/[!.]*", "probes/[!.]*", "spaces/[!.]*", "sources/[!.]*")
        for path in sorted(one for pattern in patterns for one in root.glob(pattern)):
            if not _is_local(path):
                _upload(bucket, path, path.relative_to(root).as_posix())
        _send(bucket, b"{}\n", SEAL)
        replace_text(root / FILE, json.dumps({"url": url}) + "\n")


def is_connected(root: Path) -> bool:
    return (root / FILE).exists()


def pull(root: Path, folder: Path) -> None:
    """Make a folder of files that never change equal to the bucket's, by one request if it is.

    Raises:
        StoreError: the bucket does not answer, or is not this store's any more.
    """
    if (bucket := _of(root)) is None:
        return
    # First what is here: whatever appears between the two looks is in the bucket already.
    here = {path.name for path in folder.glob("[!.]*") if not _is_local(path)}
    there = _list(bucket, folder.relative_to(root).as_posix())
    if here and not there:
        _check_seal(bucket)
    new = sorted(there.keys() - here)
    if new:
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(NUM_DOWNLOADS) as pool:
            for _ in pool.map(lambda name: _download(bucket, root, folder / name), new):
                pass  # raises what went wrong
    gone = sorted(here - there.keys())  # oldest first, as they were taken away
    if gone and new:
        time.sleep(SETTLE_S)
    for name in gone:
        (folder / name).unlink(missing_ok=True)


def fetch(root: Path, path: Path) -> None:
    """Make one file, which may change, equal to the bucket's; remove it where that has none."""
    if (bucket := _of(root)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _download(bucket, root, path):
            _check_seal(bucket)
            path.unlink(missing_ok=True)


def push(root: Path, temporary: Path, path: Path) -> None:
    """Upload a finished file, still under its temporary name; it appears at once or not at all."""
    if (bucket := _of(root)) is not None:
        _upload(bucket, temporary, path.relative_to(root).as_posix())


def remove(root: Path, path: Path) -> None:
    """Take a file away, in the bucket and then here; nothing if somebody else did."""
    if (bucket := _of(root)) is not None:
        _delete(bucket, path.relative_to(root).as_posix())
    path.unlink(missing_ok=True)


def remove_folder(root: Path, folder: Path) -> None:
    """Take a folder's files away in the bucket alone."""
    if (bucket := _of(root)) is not None:
        name = folder.relative_to(root).as_posix()
        for file in sorted(_list(bucket, name)):
            _delete(bucket, f"{name}/{file}")


def _is_local(path: Path) -> bool:
    return path.name == OWN


def _url(root: Path) -> str | None:
    path = root / FILE
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text("utf-8"))["url"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f'{path} is damaged ({error}); it should be {{"url": "s3://..."}}, as in the settings'
        ) from error


def _of(root: Path) -> Bucket | None:
    url = _url(root)
    return None if url is None else _open(url)


@lru_cache(maxsize=8)
def _open(url: str) -> Bucket:
    import pyarrow as pa
    from pyarrow import fs

    parts = urlsplit(url)
    named = {name.lower() for name, _ in parse_qsl(parts.query)}
    if parts.username or parts.password or named & {"access_key", "secret_key", "session_token"}:
        raise StoreError(
            f"the URL of the bucket {parts.hostname} holds credentials; leave them out and set "
            "them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        files, prefix = fs.FileSystem.from_uri(url)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"{url} is no bucket that can be reached ({error}); it should look like "
            "s3://bucket/folder?region=eu-central-1, gs://bucket/folder or file:///mnt/folder"
        ) from error
    return Bucket(url=url, files=files, prefix=prefix.rstrip("/"))


@contextmanager
def _asking(bucket: Bucket) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{bucket.url} does not do what it is asked ({error}); is the address right, the "
            "bucket there, the network up, and do the credentials in the environment allow "
            "listing, reading, writing and deleting? Nothing is lost: try again"
        ) from error


def _check_seal(bucket: Bucket) -> None:
    from pyarrow import fs

    with _asking(bucket):
        (found,) = bucket.files.get_file_info([bucket.key(SEAL)])
    if found.type is not fs.FileType.File:
        raise StoreError(
            f"{bucket.url} lacks {SEAL}, which every store's bucket has: is it the right one, and "
            "mounted? Nothing was removed here; restore the bucket, or upload the folder to it"
        )


def _list(bucket: Bucket, folder: str) -> dict[str, int]:
    """The names and sizes of a folder's finished files."""
    from pyarrow import fs

    with _asking(bucket):
        selector = fs.FileSelector(bucket.key(folder), allow_not_found=True)
        try:
            found = bucket.files.get_file_info(selector)
        except FileNotFoundError as error:  # of the bucket itself
            raise OSError(str(error)) from error
    return {
        one.base_name: one.size
        for one in found
        if one.type is fs.FileType.File and one.base_name and not one.base_name.startswith(".")
    }


def _download(bucket: Bucket, root: Path, path: Path) -> bool:
    """Whether the bucket had the file. A compaction may have taken it since it was listed."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            for chunk in _chunks(bucket, path.relative_to(root).as_posix()):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except FileNotFoundError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _chunks(bucket: Bucket, name: str) -> Iterator[bytes]:
    with _asking(bucket):
        stream = bucket.files.open_input_file(bucket.key(name))
    with stream:
        with _asking(bucket):
            left = stream.size()
        while left:
            with _asking(bucket):
                chunk: bytes = stream.read(CHUNK_BYTES)
                if not chunk:
                    raise OSError(f"{name} ended {left} bytes early")
            left -= len(chunk)
            yield chunk


def _upload(bucket: Bucket, path: Path, name: str) -> None:
    import pyarrow as pa

    # Written from memory by one call, since a stream that is closed after a failure to read
    # would complete the object with what it has.
    if path.stat().st_size:
        with pa.memory_map(str(path)) as file:
            _send(bucket, file.read_buffer(), name)


def _send(bucket: Bucket, content: "pa.Buffer | bytes", name: str) -> None:
    key = bucket.key(name)
    with _asking(bucket):
        try:
            if bucket.files.type_name != "local":
                with bucket.files.open_output_stream(key) as stream:
                    stream.write(content)
                return
            folder, _, file = key.rpartition("/")
            bucket.files.create_dir(folder)
            temporary = f"{folder}/.{file}.{uuid4().hex}"
            with bucket.files.open_output_stream(temporary) as stream:
                stream.write(content)
            bucket.files.move(temporary, key)
        except FileNotFoundError as error:  # of the bucket itself
            raise OSError(str(error)) from error


def _delete(bucket: Bucket, name: str) -> None:
    try:
        with _asking(bucket):
            bucket.files.delete_file(bucket.key(name))
    except FileNotFoundError:
        return  # somebody else did
