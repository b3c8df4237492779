"""Verbs that use the network: search, download."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.cli.library import settings_file
from engine.cli.progress import run_job
from engine.words import format_bytes, format_count


def search(args: argparse.Namespace) -> Any:
    from engine.detect import Detect
    from engine.fit.rough import room_bytes
    from engine.hub.search import Search

    offline = settings_file().value.is_offline
    usable = room_bytes(run_job(Detect(), args)) if args.fits else None
    job = Search(args.text, args.sort, args.format, args.license, args.limit, usable, offline)
    searched = run_job(job, args)
    if args.json:
        return searched.found
    for model in searched.found:
        size = format_count(model.n_params) if model.n_params else ""
        gated = " (gated)" if model.is_gated else ""
        formats = "+".join(model.formats)
        print(f"{model.id}{gated}")
        print(f"    {size:>6}  {formats:16}  {model.downloads:>10,} downloads  {model.license}")
    if searched.left_out:
        print(f"{searched.left_out}.")
    elif not searched.found:
        print("Nothing found. Try fewer or other words.")
    return searched.found


def download(args: argparse.Namespace) -> Any:
    from engine.hub.download import Download

    value = settings_file().value
    folder = args.to.absolute() if args.to else Path(value.models_folder)
    limit = args.limit_rate or value.download_limit
    job = Download(args.repo, str(folder), args.file, args.revision, limit, value.is_offline)
    done = run_job(job, args)
    if not args.json:
        print(f"{done.path}: {format_bytes(done.size_bytes)}, verified")
    return done
