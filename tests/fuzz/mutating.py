"""Changes of a file that hurt more than noise: numbers, lengths, tokens, and what is inside of packing."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
TOKENS = (
    *(b"null", b"true", b"[]", b"{}", b"[", b"]", b"{", b"}", b'"', b"\\", b",", b":", b";", b"\t", b"|", b"#", b"\n"),
    *(b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"9" * 400, b"9" * 5000),
    *(b"[" * 2000, b'{"a":' * 2000, b"- " * 500, b"&a ", b"*a", b"!!int ", b"../../x", b"/dev/zero", b"a" * 5000),
    *(b"\xe2\x80\xae", b"\x1b[31m", b"[/b]", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\\ud800", b"1:30", b"0x1f"),
)

RUNS = (
    *(bytes([byte]) for byte in b"90 \t\na_-.,;:|#&<([{\"'\\/\0\xff"),
    *(b"\r\n", b"../", b"1,", b"1_", b"a ", b"<a", b"&a ", b'""', b'","'),
    *(b"\xc3\xa9", b"\xe2\x80\x8b", b"\xcc\x81", b"e\xcc\x81", b"\xf0\x9f\x98\x80"),
)


def mutated(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return a file that was changed in one to five places, or inside of its packing."""
    for packing in _PACKINGS:
        if chance.random() < 0.5 and (changed := packing(data, chance, others)) is not None:
            return changed
    return _changed(data, chance, others)


def _changed(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        data = chance.choice(_CHANGES)(data, chance, others)
    return data


# --- plain changes --------------------------------------------------------------------------------------------------


def _place(data: bytes, chance: random.Random) -> int:
    """Return a place in a file; its head is where the lengths are."""
    if not data:
        return 0
    return chance.randrange(min(len(data), 64)) if chance.random() < 0.5 else chance.randrange(len(data))


def _flip(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = _place(data, chance)
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _byte(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, chance)
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _number(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at, width = _place(data, chance), chance.choice((1, 2, 4, 4, 8))
    value = chance.choice(NUMBERS) % (1 << (8 * width))
    return data[:at] + value.to_bytes(width, chance.choice(("little", "big"))) + data[at + width :]


def _digits(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    places = [at for at, byte in enumerate(data[:20_000]) if 48 <= byte < 58]
    if not places:
        return _number(data, chance, others)
    at = chance.choice(places)
    value = chance.choice((b"-1", b"0", b"1e308", b"1e999", b"99999999999", b"2147483648", b"0.5", b"9" * 400, b"NaN"))
    return data[:at] + value + data[at + 1 :]


def _token(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, chance)
    return data[:at] + chance.choice(TOKENS) + data[at + chance.choice((0, 0, 1, 4)) :]


def _cut(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, chance)
    return data[:at] if chance.random() < 0.5 else data[:at] + data[at + chance.randrange(1, 64) :]


def _again(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, chance)
    piece = data[at : at + chance.randrange(1, 256)]
    return data[:at] + piece * chance.choice((1, 2, 20, 200)) + data[at:]


def _splice(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    if not others:
        return _again(data, chance, others)
    other = chance.choice(others)
    return data[: _place(data, chance)] + other[_place(other, chance) :]


def _run(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Put in a long run of one token, which a pattern that goes back over it reads again for each of its places."""
    at, token = _place(data, chance), chance.choice(RUNS)
    length = chance.choice((2_000, 20_000, 100_000)) // len(token)
    return data[:at] + token * length + chance.choice((b"", b"x", b" ", b"\n")) + data[at + chance.choice((0, 0, 1)) :]


_CHANGES: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _byte, _number, _number, _digits, _token, _token, _cut, _again, _splice, _run),
)


# --- inside of packing ----------------------------------------------------------------------------------------------


def _in_gzip(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes | None:
    if not data.startswith(b"\x1f\x8b"):
        return None
    with contextlib.suppress(OSError, EOFError, zlib.error):
        inner = gzip.decompress(data)
        if chance.random() < 0.1:
            inner += bytes(chance.choice((1 << 20, 1 << 24)))
        return gzip.compress(_changed(inner, chance, ()), 1, mtime=0)
    return None


def _in_zip(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes | None:
    if not data.startswith(b"PK"):
        return None
    out, damaged = io.BytesIO(), (zipfile.BadZipFile, zlib.error, EOFError)
    with contextlib.suppress(OSError, ValueError, NotImplementedError, RuntimeError, *damaged):
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            members = old.infolist()
            chosen = chance.randrange(len(members)) if members else 0
            how = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            for number, member in enumerate(members):
                content = old.read(member)
                if number == chosen:
                    content = _changed(content, chance, ())
                    if chance.random() < 0.1:
                        content += bytes(1 << 22)
                new.writestr(zipfile.ZipInfo(member.filename), content, how)
        return out.getvalue()
    return None


def _in_png(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes | None:
    """Change a chunk of a PNG and give it the right checksum, so that somebody reads it."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if length > len(data):
            return None
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return None
    chosen = chance.randrange(len(chunks))
    kind, content = chunks[chosen]
    if kind == b"IDAT" and chance.random() < 0.5:
        with contextlib.suppress(zlib.error):
            content = zlib.compress(_changed(zlib.decompress(content), chance, ()), 1)
    elif chance.random() < 0.2:
        kind, content = (
            chance.choice((b"iCCP", b"zTXt", b"iTXt", b"tRNS", b"PLTE", b"acTL", b"fdAT")),
            b"a\0\0" + (zlib.compress(bytes(chance.choice((64, 1 << 20, 1 << 24))), 9)),
        )
        chunks.insert(min(chosen, 1), (kind, content))
        chosen = min(chosen, 1)
    else:
        content = _changed(content, chance, ())
    chunks[chosen] = (kind, content)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


_PACKINGS = (_in_gzip, _in_zip, _in_png)
