"""Makes Windows's installer of a frozen folder, with NSIS: on Windows, or on Linux to try it.

    python packaging/windows/package.py BUNDLE OUT.exe [--version V] [--sign COMMAND] [--target T]

What is in BUNDLE is listed file by file: the uninstaller takes away those, and nothing that lies
beside them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path, PureWindowsPath

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]
from icons import ico  # noqa: E402

from engine import __version__  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--version", default=__version__)
    parser.add_argument("--sign", default="", help="a command that signs the file named last")
    # NSIS as it is published makes 32-bit installers only; a Wine of 64 bits runs none of them.
    parser.add_argument("--target", default="x86-unicode", help="amd64-unicode, with Debian's NSIS")
    args = parser.parse_args()
    bundle = args.bundle.resolve()
    with tempfile.TemporaryDirectory() as folder:
        files, icon = Path(folder) / "files.nsh", Path(folder) / "snug.ico"
        files.write_text(listed(bundle), encoding="utf-8-sig")
        icon.write_bytes(ico())
        definitions = {
            "VERSION": args.version,
            "TARGET": args.target,
            "OUT": str(args.out.resolve()),
            "ICON": str(icon),
            "FILES": str(files),
            "SIZE_KIB": sum(p.stat().st_size for p in bundle.rglob("*") if p.is_file()) // 1024,
            **({"SIGN": args.sign} if args.sign else {}),
        }
        options = [f"-D{name}={value}" for name, value in definitions.items()]
        command = ["makensis", "-V2", "-WX", *options, str(HERE / "snug.nsi")]
        return subprocess.run(command, check=False).returncode


def listed(bundle: Path) -> str:
    """What NSIS is to pack and to delete again, as two macros; a link is packed as a file."""
    files = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    folders = sorted({parent for file in files for parent in file.parents if parent != Path()})
    install, delete = ["!macro InstallFiles"], ["!macro DeleteFiles"]
    place = None
    for file in sorted(files, key=lambda file: file.parent):
        if file.parent != place:
            place = file.parent
            install.append(f"  SetOutPath {installed(place)}")
        install.append(f'  File "/oname={escaped(file.name)}" "{escaped(str(bundle / file))}"')
        delete.append(f"  Delete {installed(file)}")
    delete += [f"  RMDir {installed(folder)}" for folder in reversed(folders)]
    return "\n".join([*install, "!macroend", *delete, "!macroend", ""])


def installed(path: Path) -> str:
    """Where `path` of the bundle will be on the user's computer."""
    return f'"{PureWindowsPath("$INSTDIR", *map(escaped, path.parts))}"'


def escaped(text: str) -> str:
    return text.replace("$", "$$")


if __name__ == "__main__":
    sys.exit(main())
