"""Windows's installer under Wine: installed, upgraded and removed silently.

Wine runs no Qt of today, so the files are of a Windows bundle's names only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree import Tree, tree

ROOT = Path(__file__).parents[2]
HOME = "/root"
LOCAL = "drive_c/users/root/AppData/Local"
IS_OPEN, TOO_OLD = 2, 3
UNINSTALL = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\Snug"
CLASSES = r"HKCU\Software\Classes"


class Wine:
    """A Windows of its own in a Debian; `drive` is its user's local folder."""

    def __init__(self, debian: Tree) -> None:
        self._debian = debian
        self.prefix = debian.root / "root" / ".wine"
        self.local = self.prefix / LOCAL

    def run(self, *command: str) -> int:
        """Runs a program of Windows to its end; returns its exit status."""
        return self._finish(*command).returncode

    def value(self, key: str, name: str = "") -> str | None:
        """A text of the registry, or None."""
        done = self._finish("reg", "query", key, *(["/v", name] if name else ["/ve"]))
        if done.returncode or "REG_" not in done.stdout:
            return None
        return done.stdout.split("REG_", 1)[1].split(None, 1)[-1].strip()

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Starts a program of Windows, which goes on."""
        return self._begin(*command)

    def behave_as(self, version: str) -> None:
        """`version` as winecfg names them: win7, win10."""
        assert self.run("winecfg", "-v", version) == 0

    def remove(self, place: str) -> None:
        """Runs the uninstaller in `place` as Windows's settings do.

        It goes on in a copy of itself, which can delete the file that was started; so what is
        waited for is the end of every program.
        """
        assert self.run(f"{place}\\uninstall.exe", "/S") == 0
        self._debian.run("/usr/lib/wine/wineserver64", "-w", HOME=HOME)

    def end(self) -> None:
        """Ends what Wine leaves running, if anything, so that its folder can be removed."""
        self._debian.run("sh", "-c", "/usr/lib/wine/wineserver64 -k || true", HOME=HOME)

    def _finish(self, *command: str) -> subprocess.CompletedProcess[str]:
        with self._begin(*command) as process:
            printed, _ = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, printed)

    def _begin(self, *command: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": "/usr/lib/wine:/usr/sbin:/usr/bin:/bin",
            "HOME": HOME,
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "LANG": "C.UTF-8",
        }
        return subprocess.Popen(
            ["chroot", str(self._debian.root), "wine64", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wine]:
    with tree("bookworm", tmp_path_factory.mktemp("wine")) as debian:
        debian.run("apt-get", "update", "-qq")
        debian.run("apt-get", "install", "-y", "--no-install-recommends", "wine", "wine64")
        windows = Wine(debian)
        assert windows.run("wineboot", "--init") == 0
        yield windows
        windows.end()


def windows_shape(bundle: Path, shape: Path) -> Path:
    """The files of `bundle`, their beginnings, under the names that a bundle of Windows has."""
    endings = {".so": ".pyd"}
    for path in bundle.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        place = shape / path.relative_to(bundle)
        if path.name in ("snug", "snug-engine"):
            place = place.with_suffix(".exe")
        elif ".so" in path.name:
            place = place.with_name(path.name.split(".so")[0].removeprefix("lib") + ".dll")
        place = place.with_suffix(endings.get(place.suffix, place.suffix))
        place.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            place.write_bytes(file.read(4096))
    return shape


def small(bundle: Path, shape: Path) -> None:
    """A bundle of one file."""
    (shape / "snug.exe").write_bytes((bundle / "snug").read_bytes()[:1000])


def installer(shape: Path, out: Path, version: str) -> None:
    command = [sys.executable, str(ROOT / "packaging" / "windows" / "package.py")]
    options = ["--version", version, "--target", "amd64-unicode"]
    subprocess.run([*command, str(shape), str(out), *options], check=True)


def sleeper(program: Path) -> None:
    """A program of Windows that does nothing for a quarter of a minute."""
    script = f"""
        Unicode true
        Target amd64-unicode
        OutFile "{program}"
        RequestExecutionLevel user
        SilentInstall silent
        Section
          Sleep 15000
        SectionEnd
    """
    subprocess.run(["makensis", "-V2", "-WX", "-"], input=script, text=True, check=True)


def into(place: str) -> list[str]:
    """The option for a folder. NSIS takes all that follows for it, without quotes: Wine would put
    them around a word with spaces in it."""
    return f"/D={place}".split(" ")


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_old_windows_is_refused(wine: Wine, bundle: Path, tmp_path: Path) -> None:
    small(bundle, tmp_path)
    installer(tmp_path, wine.prefix / "drive_c" / "snug-setup.exe", "0.1.0")
    wine.behave_as("win7")
    assert wine.run("C:\\snug-setup.exe", "/S") == TOO_OLD
    assert not (wine.local / "Programs" / "Snug").exists()


def test_install_upgrade_and_remove(wine: Wine, bundle: Path, tmp_path: Path) -> None:
    wine.behave_as("win10")
    shape = windows_shape(bundle, tmp_path / "shape")
    setup = wine.prefix / "drive_c" / "snug-setup.exe"
    installer(shape, setup, "0.1.0")
    wine.local.mkdir(parents=True, exist_ok=True)
    own = wine.local / "snug" / "conversations.db"
    own.parent.mkdir()
    own.write_text("mine")

    assert wine.run("C:\\snug-setup.exe", "/S") == 0
    home = wine.local / "Programs" / "Snug"
    assert files_in(home) == files_in(shape) | {"uninstall.exe"}
    place = wine.value(UNINSTALL, "InstallLocation")
    assert place and place.endswith("AppData\\Local\\Programs\\Snug")
    assert wine.value(UNINSTALL, "DisplayVersion") == "0.1.0"
    opens = wine.value(CLASSES + r"\Snug.gguf\shell\open\command")
    assert opens == f'"{place}\\snug.exe" "%1"'
    assert wine.value(CLASSES + r"\.gguf") == "Snug.gguf"
    assert list(wine.prefix.rglob("Snug.lnk"))

    # The next version has one file less and one more; somebody has put another into the folder.
    (home / "notes.txt").write_text("somebody's")
    old = next(path for path in sorted(shape.rglob("*.dll")))
    old.rename(old.with_name("newer.dll"))
    installer(shape, setup, "0.2.0")
    assert wine.run("C:\\snug-setup.exe", "/S") == 0
    assert files_in(home) == files_in(shape) | {"uninstall.exe", "notes.txt"}
    assert wine.value(UNINSTALL, "DisplayVersion") == "0.2.0"

    wine.remove(place)
    assert files_in(home) == {"notes.txt"}
    assert wine.value(UNINSTALL, "DisplayVersion") is None
    assert wine.value(CLASSES + r"\Snug.gguf\shell\open\command") is None
    assert wine.value(CLASSES + r"\.gguf") is None
    assert not list(wine.prefix.rglob("Snug.lnk"))
    assert own.read_text() == "mine"
    shutil.rmtree(home)


def test_another_program_keeps_its_files(wine: Wine, bundle: Path, tmp_path: Path) -> None:
    """In a folder of the user's choice, with spaces and letters of another alphabet."""
    wine.behave_as("win10")
    small(bundle, tmp_path)
    installer(tmp_path, wine.prefix / "drive_c" / "snug-setup.exe", "0.1.0")
    theirs = ["reg", "add", CLASSES + r"\.gguf", "/ve", "/d", "Other.gguf", "/f"]
    assert wine.run(*theirs) == 0
    place = "C:\\My Programs\\Schön 安\\Snug"
    assert wine.run("C:\\snug-setup.exe", "/S", *into(place)) == 0
    home = wine.prefix / "drive_c" / "My Programs" / "Schön 安" / "Snug"
    assert files_in(home) == {"snug.exe", "uninstall.exe"}
    assert wine.value(CLASSES + r"\.gguf") == "Other.gguf"
    wine.remove(place)
    assert not home.exists()
    assert wine.value(CLASSES + r"\.gguf") == "Other.gguf"


def test_an_upgrade_finds_the_folder_of_the_older_version(
    wine: Wine, bundle: Path, tmp_path: Path
) -> None:
    wine.behave_as("win10")
    setup = wine.prefix / "drive_c" / "snug-setup.exe"
    usual = wine.local / "Programs" / "Snug"
    home = wine.prefix / "drive_c" / "Apps" / "My Snug"
    small(bundle, tmp_path)
    installer(tmp_path, setup, "0.1.0")
    assert wine.run("C:\\snug-setup.exe", "/S", *into("C:\\Apps\\My Snug")) == 0

    installer(tmp_path, setup, "0.2.0")
    assert wine.run("C:\\snug-setup.exe", "/S") == 0
    assert not usual.exists()
    assert files_in(home) == {"snug.exe", "uninstall.exe"}
    assert wine.value(UNINSTALL, "InstallLocation") == "C:\\Apps\\My Snug"
    assert wine.value(UNINSTALL, "DisplayVersion") == "0.2.0"

    # Into another folder by choice: the one before goes, so that no copy is left without its entry.
    installer(tmp_path, setup, "0.3.0")
    assert wine.run("C:\\snug-setup.exe", "/S", *into("C:\\Elsewhere\\Snug")) == 0
    assert not home.exists()
    elsewhere = wine.prefix / "drive_c" / "Elsewhere" / "Snug"
    assert files_in(elsewhere) == {"snug.exe", "uninstall.exe"}
    assert wine.value(UNINSTALL, "InstallLocation") == "C:\\Elsewhere\\Snug"
    wine.remove("C:\\Elsewhere\\Snug")
    assert not elsewhere.exists()
    assert wine.value(UNINSTALL, "DisplayVersion") is None


@pytest.mark.parametrize("program", ["snug.exe", "snug-engine.exe"])
def test_nothing_changes_while_a_program_of_ours_runs(
    wine: Wine, tmp_path: Path, program: str
) -> None:
    wine.behave_as("win10")
    setup = wine.prefix / "drive_c" / "snug-setup.exe"
    home = wine.local / "Programs" / "Snug"
    shape = tmp_path / "shape"
    shape.mkdir()
    for name in ("snug.exe", "snug-engine.exe"):
        sleeper(shape / name)
    installer(shape, setup, "0.1.0")
    assert wine.run("C:\\snug-setup.exe", "/S") == 0
    place = wine.value(UNINSTALL, "InstallLocation")

    for name in ("snug.exe", "snug-engine.exe"):
        (shape / name).write_bytes(b"newer")
    installer(shape, setup, "0.2.0")
    with wine.start(f"{place}\\{program}"):
        time.sleep(5)
        before = {name: (home / name).read_bytes() for name in files_in(home)}
        assert wine.run("C:\\snug-setup.exe", "/S") == IS_OPEN
        assert {name: (home / name).read_bytes() for name in files_in(home)} == before
        assert wine.value(UNINSTALL, "DisplayVersion") == "0.1.0"
    assert wine.run("C:\\snug-setup.exe", "/S") == 0
    assert (home / program).read_bytes() == b"newer"
    wine.remove(place or "")
    assert not home.exists()
