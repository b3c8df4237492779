"""The verb library: the same models that the window lists, and the same list of added ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import starter
from engine.cli.progress import run_job
from engine.errors import NotFound, NotWritable
from engine.words import format_bytes, plural, shown

if TYPE_CHECKING:
    from engine.library import Library


def library_list(args: argparse.Namespace) -> Any:
    models = _library().scan()
    for entry in () if args.json else models:
        if entry.summary:
            size, type_ = format_bytes(entry.summary.size_bytes), entry.summary.type
        else:
            size, type_ = "", entry.problem
        origin = f"  ({entry.origin})" if entry.origin else ""
        print(shown(f"{entry.name}{origin}\n    {size:>8}  {type_}  {entry.path}"))
    return models


def library_disk(args: argparse.Namespace) -> Any:
    """What Snug's own models take, and what interrupted jobs left."""
    from engine.disk_use import disk_use
    from engine.leftovers import find_leftovers

    library = _library()
    folder = library.models_folder
    disk, unfinished = disk_use(folder, library.scan()), find_leftovers(folder)
    if not args.json:
        used, free = format_bytes(disk.used_bytes), format_bytes(disk.free_bytes)
        print(shown(f"{used} in {folder}, {free} free on its disk"))
        for left in unfinished:
            total = f" of {format_bytes(left.total_bytes)}" if left.total_bytes else ""
            print(shown(f"unfinished: {left.path}, {format_bytes(left.size_bytes)}{total}"))
    return {"disk": disk, "unfinished": unfinished}


def library_add(args: argparse.Namespace) -> Any:
    from engine.addable import find_addable

    file = settings_file()
    added = list(file.value.added_models)
    found = [model for path in args.paths for model in find_addable(path)]
    added += [model for model in found if model not in added]
    _update(file, added_models=tuple(added))
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
    kept = tuple(path for path in file.value.added_models if path not in removed)
    _update(file, added_models=kept)
    if not args.json:
        print(shown("\n".join(f"forgotten: {path}" for path in sorted(removed))))
    return sorted(removed)


def library_duplicates(args: argparse.Namespace) -> Any:
    from engine.duplicates import FindDuplicates, comparable
    from engine.folders import folders

    models = comparable(_library().scan())
    found = run_job(FindDuplicates(models, str(folders().cache / "hashes.json")), args)
    if not args.json:
        for same in found.groups:
            sizes = f"{format_bytes(same.size_bytes)} each, {format_bytes(same.extra_bytes)} twice"
            print(shown(f"{len(same.paths)} times the same model, {sizes}:"))
            for path in same.paths:
                print(shown(f"    {path}"))
        for path in found.unread:
            print(shown(f"could not be read: {path}"))
        if not found.groups:
            print("No model is here twice.")
    return found


def library_move(args: argparse.Namespace) -> Any:
    from engine.addable import plain_path
    from engine.move import MoveModels

    file = settings_file()
    folder = str(plain_path(args.folder))
    done = run_job(MoveModels(file.value.models_folder, folder, str(file.path)), args)
    if not args.json:
        print(shown(f"{plural(done.n_models, 'model')} moved to {done.folder}"))
        for path in done.left:
            print(shown(f"could not be removed after it was copied: {path}"))
    return done


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


def _library() -> Library:
    from engine.contents import Index
    from engine.folders import folders
    from engine.library import Library
    from engine.other_apps import places

    value = settings_file().value
    index = Index(folders().cache / "models.msgpack")
    added = (*value.added_models, str(starter.MODEL))
    return Library(Path(value.models_folder), added, tuple(places()), index)


def settings_file() -> Any:
    from engine.folders import folders
    from engine.settings import SettingsFile

    return SettingsFile(folders().config / "settings.json")


def _update(file: Any, **changes: Any) -> None:
    file.update(**changes)
    if file.problem:
        raise NotWritable(file.problem, hint="Check the permissions of the settings file.")
