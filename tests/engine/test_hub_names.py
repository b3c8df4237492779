"""Names of files from a hub: what may be saved, and what never is."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UnsafeFile
from engine.hub.names import safe_path, safe_paths

GOOD = (
    "model.gguf",
    "config.json",
    "Qwen3-8B-Q4_K_M.gguf",
    "BF16/model-00001-of-00002.gguf",
    "onnx/a/b/c.json",
    ".gitattributes",
    "model (1).gguf",
    "modèle-é.gguf",
    "模型.gguf",
    "a+b=c,d;e@f#g%20h&i'j!k$l~m^n`o{p}[q].bin",
    "console.gguf",
    "com10.txt",
    "nul-model.gguf",
    "..hidden",
    "a..b.gguf",
)
PARTS = (
    "..", ".", "", " ", "a ", " a", "a.", "...", "CON", "con", "Con.txt", "nul", "NUL.gguf",
    "aux.c", "prn", "PRN.tar.gz", "com1", "COM9.gguf", "lpt1", "LPT0", "com\u00b9", "lpt\u00b2.x",
    "CLOCK$", "conin$", "CONOUT$.txt", "a:b", "a.gguf:stream", "C:", "C:x", "c:\\x", "a\\b",
    "..\\x", "\\\\s\\x", "a<b", "a>b", 'a"b', "a|b", "a?b", "a*b", "a\x00b", "a\nb", "a\rb",
    "a\tb", "\x1b[31m", "a\x7fb", "a\u202eb", "a\u200bb", "a\u2066b", "\ufeffa", "a\u00adb",
    "a\u2028b", "a\u2029b", "a\ud800b", "a\ue000b", "a\u0085b", "x" * 201, "é" * 101, "\u3000a",
    "a\u00a0", "a\u200f",
)  # fmt: skip
# Each bad part alone, as a folder, and as a file in a folder; then whole names.
HOSTILE = sorted(
    {shape.format(part) for part in PARTS for shape in ("{}", "{}/x", "a/{}", "a/{}/b")}
    | {"/", "/etc/passwd", "//server/share/x", "/a", "a//b", "a/", "../../x", "a/../../x"}
    | {"a/./b", "./a", "\\\\?\\C:\\x", "\\\\.\\NUL", "\\a", "C:/x", "c:../x", "file:///etc/passwd"}
    | {"https://host/x", "/".join("abcdefghi"), "/".join(["x" * 190] * 5), "~/../x", "a/..", ".."}
)


@pytest.mark.parametrize("name", GOOD)
def test_what_hubs_have_is_taken(name: str) -> None:
    assert str(safe_path(name)) == name


def test_there_are_enough_hostile_names() -> None:
    assert len(HOSTILE) >= 200


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:40])
def test_what_is_hostile_is_refused(name: str) -> None:
    with pytest.raises(UnsafeFile) as refused:
        safe_path(name)
    assert refused.value.details.isprintable()


@given(st.text(max_size=40) | st.text("./\\:ab C", max_size=12))
def test_whatever_is_taken_stays_below_its_folder(name: str) -> None:
    try:
        path = safe_path(name)
    except UnsafeFile:
        return
    assert not path.is_absolute() and ".." not in path.parts
    for root in (PurePosixPath("/models/x"), PureWindowsPath("C:/models/x")):
        assert (root / name).parts[: len(root.parts)] == root.parts
        assert len((root / name).parts) == len(root.parts) + len(path.parts)
    assert not PureWindowsPath(name).drive and not PureWindowsPath(name).is_reserved()


@pytest.mark.parametrize(
    "names",
    [
        ("a.gguf", "A.gguf"),
        ("\u00e9.gguf", "e\u0301.gguf"),
        ("a", "a/b"),
        ("A/b", "a"),
        ("\uff41.gguf", "a.gguf"),
    ],
)
def test_two_names_for_one_file_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(UnsafeFile, match="one and the same"):
        safe_paths(names)


def test_names_that_differ_are_all_taken() -> None:
    assert len(safe_paths(("a/b", "a/c", "b", "config.json"))) == 4
