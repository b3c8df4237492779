"""Sets Snug up in `.venv`, as far as that is not done yet: `make` calls this before anything else.

    python3 packaging/setup.py check | test | run

The variable BACKEND (vulkan, cuda) has llama.cpp compiled for graphics cards too.
Steps, each done once and again only when what it depends on has changed: the virtual environment,
the packages, llama.cpp (compiled from source, the long one), the native module. A step that was
interrupted starts again; a compilation goes on where it stopped. Plain standard library, parsed by
any Python 3.7+ so that an old one can look for a newer one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STATE = VENV / "setup"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS = ROOT / "constraints.txt"
LLAMA_ONLY = ROOT / "native" / "llama_cpp_only.cmake"

# Snug uses libllama and ggml, nothing of the tools around them.
LLAMA_OPTIONS = (
    "LLAVA_BUILD",
    "LLAMA_BUILD_TOOLS",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_SERVER",
    "LLAMA_BUILD_TESTS",
)
# What llama.cpp computes with beside the processor, where BACKEND asks for it.
BACKENDS = {"": (), "vulkan": ("GGML_VULKAN",), "cuda": ("GGML_CUDA",)}
# Shared by the cores this is the estimate that is told. A fast server needs 5, a laptop twice that.
LLAMA_CORE_MINUTES = 10


class Failed(Exception):
    """Set-up cannot go on; the text says why and what to do."""


def main() -> int:
    """Runs the steps that the goal needs and returns the exit status."""
    goal = sys.argv[1] if len(sys.argv) > 1 else "run"
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where an old Python is told
        return run_on_a_newer_python()

    import system

    for stop in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        if signal.getsignal(stop) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(stop, signal.default_int_handler)
    try:
        with only_one_at_a_time():
            set_up(goal)
    except (Failed, system.Missing) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next time goes on from here.", file=sys.stderr)
        return 130
    return 0


def run_on_a_newer_python() -> int:
    """Starts this script again on the newest Python on the PATH that will do."""
    for minor in (14, 13, 12, 11):
        python = shutil.which(f"python3.{minor}")
        # pyenv puts stand-ins on the PATH for versions that are not active; they only fail.
        if (
            python
            and not subprocess.run([python, "-V"], capture_output=True, check=False).returncode
        ):
            return subprocess.run([python, *sys.argv], check=False).returncode
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    print(
        f"Snug needs Python 3.11 or newer, and this one is {found}; install python3.11 (or newer)"
        " from your distribution or from python.org, then try again.",
        file=sys.stderr,
    )
    return 1


def set_up(goal: str) -> None:
    """Brings `.venv` up to date: `check` needs no compiler, `run` and `test` need everything."""
    import system

    log = STATE / "system.log"
    if goal != "check":
        system.provide(system.missing_for_qt(), log)
    if not is_done("venv", venv_key()):
        system.provide(system.missing_for_python(), log)
        make_venv()
        mark_done("venv", venv_key())
    if not is_done("packages", packages_key()):
        install_packages()
        mark_done("packages", packages_key())
    if goal == "check":
        return
    is_llama_done = is_done("llama-cpp", llama_key())
    is_native_done = is_done("native", native_key())
    if not (is_llama_done and is_native_done):
        system.provide(system.missing_for_compiling(), log)
    if not is_llama_done:
        system.provide(system.missing_for_backend(backend()), log)
        compile_llama()
        mark_done("llama-cpp", llama_key())
    if not is_native_done:
        compile_native()
        mark_done("native", native_key())


# Steps


def make_venv() -> None:
    print(f"Making a virtual environment in {VENV.name}.", flush=True)
    if VENV.exists():
        shutil.rmtree(VENV)
    STATE.mkdir(parents=True)
    run_quietly([sys.executable, "-m", "venv", str(VENV)], "Making a virtual environment", "venv")


def install_packages() -> None:
    wanted = [
        name for name in requirements("build", "dev") if not name.startswith("llama-cpp-python")
    ]
    print("Installing packages.", flush=True)
    pip_install(wanted, "Installing packages", "packages")


def compile_llama() -> None:
    """Compiles llama.cpp in a folder that outlives an interruption, and installs its binding."""
    n_cores = os.cpu_count() or 1
    minutes = max(1, round(LLAMA_CORE_MINUTES / n_cores))
    unit = "minute" if minutes == 1 else "minutes"
    cores = "1 core" if n_cores == 1 else f"{n_cores} cores"
    print(f"Compiling llama.cpp, once: about {minutes} {unit} on {cores}.", flush=True)
    source = unpacked_source("llama-cpp-python")
    options = [f"-D{name}=OFF" for name in LLAMA_OPTIONS]
    # Said of each: a compilation that goes on may have begun for another one.
    options += [
        f"-D{name}={'ON' if asked == backend() else 'OFF'}"
        for asked, names in BACKENDS.items()
        for name in names
    ]
    options.append(f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={LLAMA_ONLY.as_posix()}")
    pip_install(
        # From a folder, so that pip never takes a wheel from its cache that was built otherwise.
        [
            "-v",
            "--no-build-isolation",
            "--config-settings",
            f"build-dir={source.parent / 'build'}",
            str(source),
        ],
        "Compiling llama.cpp",
        "llama-cpp",
        CMAKE_ARGS=" ".join(f'"{option}"' if " " in option else option for option in options),
    )
    shutil.rmtree(source.parent)


def compile_native() -> None:
    print("Compiling Snug's native module.", flush=True)
    pip_install(
        ["-v", "--no-build-isolation", "--no-deps", "-e", str(ROOT)],
        "Compiling Snug's native module",
        "native",
    )


def unpacked_source(package: str) -> Path:
    """Returns the folder with the source of `package` at its pinned version, fetched if need be."""
    version = pinned(package)
    home = STATE / f"{package}-{version}"
    source = home / "source"
    if not source.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        fetch = ["download", "--no-deps", "--no-build-isolation", "--no-binary", package]
        fetch += ["-d", str(home), f"{package}=={version}"]
        run_quietly([*pip(), *fetch], f"Fetching {package}", "llama-cpp-fetch")
        (archive,) = home.glob("*.tar.gz")
        shutil.unpack_archive(archive, home / "unpacked")
        archive.unlink()
        (folder,) = (home / "unpacked").iterdir()
        folder.rename(source)
    return source


# What is done already: a file a step, holding the digest of all that the step depends on


def is_done(step: str, key: str) -> bool:
    stamp = STATE / f"{step}.done"
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == key


def mark_done(step: str, key: str) -> None:
    (STATE / f"{step}.done").write_text(key)


def venv_key() -> str:
    return digest(str(ROOT))  # a virtual environment does not survive being moved


def packages_key() -> str:
    return digest(venv_version(), CONSTRAINTS.read_text("utf-8"), *requirements("build", "dev"))


def llama_key() -> str:
    version, options = pinned("llama-cpp-python"), (*LLAMA_OPTIONS, *BACKENDS[backend()])
    files = [LLAMA_ONLY, *sorted((ROOT / "native" / "llama").glob("amx.*"))]
    texts = [file.read_text("utf-8") for file in files]
    return digest(venv_version(), version, *texts, *options)


def backend() -> str:
    """Returns what `make ... BACKEND=` names, as make hands it on; none is the processor alone."""
    name = os.environ.get("BACKEND", "")
    if name not in BACKENDS:
        known = ", ".join(filter(None, BACKENDS))
        raise Failed(f"BACKEND can be {known}, or nothing for the processor alone; not {name!r}.")
    return name


def native_key() -> str:
    native = ROOT / "native"
    files = [ROOT / "pyproject.toml", native / "CMakeLists.txt", *sorted(native.glob("*.?pp"))]
    texts = [text for file in files for text in (file.name, file.read_text("utf-8"))]
    # The editable install lists every module, and knows nothing of a file that moved since.
    modules = sorted(
        file.relative_to(ROOT).as_posix()
        for package in ("app", "engine")
        for file in (ROOT / package).rglob("*.py")
    )
    return digest(venv_version(), pinned("nanobind"), pinned("scikit-build-core"), *texts, *modules)


def digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def venv_version() -> str:
    """Returns the version of the Python that `.venv` was made with."""
    return (VENV / "pyvenv.cfg").read_text("utf-8")


def requirements(*groups: str) -> list[str]:
    """Returns what pyproject.toml asks for, of the app and for those `groups` of work on it."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    more = [name for group in groups for name in project["dependency-groups"][group]]
    return [*project["project"]["dependencies"], *more]


def pinned(package: str) -> str:
    """Returns the version that constraints.txt names for `package`."""
    found = re.search(
        rf"^{re.escape(package)}==(\S+)$", CONSTRAINTS.read_text("utf-8"), re.MULTILINE
    )
    if found is None:
        raise Failed(f"{CONSTRAINTS.name} does not say which version of {package} to install.")
    return found[1]


# Running things


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Waits while another set-up works in this checkout.

    pip inherits the lock: a compilation that outlives this process, killed, still holds it.
    """
    if os.name == "nt":
        yield
        return
    import fcntl

    checkout = os.open(ROOT, os.O_RDONLY)
    os.set_inheritable(checkout, True)
    try:
        try:
            fcntl.flock(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is at work here; waiting for it.", flush=True)
            fcntl.flock(checkout, fcntl.LOCK_EX)
        yield
    finally:
        os.close(checkout)


def pip() -> list[str]:
    return [str(PYTHON), "-m", "pip"]


def pip_install(arguments: list[str], title: str, log_name: str, **environment: str) -> None:
    command = [*pip(), "install", "--no-input", "-c", str(CONSTRAINTS), *arguments]
    run_quietly(command, title, log_name, **environment)


def run_quietly(command: list[str], title: str, log_name: str, **environment: str) -> None:
    """Runs `command` with its noise in a log file and a calm line on the terminal.

    Raises Failed with the last lines of the log when it does not succeed.
    """
    log = STATE / f"{log_name}.log"
    variables = {
        **os.environ,
        "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **environment,
    }
    is_terminal = sys.stdout.isatty()
    start = time.monotonic()
    with log.open("wb") as output:
        # A session of its own, so that compilers do not outlive an interrupted set-up.
        process = subprocess.Popen(
            command,
            cwd=STATE,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=False,
        )
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if is_terminal:
                    show(f"  {title}{steps_done(log)}, {elapsed(start)}")
        except BaseException:
            end_with_children(process)
            raise
    if is_terminal:
        show("")
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise Failed(f"{tail}\n\n{title} failed; the whole log is in {log}.")


def end_with_children(process: subprocess.Popen[bytes]) -> None:
    if os.name == "nt":
        process.terminate()
    else:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def steps_done(log: Path) -> str:
    """Returns how far ninja is, `: 34 of 134`, from the last [34/134] in the log; or nothing."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        steps = re.findall(rb"\[(\d+)/(\d+)\]", file.read())
    return f": {int(steps[-1][0])} of {int(steps[-1][1])}" if steps else ""


def elapsed(start: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def show(line: str) -> None:
    sys.stdout.write(f"\r\x1b[2K{line}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
