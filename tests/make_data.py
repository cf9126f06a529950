"Small images, folders, parquet files and a TFDS data set, written for the tests of sources and data."

import io
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dans.data.splits import digest
from dans.data.survey import Source
from dans.house import DansError

LABELS = (
    "depiction",
    "body_part",
    "predominantly_female",
    "predominantly_male",
    "gender_unknown",
    "young",
    "middle_age",
    "older",
    "age_unknown",
    "near",
    "medium_distance",
    "far",
    "dark",
    "normal_lighting",
    "bright",
    "person_depiction",
    "non-person_depiction",
    "non-person_non-depiction",
)  # beside `person`

photos = pytest.mark.skipif("DANS_PHOTOS" not in os.environ, reason="DANS_PHOTOS names no folder of photographs")
animals = pytest.mark.skipif("DANS_ANIMALS" not in os.environ, reason="DANS_ANIMALS names no folder of animals")
persons = pytest.mark.skipif("DANS_PERSON" not in os.environ, reason="DANS_PERSON names no folder of persons")


def refused(call, *parts):
    "The message of the `DansError` that `call` ends in: one line that holds all `parts`."
    with pytest.raises(DansError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def pixels(seed, width=40, height=32):
    "A picture of broad colour with some noise, uint8 (height, width, 3)."
    rng = np.random.default_rng(seed)
    broad = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height))
    return np.clip(np.asarray(broad) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(seed, width=40, height=32, format="PNG", **options):
    "The bytes of an image file."
    file = io.BytesIO()
    Image.fromarray(pixels(seed, width, height)).save(file, format, **options)
    return file.getvalue()


def class_folder(path, classes=("cat", "dog"), n=10, width=40, height=32, first=0):
    "A folder of class folders with `n` different images each."
    for c, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(n):
            (path / name / f"{i}.png").write_bytes(encoded(first + 1000 * c + i, width, height))
    return path


def parquet_file(path, labels, first=0, label="label", names=None, columns=None, size=(40, 32)):
    "A parquet file as Hugging Face `datasets` writes it: one image for each of `labels`."
    images = [dict(bytes=encoded(first + i, *size), path=f"{i}.png") for i in range(len(labels))]
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            label: pa.array(labels, pa.int64()),
            **(columns or {}),
        }
    )
    if names:
        features = {"image": {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=8)
    return path


def wake_vision_rows(n, first=0):
    "Labels of `n` images as in Wake Vision: person is 0, 1, 0, 1, ..., every seventh is -1."
    rows = [
        dict.fromkeys(LABELS, i % 2) | dict(person=-1 if i % 7 == 6 else i % 2, filename=f"{first + i:05d}.jpg")
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def wake_vision_parquet(path, n, first=0):
    "A parquet file with Wake Vision's columns."
    rows = wake_vision_rows(n, first)
    columns = {name: pa.array(rows[name]) for name in sorted({*LABELS, "filename"})}
    return parquet_file(path, rows.person.tolist(), first, "person", columns=columns)


def wake_vision_tfds(data_dir, sizes, *size):
    "A TFDS data set `wake_vision` 1.0.0 with the features of the public one; `sizes`: split -> number of images."
    import tensorflow_datasets as tfds

    class WakeVision(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "wake_vision"

        def _info(self):
            labels = {name: tfds.features.ClassLabel(names=["No", "Yes"]) for name in ("person", *LABELS)}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    dict(image=tfds.features.Image(shape=(None, None, 3)), filename=tfds.features.Text()) | labels
                ),
            )

        def _split_generators(self, dl_manager):
            return {split: self._examples(i, n) for i, (split, n) in enumerate(sizes.items())}

        def _generate_examples(self):
            raise NotImplementedError

        def _examples(self, split, n):
            for i, row in wake_vision_rows(n, 1000 * split).iterrows():
                yield i, dict(image=io.BytesIO(encoded(1000 * split + i, *size, format="JPEG"))) | row.to_dict()

    WakeVision(data_dir=data_dir).download_and_prepare()
    return data_dir


def drawn(sizes=None, side=32, classes=("a", "b"), fail_at=None, error=None):
    "A source of pictures in memory, whose row number `fail_at` raises `error`."
    sizes = sizes or dict(train=40, val=10, test=10)

    def rows():
        number = 0
        for s, (split, n) in enumerate(sizes.items()):
            for i in range(n):
                if number == fail_at:
                    raise error
                yield split, f"{split} {i}", pixels(1000 * s + i, side, side), i % len(classes), dict(index=i)
                number += 1

    return Source("drawn", classes, digest(repr((sizes, side)).encode()).hex(), sizes, side, rows)
