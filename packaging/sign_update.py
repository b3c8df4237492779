"""Makes what the window is told of a new version (engine/updates.py), and the keys for it.

    python packaging/sign_update.py keys PRIVATE
    python packaging/sign_update.py sign PRIVATE VERSION PAGE NEWS [NEWS ...] > latest.json
    python packaging/sign_update.py address FEED PUBLIC

`keys` writes a new key to the file PRIVATE, which never goes into the repository, and prints the
public half, PUBLIC. `address` lets the builds from here on look at FEED (resources/updates.json).
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.updates import ADDRESS, Address, Release, read_release


def main() -> None:
    parser = argparse.ArgumentParser(description="Tells of new versions.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    keys = verbs.add_parser("keys")
    keys.add_argument("private", type=Path)
    sign = verbs.add_parser("sign")
    sign.add_argument("private", type=Path)
    sign.add_argument("version")
    sign.add_argument("page")
    sign.add_argument("news", nargs="+")
    place = verbs.add_parser("address")
    place.add_argument("feed")
    place.add_argument("public")
    args = parser.parse_args()
    if args.verb == "keys":
        print(make_key(args.private))
    elif args.verb == "sign":
        release = Release(args.version, args.page, tuple(args.news))
        sys.stdout.write(signed(args.private, release).decode())
    else:
        ADDRESS.write_bytes(msgspec.json.encode(Address(args.feed, args.public)) + b"\n")


def make_key(private: Path) -> str:
    """Write a new key, which no file may be there for yet; return the public half in base64."""
    key = Ed25519PrivateKey.generate()
    fd = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(base64.b64encode(key.private_bytes_raw()) + b"\n")
    return _public_half(key)


def signed(private: Path, release: Release) -> bytes:
    """The file that tells of `release`; raises CorruptFile for one that no window would believe."""
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private.read_bytes()))
    text = msgspec.json.encode(release).decode()
    signature = base64.b64encode(key.sign(text.encode())).decode()
    data = msgspec.json.encode({"release": text, "signature": signature})
    read_release(data, _public_half(key))
    return data


def _public_half(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


if __name__ == "__main__":
    main()
