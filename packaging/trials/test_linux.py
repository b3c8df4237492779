"""The .deb and the .run in clean Debians: installed, used with clicks by a normal user, removed."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from display import Display, display
from tree import USER_ID, Tree, tree

T = TypeVar("T")

MOST_DEB_BYTES = 90e6
SHRINK_IN_RAIL = (28, 139)
FIRST_SOURCE = (160, 150)
QUICK_WORK = (953, 542)
QUESTION = "What is Snug?"
STARTER = Path(__file__).parents[2] / "resources" / "starter" / "starter.gguf"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def debian(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tree]:
    with tree(request.param, tmp_path_factory.mktemp("debian")) as made:
        yield made


def the(build: Path, pattern: str) -> Path:
    (package,) = (build / "dist").glob(pattern)
    return package


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 120) -> T:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.2)
    return found


def use(command: list[str], data: Path, picture: Path) -> None:
    """Do what a newcomer does: try the starter, ask it something, shrink it; keep pictures.

    `data` is where the window keeps its conversations and models.
    """
    with display() as shown:
        # The last word before the command's own is the environment's.
        at = command.index("LANG=C.UTF-8") + 1
        process = subprocess.Popen(
            [*command[:at], f"DISPLAY={shown.name}", *command[at:]], stdin=subprocess.DEVNULL
        )
        try:
            click(shown, *wait_for("the first page", shown.primary_button))
            database = data / "conversations.db"
            wait_for("the question", lambda: is_asked(shown, database))
            answer = wait_for("an answer", lambda: text_in(database, "assistant"))
            assert answer.startswith("Snug is")
            shown.picture(picture.with_suffix(".chat.png"))
            click(shown, *SHRINK_IN_RAIL)
            time.sleep(2)
            click(shown, *FIRST_SOURCE)
            button = wait_for("the button to shrink", shown.primary_button)
            click(shown, *QUICK_WORK)
            click(shown, *button)
            model = wait_for("the smaller model", lambda: made_in(data / "models"), 300)
            with model.open("rb") as file:
                assert file.read(4) == b"GGUF"
            assert model.stat().st_size < STARTER.stat().st_size * 0.6
            time.sleep(2)
            shown.picture(picture.with_suffix(".shrink.png"))
        except BaseException:
            shown.picture(picture.with_suffix(".failed.png"))
            raise
        finally:
            process.terminate()
            process.wait()


def click(shown: Display, x: int, y: int) -> None:
    tell = ["xdotool", "mousemove", str(x), str(y), "sleep", "0.2", "click", "1"]
    subprocess.run(tell, env={"DISPLAY": shown.name, "PATH": "/usr/bin"}, check=True)


def made_in(folder: Path) -> Path | None:
    """The complete model there; one in the making has a name that begins with a dot."""
    models = [path for path in folder.glob("[!.]*.gguf") if path.is_file()]
    return models[0] if models else None


def is_asked(shown: Display, database: Path) -> bool:
    """Whether the question is sent; it is typed until the model is there to take it."""
    for tell in (["key", "ctrl+a"], ["type", "--delay", "20", QUESTION], ["key", "Return"]):
        environment = {"DISPLAY": shown.name, "PATH": "/usr/bin"}
        subprocess.run(["xdotool", *tell], env=environment, check=True)
    time.sleep(2)
    return bool(text_in(database, "user"))


def text_in(database: Path, role: str) -> str:
    """The last complete message of `role` in the window's database, or nothing."""
    if not database.exists():
        return ""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as conversations:
        rows = conversations.execute(
            "SELECT content FROM messages WHERE role = ? AND status = 'complete'", (role,)
        ).fetchall()
    return str(rows[-1][0]) if rows else ""


def test_the_deb(debian: Tree, build: Path, pictures: Path) -> None:
    package = the(build, "*.deb")
    assert package.stat().st_size <= MOST_DEB_BYTES
    before = debian.files()
    shutil.copy(package, debian.root / "snug.deb")
    debian.run("apt-get", "update", "-qq")
    debian.run("apt-get", "install", "-y", "--no-install-recommends", "/snug.deb")
    (debian.root / "snug.deb").unlink()
    told = subprocess.run(
        debian.as_user("snug-engine", "selftest", "--json"), capture_output=True, check=True
    )
    assert json.loads(told.stdout)["answer"].startswith("Snug is")
    data = debian.home / ".local" / "share" / "snug"
    use(debian.as_user("snug"), data, pictures / f"deb-{debian.root.name}.png")
    debian.run("apt-get", "purge", "-y", "--autoremove", "snug")
    assert not debian.files() - before
    assert (data / "conversations.db").exists()  # the user's own stays


def test_the_run(debian: Tree, build: Path, pictures: Path) -> None:
    """In a home with spaces and letters of other alphabets; the libraries of the .deb are there."""
    debian.run("apt-get", "update", "-qq")
    control = subprocess.run(
        ["dpkg-deb", "--field", str(the(build, "*.deb")), "Depends"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    needs = [need.split(" ", 1)[0] for need in control.strip().split(", ")]
    debian.run("apt-get", "install", "-y", "--no-install-recommends", "xz-utils", "bzip2", *needs)
    home = "/home/Ann Müller 安"
    place = debian.root / home.lstrip("/")
    place.mkdir()
    shutil.chown(place, USER_ID, USER_ID)
    package = place / "snug.run"
    shutil.copy(the(build, "*.run"), package)
    package.chmod(0o755)
    before = debian.files()
    install = debian.as_user(f"{home}/snug.run", "--nochown", home=home)
    subprocess.run(install, check=True, stdin=subprocess.DEVNULL)
    package.unlink()
    assert debian.files() == before  # nothing outside of the home
    entry = place / ".local/share/applications/snug.desktop"
    assert f'Exec="{home}/.local/share/snug-app/snug" %f' in entry.read_text("utf-8")
    data = place / ".local" / "share" / "snug"
    program = f"{home}/.local/bin/snug"
    use(debian.as_user(program, home=home), data, pictures / f"run-{debian.root.name}.png")
    remove = f"{home}/.local/share/snug-app/uninstall.sh"
    subprocess.run(debian.as_user(remove, home=home), check=True, stdin=subprocess.DEVNULL)
    left = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    ours = (".local/share/snug/", ".config/snug/", ".cache/", ".local/state/")
    assert not [path for path in left if not path.startswith(ours)]
    assert (data / "conversations.db").exists()
