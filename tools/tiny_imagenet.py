"""The list of images that `tiny_imagenet:PATH` reads, from parquet files of the same images.

    python tools/tiny_imagenet.py FOLDER [OUT]    writes dans/data/tiny_imagenet.csv, or OUT

FOLDER holds parquet files, named for their splits, whose column `image` has the public name of each image as its path
(n02106662_127.JPEG). Splits and order are those of the files. Images are read for their hash alone: the list holds
numbers, no image.
"""

import hashlib
import re
import sys
from pathlib import Path

from dans.data.parquet import parquet
from dans.data.splits import digest
from dans.data.tiny_imagenet import list_text, sha256_of

ROOT = Path(__file__).resolve().parent.parent


def rows_of(source):
    "Yields (split, wnid, number) of each image of a source, by the name noted beside it."
    for split, name in source.names():
        match = re.search(r"\((n\d{8})_(\d+)\.JPEG\)$", name)
        if not match:
            raise SystemExit(f"{name} has no path such as n02106662_127.JPEG")
        yield split, match[1], int(match[2])


def about(folder, source):
    "Lines on what the list is and what it was made from."
    sizes = ", ".join(f"{n:,} {split}" for split, n in source.sizes.items())
    yield f"Images of Tiny ImageNet's folder train, animal or no animal ({sizes}), in the order of their rows."
    yield "An image is 500 x the place of its class among wnids (from 0) + the number in the name of its file."
    yield "Drawn at random within each label; written by tools/tiny_imagenet.py from the column image.path of:"
    for path in sorted(folder.glob("*.parquet")):
        yield f"  {path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    yield "sha256 is that of the first 16 bytes of the SHA-256 of each image file, one after the other."


def main(folder, out=ROOT / "dans/data/tiny_imagenet.csv"):
    "Write the list of the images in `folder`."
    source = parquet(folder)
    sha256 = sha256_of(digest(content) for _, _, content, _, _ in source.rows())
    Path(out).write_text(list_text(rows_of(source), sha256, about(Path(folder), source)), encoding="utf-8")
    print(f"{out}: {sum(source.sizes.values()):,} images, {Path(out).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
