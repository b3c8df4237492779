"""Makes Linux's packages of the bundle: `make package` on Linux.

    .venv/bin/python packaging/linux/package.py BUILD

BUILD/dist/snug is there already (bundle.py); beside it come snug_VERSION_ARCH.deb, and
snug-VERSION-ARCH.run, which unpacks itself and needs no root. Needs dpkg-deb and makeself.
"""

from __future__ import annotations

import gzip
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]
import setup  # noqa: E402
import system  # noqa: E402
from icons import png  # noqa: E402
from libraries import NEEDED, RECOMMENDED  # noqa: E402

from engine import __version__  # noqa: E402

ICON_SIZES = (16, 24, 32, 48, 64, 128, 256, 512)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CONTROL = """\
Package: snug
Version: {version}
Architecture: {architecture}
Maintainer: The Snug authors <snug@localhost>
Installed-Size: {size_kib}
Depends: {depends}
Recommends: {recommends}
Section: utils
Priority: optional
Description: make language models fit this computer, and chat with them
 Snug finds a language model, shrinks it in one click to the size this
 computer's memory holds, and chats with it. Everything stays on this computer:
 no cloud, no account, no telemetry.
"""


def main() -> int:
    build = Path(sys.argv[1]).resolve()
    try:
        system.provide(system.missing_for_installers(), setup.STATE / "system.log")
    except system.Missing as problem:
        print(problem, file=sys.stderr)
        return 1
    for make in (make_deb, make_run):
        package = make(build)
        print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")
    return 0


def make_deb(build: Path) -> Path:
    """Everything in /opt/snug, and what the desktop must know in /usr/share."""
    root = fresh(build / "deb")
    shutil.copytree(build / "dist" / "snug", root / "opt" / "snug", symlinks=True)
    for program in ("snug", "snug-engine"):
        link(root / "usr" / "bin" / program, f"../../opt/snug/{program}")
    add_desktop_files(root / "usr" / "share")
    manual = root / "usr" / "share" / "man" / "man1"
    manual.mkdir(parents=True)
    (manual / "snug.1.gz").write_bytes(gzip.compress((HERE / "snug.1").read_bytes(), 9, mtime=0))
    link(manual / "snug-engine.1.gz", "snug.1.gz")
    place = root / "usr" / "share" / "doc" / "snug" / "copyright"
    place.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", place)
    with place.open("a") as file:
        file.write("\nThe licences of all parts are in /opt/snug/licences.\n")
    size_kib = sum(path.lstat().st_size for path in root.rglob("*")) // 1024
    architecture = ARCHITECTURES[platform.machine()]
    control = CONTROL.format(
        version=__version__,
        architecture=architecture,
        size_kib=size_kib,
        depends=", ".join(sorted(set(NEEDED.values()))),
        recommends=", ".join(sorted(set(RECOMMENDED.values()))),
    )
    return build_deb(root, control, build / "dist" / f"snug_{__version__}_{architecture}.deb")


def build_deb(root: Path, control: str, package: Path) -> Path:
    """Packs the files of `root`, which is removed then."""
    folder = root / "DEBIAN"
    folder.mkdir()
    (folder / "control").write_text(control)
    options = ["--root-owner-group", "-Zxz", "-z6", "--threads-max=1"]
    subprocess.run(["dpkg-deb", *options, "--build", str(root), str(package)], check=True)
    shutil.rmtree(root)
    return package


def make_run(build: Path) -> Path:
    """An archive that unpacks itself into the user's own folders, and removes itself from there."""
    root = fresh(build / "run")
    shutil.copytree(build / "dist" / "snug", root / "snug", symlinks=True)
    add_desktop_files(root / "share")
    for script in ("install.sh", "uninstall.sh"):
        shutil.copy(HERE / script, root / script)
    package = build / "dist" / f"snug-{__version__}-{platform.machine()}.run"
    options = ["--xz", "--complevel", "6", "--sha256", "--nox11", "--tar-quietly"]
    command = ["makeself", *options, str(root), str(package), "Snug", "./install.sh"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root)
    return package


def add_desktop_files(share: Path) -> None:
    """The entry of the menu, the type of GGUF files, what software centres show, and icons."""
    for name, place in (
        ("snug.desktop", "applications/snug.desktop"),
        ("snug-mime.xml", "mime/packages/snug.xml"),
        ("org.snug.Snug.metainfo.xml", "metainfo/org.snug.Snug.metainfo.xml"),
    ):
        copy(HERE / name, share / place)
    icons = share / "icons" / "hicolor"
    copy(ROOT / "resources" / "snug.svg", icons / "scalable" / "apps" / "snug.svg")
    draw_icons(icons)


def draw_icons(folder: Path) -> None:
    """Pixels for desktops that draw no SVG."""
    for side in ICON_SIZES:
        place = folder / f"{side}x{side}" / "apps" / "snug.png"
        place.parent.mkdir(parents=True)
        place.write_bytes(png(side))


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def link(place: Path, target: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


if __name__ == "__main__":
    sys.exit(main())
