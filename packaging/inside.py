"""What is inside the packages that are shipped, and that no package manager knows of.

Wheels carry libraries of others, as files beside their own or linked into them. Here stands what
those are, and under which licences; a file that nobody has looked at stops the build.
"""

from __future__ import annotations

import json
import re
import sqlite3
import ssl
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import setup

OURS = setup.ROOT / "packaging" / "licences"


class Part(NamedTuple):
    """Something of somebody else's: `purl` names it as package managers do."""

    name: str
    version: str
    licence: str
    purl: str
    texts: tuple[Path, ...]


class Library(NamedTuple):
    """A library that comes as a file of such a name; `text` holds its licence, if that is here."""

    file: str
    name: str
    licence: str
    text: str


LIBRARIES = (
    Library(r"libicu(data|i18n|uc)\W", "ICU", "Unicode-DFS-2016", "ICU.txt"),
    Library(r"libscipy_openblas", "OpenBLAS", "BSD-3-Clause", "numpy"),
    Library(r"libscipy_openblas", "LAPACK", "BSD-3-Clause-Open-MPI", "numpy"),
    Library(r"libgfortran\W", "libgfortran", "GPL-3.0+ WITH GCC-exception-3.1", "numpy"),
    Library(r"libgcc_s\W", "libgcc", "GPL-3.0+ WITH GCC-exception-3.1", "numpy"),
    Library(r"libquadmath\W", "libquadmath", "LGPL-2.1-or-later", "LGPL-2.1.txt"),
    Library(r"lib(crypto|ssl)\W", "OpenSSL (Python's)", "Apache-2.0", "Apache-2.0.txt"),
    Library(r"libffi\W", "libffi", "MIT", "libffi.txt"),
    Library(r"(lib)?sqlite3\.", "SQLite", "in the public domain", "Python"),
    Library(
        r"(vcruntime|msvcp|concrt|ucrtbase|api-ms-win)",
        "Visual C++ runtime",
        "see its text",
        "Python",
    ),
    Library(r"(lib[gi]?omp|vcomp)", "OpenMP", "", ""),
)
"""The last has no text: llama.cpp is compiled without it but for Linux, which has its own."""

IN_QT = {
    "double-conversion": "BSD-3-Clause",
    "FreeType": "FTL",
    "HarfBuzz": "MIT-Modern-Variant",
    "libpng": "libpng-2.0",
    "MD4C": "MIT",
    "PCRE2": "BSD-3-Clause",
    "Public Suffix List": "MPL-2.0",
    "TinyCBOR": "MIT",
    "Unicode Character Database and CLDR": "Unicode-DFS-2016",
    "zlib": "Zlib",
}
"""What is linked into Qt's libraries, the larger ones; all are in Qt-third-party.txt."""

GRAFTED = (".libs", ".dylibs")
"""The folders in which tools put the libraries that they add to a wheel."""


def libraries(sources: set[Path], packages: Path) -> list[Part]:
    """Returns the libraries among `sources`, those of the system's own package manager aside.

    `packages` is the folder with the packages. Raises setup.Failed for one in a wheel that is not
    known here.
    """
    found: dict[str, Part] = {}
    for file in sorted(sources):
        if file.as_posix().startswith(("/lib", "/usr/lib")):
            continue
        known = [library for library in LIBRARIES if re.match(library.file, file.name.lower())]
        if not known and file.parent.name.endswith(GRAFTED):
            raise setup.Failed(f"{file} came with a wheel: what is it? Say so in {__file__}.")
        for library in known:
            version = version_of(library, file, packages)
            purl = purl_of(library.name, version)
            texts = text_of(library, packages)
            found[library.name] = Part(library.name, version, library.licence, purl, texts)
    return list(found.values())


def linked(sources: set[Path], packages: Path) -> Iterator[Part]:
    """Yields what is linked into libraries of packages: it has no file of its own."""
    names = {file.relative_to(packages).parts[0] for file in sources if packages in file.parents}
    if "PySide6" in names:
        for name, licence in IN_QT.items():
            more = (OURS / "MPL-2.0.txt",) if licence == "MPL-2.0" else ()
            texts = (OURS / "Qt-third-party.txt", *more)
            yield Part(f"{name} (in Qt)", "", licence, purl_of(name, ""), texts)
    if "cryptography" in names:
        (told,) = packages.glob("cryptography-*.dist-info/sboms/sbom.json")
        (openssl,) = json.loads(told.read_text("utf-8"))["components"]
        name, apache = "OpenSSL (in cryptography)", OURS / "Apache-2.0.txt"
        yield Part(name, openssl["version"], "Apache-2.0", openssl["purl"], (apache,))
    if "yaml" in names:
        (text,) = packages.glob("[Pp]y[Yy][Aa][Mm][Ll]-*.dist-info/**/LICENSE")
        yield Part("LibYAML (in PyYAML)", "", "MIT", purl_of("libyaml", ""), (text,))
    if any(name.startswith("_cffi_backend") for name in names):
        text = OURS / "libffi.txt"
        yield Part("libffi (in cffi)", "", "MIT", purl_of("libffi", ""), (text,))
    nanobind = distribution("nanobind")  # with which our own module is made, here
    version = nanobind.version
    (text,) = (Path(str(file.locate())) for file in nanobind.files or () if file.name == "LICENSE")
    yield Part("nanobind", version, "BSD-3-Clause", f"pkg:pypi/nanobind@{version}", (text,))
    text = OURS / "robin-map.txt"
    yield Part("robin-map (in nanobind)", "", "MIT", purl_of("robin-map", ""), (text,))


def version_of(library: Library, file: Path, packages: Path) -> str:
    """Returns "" where nothing tells it."""
    if library.name == "OpenBLAS":
        config = (packages / "numpy" / "__config__.py").read_text("utf-8")
        told = re.search(r"OpenBLAS (\d[\d.]*\d)", config)
        return told[1] if told else ""
    if library.name == "SQLite":
        return sqlite3.sqlite_version
    if library.name.startswith("OpenSSL"):
        return ssl.OPENSSL_VERSION.split()[1]
    told = re.search(r"\.so\.(\d[\d.]*)$", file.name)
    return told[1] if told else ""


def text_of(library: Library, packages: Path) -> tuple[Path, ...]:
    if library.text == "numpy":
        return tuple(packages.glob("numpy-*.dist-info/licenses/LICENSE.txt"))
    if library.text == "Python":
        return (python_licence(),)
    return (OURS / library.text,) if library.text else ()


def purl_of(name: str, version: str) -> str:
    plain = re.sub(r"[^a-z0-9.]+", "-", name.partition(" (")[0].lower())
    return f"pkg:generic/{plain}@{version}" if version else f"pkg:generic/{plain}"


def python_licence() -> Path:
    """Returns Python's licence: among its modules or, on Windows, in its folder.

    Raises setup.Failed where it is in neither.
    """
    places = (Path(sysconfig.get_path("stdlib")), Path(sys.base_prefix))
    for place in places:
        if (place / "LICENSE.txt").is_file():
            return place / "LICENSE.txt"
    told = " or ".join(map(str, places))
    raise setup.Failed(f"Python's LICENSE.txt is not in {told}.")
