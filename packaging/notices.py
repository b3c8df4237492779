"""Says what is inside a bundle, and under which licences: `licences/` in its folder.

THIRD-PARTY.txt lists the parts, sbom.cdx.json does so for programs (CycloneDX 1.5), and a folder
each holds their licence texts, if they are not beside it. What counts is what PyInstaller has put
in, by its own lists, and what inside.py knows to be in that.
"""

from __future__ import annotations

import ast
import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

import inside
import setup
from inside import OURS, Part

LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
QT = ("PySide6_Essentials", "shiboken6")


def write(build: Path, bundle: Path, llama_source: Path) -> None:
    """Writes `bundle`/licences, with PyInstaller's lists in `build`/work.

    Raises setup.Failed for a part without a licence text.
    """
    folder = bundle / "licences"
    shutil.rmtree(folder, ignore_errors=True)
    sources = collected(build / "work" / "app")
    (packages,) = (build / "venv").rglob("site-packages")
    parts = [*python_packages(packages, sources), *system_libraries(sources)]
    parts += [*inside.libraries(sources, packages), *inside.linked(sources, packages)]
    parts += by_hand(llama_source)
    parts.sort(key=lambda part: part.name.lower())
    for part in parts:
        if not part.texts:
            raise setup.Failed(f"No licence text was found for {part.name}.")
        for text in part.texts:
            if text.parent != OURS:
                place = folder / part.name / name_of(text)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(text, place)
    for text in OURS.iterdir():
        shutil.copyfile(text, folder / text.name)
    shutil.copyfile(setup.ROOT / "LICENSE", folder / "Snug.txt")
    (folder / "THIRD-PARTY.txt").write_text(listed(parts), encoding="utf-8")
    (folder / "sbom.cdx.json").write_text(bill_of_materials(parts), encoding="utf-8")


def name_of(text: Path) -> str:
    """Returns a name for a licence text that no other text of its package has.

    Some are of one name in several folders, which are put in front of it.
    """
    if ".dist-info/" not in text.as_posix():
        return text.name
    place = text.as_posix().rpartition(".dist-info/")[2]
    return place.removeprefix("licenses/").replace("/", "-")


def collected(work: Path) -> set[Path]:
    """Returns the files that went into the bundle, as they lay on this computer.

    Modules are compiled on the way, so where they come from is in another of PyInstaller's lists.
    """
    modules = {path for path in sources_in(work / "Analysis-00.toc") if path.suffix == ".py"}
    return modules | sources_in(work / "COLLECT-00.toc")


def sources_in(toc: Path) -> set[Path]:
    """Returns the sources of all (name, source, kind) in a list of PyInstaller's."""
    found: set[Path] = set()
    pending = [ast.literal_eval(toc.read_text("utf-8"))]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple) and len(item) == 3 and all(isinstance(i, str) for i in item):
            found.add(Path(item[1]))
        elif isinstance(item, list | tuple):
            pending.extend(item)
    return found


def python_packages(folder: Path, sources: set[Path]) -> list[Part]:
    parts = []
    for package in distributions(path=[str(folder)]):
        files = [folder / file for file in package.files or ()]
        name = package.metadata["Name"]
        if name == "snug" or not (name == "pyinstaller" or sources & set(files)):
            continue
        texts = tuple(
            file for file in files if LICENCE_FILE.search(file.name) and ".dist-info" in str(file)
        )
        if name in QT:
            texts = (OURS / "LGPL-3.0.txt", OURS / "GPL-3.0.txt", OURS / "Qt.txt")
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{package.version}"
        parts.append(Part(name, package.version, licence_of(package), purl, texts))
    return parts


def licence_of(package: Distribution) -> str:
    fields = package.metadata.json
    said = str(fields.get("license_expression") or fields.get("license") or "")
    if said and "\n" not in said and len(said) < 80:
        return said
    names = [
        c.rsplit(" :: ", 1)[-1] for c in fields.get("classifier", []) if c.startswith("License ::")
    ]
    return ", ".join(names) or "see its text"


def system_libraries(sources: set[Path]) -> list[Part]:
    """What was taken from the Debian or Ubuntu that this runs on; elsewhere nothing is."""
    if not shutil.which("dpkg"):
        return []
    system = platform.freedesktop_os_release()["ID"]
    paths = {str(path.resolve()) for path in sources if str(path).startswith(("/lib", "/usr/lib"))}
    # Debian's packages know a library by the folder it lay in before /lib became a link.
    both = sorted(paths | {path.removeprefix("/usr") for path in paths})
    packages = {line.split(":", 1)[0] for line in dpkg("-S", *both).splitlines()}
    parts = []
    for package in sorted(packages):
        version = dpkg("--status", package).split("\nVersion: ", 1)[1].split("\n", 1)[0]
        text = Path("/usr/share/doc") / package / "copyright"
        purl = f"pkg:deb/{system}/{package}@{version}"
        parts.append(Part(package, version, "see its text", purl, (text,)))
    return parts


def dpkg(*arguments: str) -> str:
    done = subprocess.run(["dpkg", *arguments], capture_output=True, text=True, check=False)
    return done.stdout


def by_hand(llama_source: Path) -> list[Part]:
    """What no package manager knows of."""
    python = ".".join(map(str, sys.version_info[:3]))
    llama = llama_version(llama_source / "vendor" / "llama.cpp")
    fonts = setup.ROOT / "resources" / "fonts"
    return [
        Part(
            "Python",
            python,
            "PSF-2.0",
            f"pkg:generic/python@{python}",
            (inside.python_licence(),),
        ),
        Part(
            "llama.cpp",
            llama,
            "MIT",
            f"pkg:github/ggml-org/llama.cpp@{llama}",
            (llama_source / "vendor" / "llama.cpp" / "LICENSE",),
        ),
        Part("Inter and JetBrains Mono", "", "OFL-1.1", "", (fonts / "OFL.txt",)),
    ]


def llama_version(source: Path) -> str:
    """Returns llama.cpp's version, as its build tells it; raises setup.Failed."""
    text = (source / "CMakeLists.txt").read_text("utf-8")
    numbers = re.findall(r"^set\(LLAMA_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)\)", text, re.MULTILINE)
    if len(numbers) != 3:
        raise setup.Failed(f"{source} does not tell its version.")
    return ".".join(numbers)


def listed(parts: list[Part]) -> str:
    lines = [
        "Snug is made with the following.",
        "Their licences are in the folders beside this file, or in the files that are named.",
        "",
    ]
    for part in parts:
        beside = ", ".join(text.name for text in part.texts if text.parent == OURS)
        line = f"{part.name} {part.version}".rstrip() + f": {part.licence}"
        lines.append(f"{line} ({beside})" if beside else line)
    return "\n".join(lines) + "\n"


def bill_of_materials(parts: list[Part]) -> str:
    import tomllib

    project = tomllib.loads((setup.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    components = [
        {
            "type": "library",
            "name": part.name,
            **({"version": part.version} if part.version else {}),
            **({"purl": part.purl} if part.purl else {}),
            "licenses": [{"license": {"name": part.licence}}],
        }
        for part in parts
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "Snug", "version": project["version"]}
        },
        "components": components,
    }
    return json.dumps(bill, indent=1) + "\n"
