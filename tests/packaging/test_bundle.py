"""What is done to a frozen folder; making one is for `make package-test`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import bundle
import inside
import libraries
import notices
import numpy
import PySide6
import pytest
import setup
import vulkan_headers
from cryptography.hazmat.backends.openssl import backend


def test_a_file_that_is_there_twice_becomes_a_link(tmp_path: Path) -> None:
    library = b"\x7fELF" + bytes(bundle.SAME_BYTES)
    (tmp_path / "lib").mkdir()
    for name, data in (("a.so", library), ("lib/b.so", library), ("c.so", library + b"!")):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "small2").write_bytes(b"x")
    bundle.link_what_is_twice(tmp_path)
    links = {path.name: path for path in tmp_path.rglob("*") if path.is_symlink()}
    assert set(links) == {"b.so"}
    assert (
        not links["b.so"].readlink().is_absolute()
    )  # the folder is moved to where it is installed
    assert links["b.so"].read_bytes() == library


def test_a_bundle_that_does_not_work_is_told(tmp_path: Path) -> None:
    program = tmp_path / "snug"
    program.write_text("#!/bin/sh\necho no library >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(setup.Failed, match="no library"):
        bundle.try_out(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF files")
def test_a_library_that_is_nowhere_is_told(tmp_path: Path) -> None:
    (core,) = Path(PySide6.__file__).parent.glob("QtCore*.so")
    shutil.copy(core, tmp_path)
    with pytest.raises(setup.Failed, match=r"libQt6Core\.so\.6, for QtCore"):
        bundle.check_libraries(tmp_path)
    for name in libraries.not_found(tmp_path):
        (tmp_path / name).touch()
    bundle.check_libraries(tmp_path)


@pytest.mark.skipif(not shutil.which("ldd"), reason="asks for glibc")
def test_a_package_asks_for_the_c_library_it_was_made_with() -> None:
    told = subprocess.run(["ldd", "--version"], capture_output=True, text=True, check=True).stdout
    version = told.splitlines()[0].split()[-1]
    assert libraries.NEEDED["libc.so.6"] == f"libc6 (>= {version})"
    assert re.fullmatch(r"libstdc\+\+6( \(>= \d+\))?", libraries.NEEDED["libstdc++.so.6"])


@pytest.mark.parametrize(("patch", "is_new_enough"), [(239, False), (275, True)])
def test_the_version_of_vulkan_s_headers(tmp_path: Path, patch: int, is_new_enough: bool) -> None:
    assert vulkan_headers.version(tmp_path) < vulkan_headers.OLDEST
    (tmp_path / "vulkan").mkdir()
    (tmp_path / "vulkan" / "vulkan_core.h").write_text(
        f"#define VK_HEADER_VERSION {patch}\n"
        "#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, 3, VK_HEADER_VERSION)\n"
    )
    assert vulkan_headers.version(tmp_path) == (1, 3, patch)
    assert (vulkan_headers.version(tmp_path) >= vulkan_headers.OLDEST) == is_new_enough


def test_what_was_collected_is_read_from_pyinstaller(tmp_path: Path) -> None:
    files = distribution("msgspec").files or []
    module = next(str(f.locate()) for f in files if f.name == "__init__.py")
    (tmp_path / "Analysis-00.toc").write_text(repr((["x"], [("msgspec", module, "PYMODULE")])))
    (tmp_path / "COLLECT-00.toc").write_text(repr(([("snug", "/b/snug", "EXECUTABLE")],)))
    assert notices.collected(tmp_path) == {Path(module), Path("/b/snug")}


def test_a_library_in_a_wheel_is_known_or_stops_the_build(tmp_path: Path) -> None:
    packages = Path(numpy.__file__).parents[1]
    files = [
        f"numpy.libs/{name}" for name in ("libscipy_openblas64_-1.so", "libgfortran-1.so.5.0.0")
    ]
    files += ["PySide6/Qt/lib/libicudata.so.73", "PySide6/QtCore.abi3.so"]
    sources = {packages / name for name in files} | {Path("/usr/lib/libcrypto.so.3")}
    found = {part.name: part for part in inside.libraries(sources, packages)}
    assert found.keys() == {"OpenBLAS", "LAPACK", "libgfortran", "ICU"}
    assert (found["ICU"].version, found["ICU"].purl) == ("73", "pkg:generic/icu@73")
    assert found["OpenBLAS"].version.startswith("0.")
    (text,) = found["libgfortran"].texts
    assert "GCC-exception-3.1" in text.read_text("utf-8")
    assert all(text.is_file() for part in found.values() for text in part.texts)

    with pytest.raises(setup.Failed, match="libsurprise"):
        inside.libraries({packages / "numpy.libs" / "libsurprise.so.1"}, packages)


def test_what_is_linked_into_packages_is_told() -> None:
    packages = Path(numpy.__file__).parents[1]
    names = ("PySide6/QtCore.abi3.so", "cryptography/__init__.py", "yaml/__init__.py")
    parts = list(inside.linked({packages / name for name in names}, packages))
    found = {part.name: part for part in parts}
    assert {
        "FreeType (in Qt)",
        "OpenSSL (in cryptography)",
        "LibYAML (in PyYAML)",
        "nanobind",
    } <= set(found)
    assert "libffi (in cffi)" not in found
    assert found["OpenSSL (in cryptography)"].version in backend.openssl_version_text()
    assert all(text.is_file() for part in parts for text in part.texts)
    listed = (inside.OURS / "Qt-third-party.txt").read_text("utf-8")
    assert all(name.split()[0] in listed for name in inside.IN_QT)


def test_texts_of_one_name_are_all_kept() -> None:
    files = [Path(str(file.locate())) for file in distribution("numpy").files or []]
    texts = [f for f in files if "LICENSE" in f.name and ".dist-info" in f.as_posix()]
    names = [notices.name_of(text) for text in texts]
    assert "LICENSE.txt" in names
    assert len(set(names)) == len(names) > 5
    assert notices.name_of(Path("/usr/share/doc/zlib1g/copyright")) == "copyright"


def test_llama_cpp_has_a_version(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "set(LLAMA_VERSION_MAJOR 0)\nset(LLAMA_VERSION_MINOR 5)\nset(LLAMA_VERSION_PATCH 1)\n"
    )
    assert notices.llama_version(tmp_path) == "0.5.1"
    (tmp_path / "CMakeLists.txt").write_text("project(llama)\n")
    with pytest.raises(setup.Failed, match="version"):
        notices.llama_version(tmp_path)


def test_a_licence_in_a_word() -> None:
    assert notices.licence_of(distribution("numpy")).startswith("BSD-3-Clause")
    assert notices.licence_of(distribution("llama_cpp_python")) == "MIT"


def test_the_list_of_parts_is_a_bill_of_materials() -> None:
    part = inside.Part("Qt", "6.11", "LGPL-3.0", "pkg:pypi/pyside6@6.11", ())
    bill = json.loads(notices.bill_of_materials([part]))
    assert bill["bomFormat"] == "CycloneDX"
    (component,) = bill["components"]
    assert (component["name"], component["version"]) == ("Qt", "6.11")
    assert notices.listed([part]).endswith("Qt 6.11: LGPL-3.0\n")
    beside = part._replace(texts=(inside.OURS / "LGPL-3.0.txt",))
    assert notices.listed([beside]).endswith("Qt 6.11: LGPL-3.0 (LGPL-3.0.txt)\n")
