"""The tree against a list and against a model for each subnet; the quick space as a whole; the paper space,
extrapolated."""

from functools import partial

import keras
import numpy as np
from scipy.optimize import nnls

from benchmarks.harness import Sizes, check_equal, contest, noise, one_in, seconds_of, subnets, work_of
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.frontends import ImageConfig, scaled
from dans.net.elastic import Calibrated, extract, weight_shapes
from dans.net.score import score_subnets
from dans.net.supernet import Supernet
from dans.net.tree import tree_logits
from dans.paper.study import Study
from dans.space import SearchSpace, System

CHUNK = 256  # images in one pass, for the tree and for the list


def random_supernet(space: SearchSpace) -> Supernet:
    "An untrained supernet whose gammas and betas are drawn, too."
    net, rng = Supernet(space, 2), np.random.default_rng(1)
    for name, value in net.weights.items():
        if name.endswith(("gamma", "beta")):
            value += rng.normal(0, 0.2, value.shape).astype(np.float32)
    return net


def plain_model(weights, system: System, classes=2) -> keras.Model:
    """The architecture of `system` as an ordinary Keras model with these weights; its statistics are mean 0 and
    variance 1."""
    shapes = {
        name.removesuffix("/gamma"): shape
        for name, shape in weight_shapes(system.arch, classes).items()
        if name.endswith("/gamma")
    }
    return extract(
        weights, system, Calibrated({name: (np.zeros(shape), np.ones(shape)) for name, shape in shapes.items()})
    )


def _contest_of_the_tree(sizes: Sizes, widths, every, within, opponent):
    """For each width: the tree, and `opponent(net, calibration, images)(system)` for a sample of its subnets; logits
    agree `within`."""
    data = ImageConfig(sizes.resolution)
    space = SearchSpace(data.resolution, data.color, (*widths, 1.0), sizes.max_depths)
    net = random_supernet(space)
    calibration, images = noise(sizes.calibration, data, 1), noise(sizes.images, data, 2)
    alone, rows = opponent(net, calibration, images), []
    for width in widths:
        systems = subnets(space, data, width)
        sample, scale = one_in(every, systems)
        tree = partial(tree_logits, net, data, width, {s.arch.depths for s in systems}, calibration, images, CHUNK)
        found = tree()  # once before anything is measured: traces and memory are then there
        same = check_equal(
            np.stack([found[s.arch.depths] for s in sample]),
            np.stack([alone(s) for s in sample]),
            within,
            f"width {width}",
        )
        timed = contest(tree, lambda: [alone(s) for s in sample], sizes.repeats, scale)
        work = work_of(systems)
        bound = work["list_macs"] / work["tree_macs"]
        rows.append(dict(width=width, **timed, subnets=len(systems), sample=len(sample), bound=bound, **same))
        yield (
            rows,
            f"width {width}: {timed['ratio']:.1f} times ({timed['ratio_low']:.1f}-{timed['ratio_high']:.1f}), "
            f"bound {bound:.1f}",
        )


def tree_against_list(sizes: Sizes):
    from benchmarks.traced_list import TracedList  # TensorFlow's

    lists = []

    def opponent(net, calibration, images):
        parts = [np.array_split(x, -(-len(x) // CHUNK)) for x in (calibration, images)]
        lists.append(TracedList(net.weights, net.largest.arch, net.classes, *parts))
        return lists[0]

    for rows, said in _contest_of_the_tree(sizes, sizes.widths, sizes.every, 1e-3, opponent):
        row = rows[-1]
        row |= dict(
            share_of_bound=row["ratio"] / row["bound"],
            target=0.7 * row["bound"],
            list_trace_seconds=lists[0].trace_seconds,
        )
        yield dict(rows=rows), said


def tree_against_models(sizes: Sizes):
    def opponent(net, calibration, images):
        calibration, images = (scaled(x) for x in (calibration, images))

        def alone(system):
            model = plain_model(net.weights, system)
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.momentum = 0.0  # one pass gives the statistics of the calibration images
            model(calibration, training=True)
            return model.predict(images, batch_size=250, verbose=0)

        return alone

    targets = {0.1: 100, 0.5: 25}
    # Keras takes moments in one run of single-precision sums: the deeper, the further from the exact ones
    within = 2e-2
    for rows, said in _contest_of_the_tree(sizes, sizes.model_widths, sizes.every_model, within, opponent):
        rows[-1]["target"] = targets.get(rows[-1]["width"])
        keras.backend.clear_session()
        yield dict(rows=rows), said


def quick_space(sizes: Sizes):
    space = sizes.space
    net, rows, n = random_supernet(space), [], sizes.space_calibration
    source = wake_scenes(n_train=n, n_val=sizes.space_images, n_test=1, native=max(16, *space.resolutions))
    prepared = prepare(source, space.resolutions, Study("cpu").cache)
    for data in space.data_configs:
        for split in ("train", "val"):
            prepared.view(split, data)  # reduced images are kept on disk; scoring finds them there
        for width in space.widths:
            systems = subnets(space, data, width)
            took = seconds_of(lambda: score_subnets(net, systems, prepared, n, sizes.space_images, CHUNK))
            rows.append(dict(**data.to_dict(), width=width, subnets=len(systems), seconds=took, **work_of(systems)))
            yield (
                dict(rows=rows, systems=len(space), seconds=sum(row["seconds"] for row in rows), target_seconds=180),
                f"{data}, width {width}: {took:.1f} s",
            )


def _fit(work, seconds):
    "Seconds for each unit of work, none below 0, with the least relative errors (sum of squares)."
    return nnls(work / seconds[:, None], np.ones(len(seconds)))[0]


def paper_space(sizes: Sizes):
    """Trees of a few resolutions and widths are measured, some on fewer images than the whole is meant for. Their
    seconds are explained by MACs and written values (times images) and by operators (times chunks); that predicts
    the trees not measured."""
    terms, total = ("tree_macs", "tree_values", "tree_operators"), sizes.space_calibration + sizes.space_images
    space = sizes.paper
    net = random_supernet(space)

    def work(data, width, images):
        counted = work_of(subnets(space, data, width))
        return [
            counted["tree_macs"] * images,
            counted["tree_values"] * images,
            counted["tree_operators"] * 2 * -(-images // (2 * CHUNK)),
        ]

    rows = []
    for resolution in sizes.paper_resolutions:
        for width in sizes.paper_widths:
            data, wanted = ImageConfig(resolution), set(space.depths)
            images = int(np.clip(sizes.paper_macs / work(data, width, 1)[0], 64, total)) // 2
            calibration, asked = noise(images, data, 1), noise(images, data, 2)
            if not rows:
                tree_logits(net, data, width, wanted, calibration[:16], asked[:16], CHUNK)  # traces are made once
            took = seconds_of(lambda: tree_logits(net, data, width, wanted, calibration, asked, CHUNK))
            rows.append(dict(resolution=resolution, color=data.color, width=width, images=2 * images, seconds=took))
            yield dict(rows=rows), f"{resolution} px, width {width}, {2 * images} images: {took:.1f} s"
    measured, seconds = (
        np.array([work(ImageConfig(r["resolution"]), r["width"], r["images"]) for r in rows]),
        np.array([r["seconds"] for r in rows]),
    )
    for i, row in enumerate(rows):
        others = np.arange(len(rows)) != i
        row["predicted_by_the_others"] = float(measured[i] @ _fit(measured[others], seconds[others]))
    rate = _fit(measured, seconds)
    extrapolated = [
        dict(**data.to_dict(), width=width, subnets=len(space.depths), seconds=float(rate @ work(data, width, total)))
        for data in space.data_configs
        for width in space.widths
    ]
    hours = sum(row["seconds"] for row in extrapolated) / 3600
    yield (
        dict(
            rows=rows,
            extrapolated=extrapolated,
            seconds_for_one=dict(zip(terms, rate.tolist())),
            extrapolated_hours=hours,
            systems=len(space),
        ),
        f"{len(space):,} systems, extrapolated: {hours:.1f} h",
    )
