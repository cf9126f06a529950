"""What the kill harness kills: `python -m benchmarks.kill_stages STAGE FOLDER` does one small piece of work in a
folder.

Each stage uses the package as a run notebook does, goes on from what it finds in the folder, and ends with
FOLDER/result.json: all that must be the same to the bit, measured times aside.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.killable import main
from dans.choose.exhaustive import ExhaustiveSearch
from dans.choose.search import Kept, evolution, random_search, winner
from dans.choose.task import Budget, Score, Task
from dans.cost.footprint import macs
from dans.cost.limits import Limits
from dans.data.catalogue import wake_scenes
from dans.data.folders import folder as class_folders
from dans.data.prepared import prepare
from dans.families import Architecture
from dans.files import canonical, keyed, sha256
from dans.frontends import ImageConfig
from dans.paper.store import Store
from dans.paper.study import Study
from dans.space import SearchSpace, System

SPACE = SearchSpace((12, 16), "rgb", (0.1, 0.2), (1, 0, 0, 0, 0))  # of the stages with a backend
SEARCHED = SearchSpace((12, 16, 24), ("rgb", "mono"), (0.1, 0.2, 0.3), (2, 2, 1, 0, 0))
SMALL = System(ImageConfig(16), Architecture((1, 0, 0, 0, 0), 0.1))  # trained by itself, and exported


def digests(folder: Path) -> dict:  # path below `folder` -> SHA-256
    "The bytes of all files of a folder but the hidden ones."
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {
        n.as_posix(): sha256((folder / n).read_bytes())
        for n in names
        if not any(part.startswith(".") for part in n.parts)
    }


def digest_of(arrays) -> str:
    "SHA-256 of named arrays, to the bit."
    found = hashlib.sha256()
    for name, array in arrays:
        found.update(f"{name} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def pieces(store: Store, *kinds) -> dict:  # kind -> rows in the order of recording, as CSV: every digit counts
    "What a store holds, without the seconds."
    return {kind: store.rows(kind).drop(columns="seconds").to_csv(index=False) for kind in kinds}


def _study(folder):
    return Study("quick", root=folder)


# --- stages without a backend


def given(name, folder):
    "Class folders of small images for the stage that reads them; the backend for those that need it."
    if name in WITH_BACKEND:
        import dans.board.deploy
        import dans.net.score  # noqa: F401
    if name != "folders":
        return
    for split in ("train", "val", "test"):
        for label in ("cat", "dog"):
            images = folder / "photographs" / split / label
            images.mkdir(parents=True, exist_ok=True)
            for i in range(12):
                rng = np.random.default_rng([i, *f"{split} {label}".encode()])
                Image.fromarray(rng.integers(0, 256, (36, 32, 3), np.uint8)).save(images / f"{i}.png")


def _prepared(source, folder):
    "All that preparation and two views leave on disk."
    prepared = prepare(source, [12, 16], folder / "cache")
    for data in (ImageConfig(16), ImageConfig(12, "mono")):
        prepared.view("train", data)
    prepared.view("val", ImageConfig(16), 3)
    return dict(key=prepared.key, meta=prepared.meta, files=digests(folder / "cache"))


def scenes(folder):
    "So many scenes that helper processes draw them."
    return _prepared(wake_scenes(400, 30, 30, native=24), folder)


def folders(folder):
    return _prepared(class_folders(folder / "photographs"), folder)


def store(folder):
    "Pieces with and without files, found or computed one by one."
    kept, files = Store(folder / "store"), {}
    kept.many("score", [dict(step=i) for i in range(100)], lambda steps: [dict(score=i / 7) for i in steps])
    for seed in range(10):

        def compute(seed=seed):
            data = np.random.default_rng(seed).bytes(50_000)
            return dict(first=data[0], mean=float(np.frombuffer(data, np.uint8).mean())), {
                "weights.bin": data,
                "note.txt": f"{seed}".encode(),
            }

        kept.once("supernet", dict(seed=seed), compute)
        kept.record("score", dict(seed=seed), dict(score=seed / 7))
        files |= {
            f"{seed}/{name}": sha256(kept.file("supernet", dict(seed=seed), name).read_bytes())
            for name in ("weights.bin", "note.txt")
        }
    return dict(rows=pieces(kept, "supernet", "score"), files=files)


class _Drawn(Score):
    "Scores that need no network."

    def __call__(self, systems):
        return np.array([int(sha256(canonical(s))[:8], 16) / 2**32 for s in systems])

    def cost(self, system):
        return macs(system, 2)


def search(folder):
    "Three searches whose scores are kept, and their rows."
    study, chosen = _study(folder), {}

    def asked(name):
        return Task(SEARCHED, Kept(_Drawn(), study.store, dict(search=name)), Limits(macs=40_000), classes=2)

    logs = dict(
        evolution=evolution(asked("evolution"), Budget(evaluations=60)),
        random=random_search(asked("random"), Budget(evaluations=60)),
        exhaustive=ExhaustiveSearch(asked("exhaustive")).log,
    )
    for name, log in logs.items():
        study.write(f"search/{name}", log.drop(columns="seconds"), seeds=[0])
        chosen[name] = str(System.from_dict(winner(log)))
    return dict(chosen=chosen, rows=digests(study.out / "results"), scores=pieces(study.store, "score"))


# --- stages with a backend: it is loaded by the stage, not by the module


def _images(folder):
    return prepare(wake_scenes(64, 32, 32, native=32), SPACE.resolutions, folder / "cache")


def _bits_of(state):
    "Digests of a training's end."
    slots = enumerate(state.slots or [])
    return dict(
        weights=digest_of(state.weights.items()), slots=digest_of(slots), history=state.history, step=state.step
    )


def training(folder):
    "A supernet with a checkpoint after each epoch, its epochs and its weights in the store."
    from dans.net.state import State
    from dans.net.supernet import Supernet
    from dans.net.train import Recipe

    kept, prepared, recipe = Store(folder / "store"), _images(folder), Recipe(epochs=4, batch=16, average=0.5)
    trained = dict(space=asdict(SPACE), data=prepared.key, recipe=keyed(recipe))

    def train():
        checkpoint = folder / "partial" / "supernet.npz"
        net = Supernet(SPACE, 2).train(
            prepared,
            recipe,
            checkpoint,
            check_images=0,
            on_epoch=lambda epoch: kept.record("supernet", dict(trained, epoch=epoch["epoch"]), epoch),
        )
        return dict(history=net.state.history), {"supernet.npz": checkpoint}

    row = kept.once("supernet", trained, train)
    state, _ = State.load(kept.file("supernet", trained, "supernet.npz"))
    return dict(_bits_of(state), row=row, rows=pieces(kept, "supernet"))


def alone(folder):
    "Systems trained by themselves through a study, each with a checkpoint after each epoch."
    from dans.net.alone import train_alone
    from dans.net.train import Recipe

    study, prepared, recipe = _study(folder), _images(folder), Recipe(epochs=6, batch=8)
    about = dict(data=prepared.key, recipe=keyed(recipe))
    whats = {system: dict(about, system=system.to_dict()) for system in (SMALL, SPACE[0])}

    def train(system):
        checkpoint = study.checkpoint("standalone", whats[system])
        model, state = train_alone(
            system,
            prepared,
            recipe,
            checkpoint=checkpoint,
            calibration=64,
            check_images=16,
        )
        return dict(_bits_of(state), model=digest_of((k, value) for k, value in enumerate(model.get_weights())))

    return dict(trained=list(study.pieces("standalone", whats, train).values()), rows=pieces(study.store, "standalone"))


def scoring(folder):
    "Every system, tree by tree through a study."
    from dans.net.score import score_subnets
    from dans.net.supernet import Supernet

    study, prepared, net = _study(folder), _images(folder), Supernet(SPACE, 2)
    whats = {(d, width): dict(data=str(d), width=width) for d in SPACE.data_configs for width in SPACE.widths}

    def score(tree):
        systems = [s for s in SPACE.fix(tree[0]) if s.arch.width == tree[1]]
        return dict(scores=score_subnets(net, systems, prepared, 64, 32))

    found = study.pieces("score", whats, score)
    return dict(scores=list(found.values()), rows=pieces(study.store, "score"))


def exported(folder):
    "A network, not trained but calibrated, as an int8 model and a folder for firmware."
    from dans.board.deploy import deploy
    from dans.board.export import export
    from dans.net.supernet import Supernet

    kept, prepared = Store(folder / "store"), _images(folder)
    calibration, test, what = (
        prepared.view("train", SMALL.data).images,
        prepared.view("test", SMALL.data),
        dict(system=SMALL.to_dict()),
    )

    def convert():
        tflite, found = deploy(
            SMALL, Supernet(SPACE, 2).extract(SMALL, calibration), calibration, test.images, test.labels
        )
        export(folder / "model", tflite, test.images[0], found, prepared.classes, fit=prepared.meta["fit"])
        return found.to_dict(), {"model.tflite": tflite}

    row = kept.once("deploy", what, convert)
    return dict(
        row=row, files=digests(folder / "model"), kept=sha256(kept.file("deploy", what, "model.tflite").read_bytes())
    )


STAGES = {
    "scenes": scenes,
    "folders": folders,
    "store": store,
    "search": search,
    "training": training,
    "alone": alone,
    "scoring": scoring,
    "export": exported,
}
WITH_BACKEND = ("training", "alone", "scoring", "export")


if __name__ == "__main__":
    main(STAGES, given)
