"""A tiny data set in the files of TensorFlow Datasets, with Wake Vision's features, to try preset `paper` with.

    python tools/tiny_wake_vision.py DIR
    DANS_WAKE_VISION=DIR dans-reproduce --preset paper --dry-run

Its images are drawn colours without meaning, as large as the largest resolution asks for, and as many as fill batches
and statistics; nothing that is learnt from them can be right.
"""

import sys
from pathlib import Path

SIZES = dict(train_quality=1000, validation=250, test=250)
SIDE = 240  # pixels


def main(data_dir):
    "Build it below `data_dir`."
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from make_data import wake_vision_tfds

    wake_vision_tfds(Path(data_dir), SIZES, SIDE, SIDE)
    print(f"{data_dir}/wake_vision/1.0.0: {sum(SIZES.values()):,} images of {SIDE} px")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
