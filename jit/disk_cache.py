"""The cache of machine code on disk: bytes by key, kept between processes, never trusted blindly.

An entry is a file of its own in a private folder, written under another name and then renamed, so
that readers see all of it or nothing. Invariant: what `read` answers is what `write` was given
for this key by this user; whatever goes wrong (a damaged or foreign file, a full disk, a folder
that cannot be written) only means that code is compiled again.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from itertools import count

try:
    # hashlib loads OpenSSL, which takes longer than a hit.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

MAGIC = b"functrans code 1\n"
DIGEST = 20
SHARDS = 16
"""A new entry looks for old ones to evict in one shard, so that it costs little to write."""
DEFAULT_MEGABYTES = 512.0
SECONDS = 3600.0
"""An older temporary file is left over; the last use of an entry is known to this precision."""
OFF = frozenset({"0", "off", "no", "false"})
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_serial = count()


def settings() -> tuple[str | None, int]:
    """The folder of the entries, and how many bytes they may take in all; no folder, no cache.

    As the environment says now: FUNCTRANS_CACHE, FUNCTRANS_CACHE_DIR, FUNCTRANS_CACHE_MB.
    """
    get = os.environ.get
    return _settings(
        get("FUNCTRANS_CACHE", ""),
        get("FUNCTRANS_CACHE_DIR", ""),
        get("FUNCTRANS_CACHE_MB", ""),
        get("XDG_CACHE_HOME", ""),
        get("LOCALAPPDATA", ""),
        os.path.expanduser("~"),
    )


def is_on() -> bool:
    """Is there a place to keep code?"""
    return settings()[0] is not None


@cache
def _settings(
    switch: str, given: str, megabytes: str, xdg: str, local: str, home: str
) -> tuple[str | None, int]:
    limit = int(size_in_megabytes(megabytes) * (1 << 20))
    if switch.strip().lower() in OFF or not limit:
        return None, 0
    return given or default_folder(xdg, local, home), limit


def size_in_megabytes(text: str) -> float:
    """FUNCTRANS_CACHE_MB as a number."""
    if not text.strip():
        return DEFAULT_MEGABYTES
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0.0 <= size < 1e12:
        raise ValueError(
            f"FUNCTRANS_CACHE_MB: expected a number of megabytes, but it is {text!r}. Unset it to "
            f"keep at most {DEFAULT_MEGABYTES:.0f} MB of compiled programs."
        )
    return size


def default_folder(xdg: str, local: str, home: str) -> str | None:
    """Where this system keeps caches; None where that cannot be told."""
    if os.path.isabs(xdg):
        return os.path.join(xdg, "functrans")
    if sys.platform == "win32":
        return os.path.join(local, "functrans", "Cache") if local else None
    if not os.path.isabs(home):
        return None
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Caches", "functrans")
    return os.path.join(home, ".cache", "functrans")


# -- entries ----------------------------------------------------------------------------------


def read(key: bytes) -> bytes | None:
    """The content of an entry; None where there is none. One that is damaged is removed."""
    folder, _ = settings()
    if folder is None:
        return None
    path = path_of(folder, key)
    try:
        found = read_own(path)
        content = None if found is None else unwrapped(key, found)
        if found is not None and content is None:
            os.unlink(path)
    except OSError:
        return None
    return content


def write(key: bytes, content: bytes) -> None:
    """Keep an entry, where that can be done."""
    folder, limit = settings()
    most = limit // SHARDS
    if folder is None or 2 * len(content) > most:
        return
    path = path_of(folder, key)
    shard = os.path.dirname(path)
    with suppress(OSError):
        os.makedirs(folder, 0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(shard, 0o700)
        write_whole(path, wrapped(key, content))
        evict(shard, most)


def remove(key: bytes) -> None:
    """Drop an entry that turned out to be of no use."""
    folder, _ = settings()
    if folder is not None:
        with suppress(OSError):
            os.unlink(path_of(folder, key))


def path_of(folder: str, key: bytes) -> str:
    """The file of a key: a shard, and a name in it."""
    name = key.hex()
    return os.path.join(folder, name[0], name[1:])


def wrapped(key: bytes, content: bytes) -> bytes:
    """The file of an entry."""
    return MAGIC + checksum(key, content) + content


def unwrapped(key: bytes, found: bytes) -> bytes | None:
    """The content of an entry's file; None where it is not the file that was written."""
    start = len(MAGIC) + DIGEST
    content = found[start:]
    whole = found.startswith(MAGIC) and found[len(MAGIC) : start] == checksum(key, content)
    return content if whole else None


def checksum(key: bytes, content: bytes) -> bytes:
    """Of the content and the key, so that a file under another name is no entry."""
    digest = blake2b(content, digest_size=DIGEST)
    digest.update(key)
    return digest.digest()


# -- files ------------------------------------------------------------------------------------


def read_own(path: str) -> bytes | None:
    """The bytes of a file; None where somebody else could have written it."""
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        info = os.fstat(descriptor)
        if not is_own(info):
            return None
        if time.time() - info.st_mtime > SECONDS:
            mark_used(path)
        parts: list[bytes] = []
        while part := os.read(descriptor, 1 << 26):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def is_own(info: os.stat_result) -> bool:
    """Is this a plain file that only this user can write?"""
    if not stat.S_ISREG(info.st_mode):
        return False
    if not hasattr(os, "geteuid"):
        return True
    return info.st_uid == os.geteuid() and not info.st_mode & 0o022


def mark_used(path: str) -> None:
    """Entries that were used lately are evicted last."""
    with suppress(OSError):
        os.utime(path)


def write_whole(path: str, data: bytes) -> None:
    """Write a file so that it is there with all its bytes, or not at all."""
    name = f".{os.getpid()}.{threading.get_ident()}.{next(_serial)}"
    temporary = os.path.join(os.path.dirname(path), name)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def evict(shard: str, most: int) -> None:
    """Remove the entries of a shard that were not used for longest, and leftovers."""
    now = time.time()
    kept: list[tuple[float, int, str]] = []
    with os.scandir(shard) as files:
        for file in files:
            with suppress(OSError):
                info = file.stat(follow_symlinks=False)
                if not file.name.startswith("."):
                    kept.append((info.st_mtime, info.st_size, file.path))
                elif now - info.st_mtime > SECONDS:
                    os.unlink(file.path)
    total = sum(size for _, size, _ in kept)
    if total <= most:
        return
    for _, size, path in sorted(kept):
        with suppress(OSError):
            os.unlink(path)
            total -= size
        if total <= most * 7 // 8:
            return
