from __future__ import annotations

import os
import shutil
from pathlib import Path

from engine.disk_use import disk_use
from engine.library import Library


def test_what_takes_room_counts_once(
    tmp_path: Path, tiny_gguf: Path, tiny_checkpoint: Path
) -> None:
    models, far = tmp_path / "models", tmp_path / "far.gguf"
    models.mkdir()
    shutil.copy(tiny_gguf, models / "Tiny.gguf")
    shutil.copy(tiny_gguf, far)
    shutil.copytree(tiny_checkpoint, models / "Checkpoint")
    os.link(models / "Tiny.gguf", models / "Twin.gguf")
    (models / "Link.gguf").symlink_to(far)
    library = Library(models, (str(tiny_gguf),))

    use = disk_use(models, library.scan())

    whole = sum(file.stat().st_size for file in tiny_checkpoint.iterdir())
    assert use.used_bytes == tiny_gguf.stat().st_size + whole
    assert use.folder == str(models)


def test_a_folder_that_is_not_made_yet_has_a_disk(tmp_path: Path) -> None:
    use = disk_use(tmp_path / "not" / "yet", ())
    assert use.used_bytes == 0
    assert use.free_bytes > 0
