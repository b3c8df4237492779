"""Makes an AppImage of the bundle: one file that runs where it lies. On Linux, in the workflow.

    .venv/bin/python packaging/linux/appimage.py BUILD RUNTIME

BUILD/dist/snug is there already (bundle.py). RUNTIME is what an AppImage begins with: the program
of AppImage/type2-runtime, release 20251108, that mounts the file system behind it. No package
carries it, so it is fetched where it may be, and checked here. Needs mksquashfs.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]
from icons import png  # noqa: E402
from package import add_desktop_files, copy, fresh, link  # noqa: E402

from engine import __version__  # noqa: E402

RUNTIMES = {
    "x86_64": "2fca8b443c92510f1483a883f60061ad09b46b978b2631c807cd873a47ec260d",
    "aarch64": "00cbdfcf917cc6c0ff6d3347d59e0ca1f7f45a6df1a428a0d6d8a78664d87444",
}
"""SHA-256 of the release's files, by machine."""


def main() -> int:
    build, runtime = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    program = runtime.read_bytes()
    if hashlib.sha256(program).hexdigest() != RUNTIMES[platform.machine()]:
        sys.exit(f"{runtime} is not the runtime of release 20251108.")
    package = make_appimage(build, program)
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")
    return 0


def make_appimage(build: Path, runtime: bytes) -> Path:
    """The runtime, and behind it the bundle as a file system that it mounts."""
    root = fresh(build / "appdir")
    shutil.copytree(build / "dist" / "snug", root / "usr" / "lib" / "snug", symlinks=True)
    add_desktop_files(root / "usr" / "share")
    link(root / "AppRun", "usr/lib/snug/snug")
    copy(HERE / "snug.desktop", root / "snug.desktop")
    copy(ROOT / "resources" / "snug.svg", root / "snug.svg")
    (root / ".DirIcon").write_bytes(png(256))
    packed = build / "appdir.squashfs"
    packed.unlink(missing_ok=True)
    options = ["-root-owned", "-noappend", "-comp", "zstd", "-no-progress", "-quiet"]
    subprocess.run(["mksquashfs", str(root), str(packed), *options], check=True)
    package = build / "dist" / f"Snug-{__version__}-{platform.machine()}.AppImage"
    package.write_bytes(runtime + packed.read_bytes())
    package.chmod(0o755)
    packed.unlink()
    shutil.rmtree(root)
    return package


if __name__ == "__main__":
    sys.exit(main())
