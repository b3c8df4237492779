"""The verb library: the same models that the window lists, and the same list of added ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.cli.progress import run_job
from engine.errors import NotFound, NotWritable
from engine.words import format_bytes, shown


def library_list(args: argparse.Namespace) -> Any:
    from engine.leftovers import find_leftovers
    from engine.library import Library
    from engine.other_apps import places

    value = settings_file().value
    library = Library(Path(value.models_folder), value.added_models, tuple(places()))
    entries = library.scan()
    if not args.json:
        for entry in entries:
            if entry.summary:
                size, type_ = format_bytes(entry.summary.size_bytes), entry.summary.type
            else:
                size, type_ = "", entry.problem
            origin = f"  ({entry.origin})" if entry.origin else ""
            print(shown(f"{entry.name}{origin}\n    {size:>8}  {type_}  {entry.path}"))
        for left in find_leftovers(library.models_folder):
            print(shown(f"unfinished: {left.path}, {format_bytes(left.size_bytes)}"))
    return entries


def library_add(args: argparse.Namespace) -> Any:
    from engine.addable import find_addable

    file = settings_file()
    added = list(file.value.added_models)
    found = [model for path in args.paths for model in find_addable(path)]
    added += [model for model in found if model not in added]
    _keep(file, tuple(added))
    if not args.json:
        print(shown("\n".join(found)))
    return found


def library_remove(args: argparse.Namespace) -> Any:
    """Forget added models. Files are never deleted here."""
    from engine.addable import plain_path

    file = settings_file()
    removed = {str(plain_path(path)) for path in args.paths}
    unknown = removed - set(file.value.added_models)
    if unknown:
        raise NotFound(
            f"{min(unknown)} was not added.",
            hint="What lies in the models folder is removed there, or in the window.",
        )
    _keep(file, tuple(path for path in file.value.added_models if path not in removed))
    if not args.json:
        print(shown("\n".join(f"forgotten: {path}" for path in sorted(removed))))
    return sorted(removed)


def library_verify(args: argparse.Namespace) -> Any:
    from engine.hub.verify import Verify

    found = [run_job(Verify(str(path.absolute())), args) for path in args.paths]
    if not args.json:
        for model in found:
            for word in ("damaged", "missing", "unknown", "good"):
                for path in getattr(model, word):
                    print(shown(f"{word:8} {path}"))
        if any(model.unknown for model in found):
            print(
                "unknown: no digest was recorded that they could be compared with. There is one of"
                " what Snug downloads."
            )
    return found


def settings_file() -> Any:
    from engine.folders import folders
    from engine.settings import SettingsFile

    return SettingsFile(folders().config / "settings.json")


def _keep(file: Any, added: tuple[str, ...]) -> None:
    file.update(added_models=added)
    if file.problem:
        raise NotWritable(file.problem, hint="Check the permissions of the settings file.")
