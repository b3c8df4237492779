"""Modules for graphics that are real shared libraries, and go wrong as drivers do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import llama_cpp
import pytest

_INIT = "void *ggml_backend_init(void)"

CRASHES = f"#include <stdlib.h>\n{_INIT} {{ abort(); }}"
HANGS = "__attribute__((constructor)) static void load(void) { for (;;) {} }"
HAS_NO_DRIVER = f"extern void *of_a_driver(void); {_INIT} {{ return of_a_driver(); }}"
FINDS_NOTHING = f"{_INIT} {{ return 0; }}"

# One card with 8 GB that is there until something is to be computed on it. The layout is that of
# ggml-backend-impl.h; what is not set here is null.
CARD = """
#include <stddef.h>
#include <stdlib.h>
typedef struct device {
    const char *(*get_name)(struct device *);
    const char *(*get_description)(struct device *);
    void (*get_memory)(struct device *, size_t *, size_t *);
    int (*get_type)(struct device *);
    void *(*others[11])(void);
    void *reg, *context;
} device;
static const char *name(device *d) { return "NAME0"; }
static const char *description(device *d) { return "Test Card 3000"; }
static void memory(device *d, size_t *free, size_t *total) { *free = *total = 8000000000; }
static int type(device *d) { return 1; }
static void *crash(void) { abort(); }
static struct { int api_version; void *functions[4], *context; } reg;
static device card = {name, description, memory, type,
    {crash, crash, crash, crash, crash, crash, crash, crash, crash, crash, crash}, &reg};
static const char *reg_name(void *r) { return "NAME"; }
static size_t count(void *r) { return 1; }
static device *get(void *r, size_t i) { return &card; }
void *ggml_backend_init(void) {
    reg.api_version = 2;
    reg.functions[0] = reg_name;
    reg.functions[1] = count;
    reg.functions[2] = get;
    return &reg;
}
"""

# The same card, but what is given to it the processor computes.
_WORKS = """
#include <dlfcn.h>
__attribute__((constructor)) static void work(void) {
    void *library = dlopen("libggml-cpu.so.0", RTLD_NOW | RTLD_NOLOAD);
    struct { int api_version; void *names, *count, *(*get)(void *, size_t); } *cpu;
    if (!library) return;
    cpu = ((void *(*)(void))dlsym(library, "ggml_backend_cpu_reg"))();
    device *processor = cpu->get(cpu, 0);
    for (int i = 0; i < 11; i++) card.others[i] = processor->others[i];
    card.context = processor->context;
}
"""


def card(name: str, *, works: bool = False) -> str:
    """The source of a module with the one device `name`0.

    It crashes whoever computes on it, unless it `works`.
    """
    return (CARD + _WORKS if works else CARD).replace("NAME", name)


def compile_module(folder: Path, name: str, source: str) -> Path:
    """Compile a module as a build would put it into `folder`; skips where there is no compiler."""
    return compile_library(folder / f"libggml-{name}.so", source)


def compile_library(library: Path, source: str) -> Path:
    if os.name == "nt" or not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    file = library.with_suffix(".c")
    file.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, file], check=True)
    return library


def llama_cpp_with(folder: Path, **modules: str) -> Path:
    """Put a copy of the binding with these modules into `folder`, which is for PYTHONPATH."""
    real, copy = Path(llama_cpp.__file__).parent, folder / "llama_cpp"
    (copy / "lib").mkdir(parents=True)
    for file in (*real.glob("*.py"), *real.glob("lib/*.so*")):
        (copy / file.relative_to(real)).symlink_to(file)
    for name, source in modules.items():
        compile_module(copy / "lib", name, source)
    return folder
