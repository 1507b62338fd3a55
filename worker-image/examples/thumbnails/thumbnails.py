"""Makes thumbnails of a folder of pictures and checks them.

The folder is given as input `pictures`, or generated: each picture is a colour gradient with stripes whose
mean colour is known, and a thumbnail must keep shape and mean.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageStat

from longtask_worker import PermanentError, Task, run

WIDTH, HEIGHT = 1600, 1200
EDGE = 320
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
# How far the mean of a channel may move by resizing, out of 255.
TOLERANCE = 2.0


def main(task: Task) -> dict[str, Any]:
    """Resize every picture and return how many there were, their bytes and a hash over all pixels."""
    edge = int(task.payload.get("edge", EDGE))
    work = Path(tempfile.gettempdir())
    target = path_of(task.outputs["thumbnails"]) if "thumbnails" in task.outputs else work / "thumbnails"
    target.mkdir(parents=True, exist_ok=True)
    if "pictures" in task.inputs:
        source, before = path_of(task.inputs["pictures"]), 0
    else:
        source, before = work / "pictures", int(task.payload.get("pictures", 100))
        generate(task, source, before)
    return resize_all(task, source, target, edge, before)


def generate(task: Task, folder: Path, pictures: int) -> None:
    """Paint *pictures* pictures into *folder*."""
    folder.mkdir(exist_ok=True)
    for number in range(pictures):
        task.raise_if_cancelled()
        task.report(number, 2 * pictures, unit="pictures", stage="painting")
        paint(number).save(folder / f"{number:05}.png", compress_level=1)


def paint(number: int) -> Image.Image:
    """Return picture *number*: two gradients and a flat channel, striped."""
    gradient = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    flat = Image.new("L", (WIDTH, HEIGHT), number * 37 % 256)
    picture = Image.merge("RGB", (gradient, gradient.rotate(180), flat))
    for left in range(number % 40, WIDTH, 80):
        picture.paste((255, 255, 255), (left, 0, left + 8, HEIGHT))
    return picture


def resize_all(task: Task, source: Path, target: Path, edge: int, before: int) -> dict[str, Any]:
    """Resize every picture of *source* into *target*."""
    paths = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    digest, size = hashlib.sha256(), 0
    for number, path in enumerate(paths, 1):
        task.raise_if_cancelled()
        small = resize(path, edge)
        digest.update(small.tobytes())
        thumbnail = target / f"{path.stem}.png"
        small.save(thumbnail)
        size += thumbnail.stat().st_size
        task.report(before + number, before + len(paths), unit="pictures", stage="resizing", message=path.name)
    return {"pictures": len(paths), "edge": edge, "bytes": size, "sha256": digest.hexdigest(), "verified": True}


def resize(path: Path, edge: int) -> Image.Image:
    """Return the thumbnail of one picture; PermanentError if it is no picture or the thumbnail is wrong."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError as error:
        raise PermanentError(f"{path.name}: {error}") from error
    scale = min(edge / max(picture.size), 1.0)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    small = picture.resize(size, Image.Resampling.BOX, reducing_gap=None)
    verify(path.name, picture, small)
    return small


def verify(name: str, picture: Image.Image, small: Image.Image) -> None:
    """Raise PermanentError unless the thumbnail has the picture's mean colour."""
    means = zip(ImageStat.Stat(picture).mean, ImageStat.Stat(small).mean, strict=True)
    worst = max(abs(before - after) for before, after in means)
    if worst > TOLERANCE:
        raise PermanentError(f"{name}: the thumbnail's colour is off by {worst:.1f}")


def path_of(uri: str) -> Path:
    """Return the path of a file:// URI; PermanentError for any other."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise PermanentError(f"only file:// data can be used here, not {uri}")
    return Path(unquote(parts.path))


if __name__ == "__main__":
    run(main)
