"The supernet against ordinary Keras models, and against itself after an interruption."

import dataclasses
import itertools

import keras
import numpy as np
import pytest

from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.data.survey import Source
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.house import DansError, Diverged
from dans.net.alone import fine_tuned, train_alone
from dans.net.elastic import (
    EPSILON,
    _by_shifts,
    batch_norm,
    calibrate,
    depthwise_conv2d,
    extract,
    initial_weights,
    keras_model,
    moving_statistics,
    subnet_logits,
    subnet_predictions,
    tensors,
    weight_shapes,
)
from dans.net.metrics import confusion, recall
from dans.net.state import Average, State
from dans.net.step import Layout, Trainer, trainer, with_scale
from dans.net.supernet import Supernet
from dans.net.train import Recipe, batch_at
from dans.space import SearchSpace, System

LARGEST = Architecture((3, 4, 3, 3, 1), 0.3)
SPACE = SearchSpace(resolutions=(16, 24), widths=(0.1, 0.2, 0.3), max_depths=(2, 1, 1, 1, 1))
SHORT = Recipe(epochs=2, batch=32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(
        wake_scenes(n_train=128, n_val=64, n_test=32, seed=1, native=48),
        SPACE.resolutions,
        tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="module")
def weights():
    "Weights in which no gamma, beta or bias is trivial."
    rng = np.random.default_rng(0)
    start = initial_weights(LARGEST, 3, seed=0)
    return {
        k: v if k.endswith("kernel") else (v + 0.2 * rng.standard_normal(v.shape)).astype(np.float32)
        for k, v in start.items()
    }


def images_for(data, n=16, seed=0):
    "Images with coarse structure: pure noise looks the same to deep layers, whose statistics then rest on rounding."
    rng, cell = np.random.default_rng(seed), -(-data.resolution // 3)
    coarse = rng.integers(0, 256, (n, 3, 3, data.channels)).repeat(cell, 1).repeat(cell, 2)
    fine = rng.integers(-20, 21, (n, data.resolution, data.resolution, data.channels))
    return np.clip(coarse[:, : data.resolution, : data.resolution] + fine, 0, 255).astype(np.uint8)


def random_systems(n):
    rng = np.random.default_rng(5)
    space = SearchSpace(resolutions=(9, 17, 31, 48), widths=(0.1, 0.2, 0.3))
    return [space.sample(rng) for _ in range(n)]


@pytest.mark.parametrize("system", random_systems(10), ids=str)
def test_extract_computes_what_the_subnet_computes(weights, system):
    shared, images = tensors(weights), images_for(system.data)
    norm = calibrate(shared, system, images)
    model = extract(shared, system, norm)
    out = model(images / np.float32(127.5) - 1, training=False).numpy()
    np.testing.assert_allclose(out, subnet_logits(shared, system, images, norm), atol=1e-5)
    assert np.ptp(out) > 1e-2  # a constant output would agree too


def test_mono_stem_equals_three_equal_channels(weights):
    mono = System(ImageConfig(17, "mono"), Architecture((1, 0, 0, 0, 0), 0.2))
    rgb = System(ImageConfig(17, "rgb"), mono.arch)
    shared, images = tensors(weights), images_for(mono.data)
    norm = calibrate(shared, mono, images)
    pixels = images / np.float32(127.5) - 1

    def stem(system, x):
        model = extract(shared, system, norm)
        return keras.Model(model.input, model.get_layer("stem_relu6").output)(x, training=False)

    one, three = stem(mono, pixels), stem(rgb, np.repeat(pixels, 3, -1))
    np.testing.assert_allclose(one, three, atol=1e-6)
    assert np.ptp(one) > 1


def test_one_trace_serves_all_subnets(weights):
    train = trainer(Layout(LARGEST, 3))
    train.load(weights)
    before = train._gradients.experimental_get_tracing_count()
    for system in random_systems(6):
        images = np.repeat(images_for(system.data, 8), 3 // system.data.channels, -1)
        train.gradients(system, images, np.eye(3, dtype=np.float32)[np.arange(8) % 3], 1.0)
    assert train._gradients.experimental_get_tracing_count() - before <= 1
    assert train._gradients.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("depths", [(0, 0, 0, 0, 0), (2, 1, 0, 0, 0), (3, 4, 3, 3, 1)], ids=str)
def test_gradients_are_those_of_the_cut_out_model(weights, depths):
    system = System(ImageConfig(64, "rgb"), Architecture(depths, 0.2))  # enough positions for stable batch statistics
    images, labels = images_for(system.data, 64), np.arange(64) % 3
    train = trainer(Layout(LARGEST, 3))
    train.load(weights)
    loss, _, gradient = train.gradients(system, images, np.eye(3, dtype=np.float32)[labels], 0.0)
    grads = train.layout.unpack(gradient)
    shared = tensors(weights)
    norm = calibrate(shared, system, images)
    expected, exact = _keras_gradients(shared, system, norm, images, labels, "float64")
    _, rounded = _keras_gradients(shared, system, norm, images, labels, "float32")
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    # a beta before a normalised layer has gradient 0 but for rounding
    floor = 1e-2 * max(np.linalg.norm(v) for v in exact.values())

    def error(got, name):
        return np.linalg.norm(got - exact[name]) / max(np.linalg.norm(exact[name]), floor)

    worst = max(error(value, name) for name, value in rounded.items())  # float32 flips ReLU6 units of a deep network
    for name, value in exact.items():
        full = np.array(grads[name])
        inside = tuple(slice(n) for n in value.shape)
        assert error(full[inside], name) < 0.01 + 1.5 * worst, name
        full[inside] = 0
        assert not full.any(), f"{name}: a gradient outside the subnet"
    assert not any(np.any(grads[n]) for n in set(grads) - set(exact))


def _keras_gradients(shared, system, norm, images, labels, precision):
    import tensorflow as tf

    keras.config.set_dtype_policy(precision)
    try:
        model = extract(shared, system, norm)
    finally:
        keras.config.set_dtype_policy("float32")
    with tf.GradientTape() as tape:
        logits = model((images / 127.5 - 1).astype(precision), training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    values = tape.gradient(loss, model.trainable_variables)
    return loss, {_shared_name(v): value.numpy() for v, value in zip(model.trainable_variables, values)}


def test_the_closed_form_of_batch_normalisation_has_the_right_gradients():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, dy = (rng.normal(3, 2, (16, 9, 7, 5)) for _ in range(2))
    gamma, beta = rng.normal(1, 0.3, (2, 5))

    def out(function, dtype):
        values = [tf.constant(v, dtype) for v in (x, gamma, beta)]
        with tf.GradientTape() as tape:
            tape.watch(values)
            y = function("name", *values)
            total = tf.reduce_sum(y * tf.constant(dy, dtype))
        return [y, *tape.gradient(total, values)]

    def composed(name, x, gamma, beta):
        mean, variance = tf.nn.moments(x, (0, 1, 2))
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)

    for got, expected in zip(out(batch_norm, tf.float32), out(composed, tf.float64)):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def _shared_name(variable):
    layer, kind = variable.path.split("/")[-2:]
    return f"{layer.removesuffix('_norm')}/{kind}"


def test_a_training_step_is_that_of_the_cut_out_model(weights):
    "One Adam step from fresh optimizer variables moves both models alike, wherever the gradient is not rounding noise."
    import tensorflow as tf

    system = System(ImageConfig(16, "rgb"), Architecture((1, 1, 0, 0, 0), 0.3))
    images, labels = images_for(system.data, 64), np.arange(64) % 3
    train = trainer(Layout(LARGEST, 3))
    train.load(weights)
    train.step([(system, images, 0)], labels, rate=1e-2)
    moved, _ = train.state()
    shared = tensors(weights)
    model = extract(shared, system, calibrate(shared, system, images))
    optimizer = keras.optimizers.Adam(1e-2)
    with tf.GradientTape() as tape:
        logits = model(images / np.float32(127.5) - 1, training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    grads = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(grads, model.trainable_variables)
    for variable, grad in zip(model.trainable_variables, grads):
        clear = np.abs(grad) > 1e-4
        got = moved[_shared_name(variable)][tuple(slice(n) for n in variable.shape)]
        np.testing.assert_allclose(got[clear], variable.numpy()[clear], atol=2e-4, err_msg=variable.path)
        before = weights[_shared_name(variable)][tuple(slice(n) for n in variable.shape)]
        assert not clear.any() or not np.allclose(got[clear], before[clear])


def test_training_lowers_the_loss_and_goes_on_with_the_same_bits(prepared, tmp_path, monkeypatch):
    epochs = []
    whole = Supernet(SPACE, 2).train(prepared, SHORT, check_images=0, on_epoch=epochs.append)
    assert whole.state.step == SHORT.steps(128) == 8
    assert epochs == whole.state.history and [e["epoch"] for e in epochs] == [1, 2]
    file, saves = tmp_path / "net.npz", []
    original = State.save

    def save_once(self, path, settings):
        original(self, path, settings)
        saves.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(State, "save", save_once)
    with pytest.raises(KeyboardInterrupt):
        Supernet(SPACE, 2).train(prepared, SHORT, checkpoint=file, check_images=0)
    monkeypatch.undo()
    assert State.load(file)[0].step == 4
    resumed = Supernet(SPACE, 2).train(prepared, SHORT, checkpoint=file, check_images=0)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(value, resumed.weights[name], err_msg=name)
    with pytest.raises(DansError, match="belongs to another training"):
        Supernet(SPACE, 2).train(prepared, dataclasses.replace(SHORT, rate=0.5), checkpoint=file, check_images=0)
    loaded = Supernet.load(file)
    assert loaded.space == SPACE and loaded.state.step == 8


def test_a_training_that_is_stopped_says_where_it_goes_on(prepared, tmp_path, capsys):
    def stop(epoch):
        if epoch["epoch"] == 2:
            raise KeyboardInterrupt

    trained = Supernet(SPACE, 2).train(prepared, dataclasses.replace(SHORT, epochs=1), check_images=0)

    def at_once(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # what was trained before is in no checkpoint of this name
        trained.train(prepared, SHORT, tmp_path / "new.npz", check_images=0, on_epoch=at_once)
    assert "nothing of it is kept" in capsys.readouterr().err
    for checkpoint, said in (
        (
            tmp_path / "net.npz",
            f"its state after step 4 is in {tmp_path / 'net.npz'}, and the same call goes on from there",
        ),
        (None, "nothing of it is kept"),
    ):
        with pytest.raises(KeyboardInterrupt):
            Supernet(SPACE, 2).train(prepared, SHORT, checkpoint, check_images=0, on_epoch=stop)
        assert f"stopped: supernet at step 8 of 8; {said}" in capsys.readouterr().err


def test_a_batch_is_a_function_of_seed_and_step(prepared):
    net = Supernet(SPACE, 2)
    one, labels = batch_at(prepared, SHORT, 3, net.draw)
    batch_at(prepared, SHORT, 7, net.draw)
    again, same = batch_at(prepared, SHORT, 3, net.draw)
    assert [s for s, _ in one] == [s for s, _ in again]
    assert one[0][0] == net.largest and one[1][0] == net.smallest
    for (_, a), (_, b) in zip(one, again):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(labels, same)
    other, _ = batch_at(prepared, dataclasses.replace(SHORT, seed=9), 3, net.draw)
    assert not np.array_equal(one[0][1], other[0][1])


def test_an_epoch_sees_every_image_once(prepared):
    seen = [batch_at(prepared, SHORT, t, lambda rng: [])[1] for t in range(4)]
    assert np.bincount(np.concatenate(seen)).tolist() == np.bincount(prepared.labels("train")).tolist()


def test_a_trace_of_its_own_gives_the_same_weights(prepared, monkeypatch):
    system, recipe = (
        System(ImageConfig(24, "rgb"), Architecture((1, 1, 0, 0, 0), 0.2)),
        Recipe(epochs=2, batch=32, average=0.5, seed=3),
    )
    _, shared = train_alone(system, prepared, recipe, largest=SPACE.architectures[-1], check_images=0)
    monkeypatch.setattr("dans.net.alone.TRACED", 1)
    _, own = train_alone(system, prepared, recipe, largest=SPACE.architectures[-1], check_images=0)
    assert shared.history[-1]["loss"] == pytest.approx(own.history[-1]["loss"], rel=1e-4)
    for name, value in own.weights.items():
        assert np.allclose(shared.weights[name][tuple(map(slice, value.shape))], value, atol=1e-4), name


def test_stand_alone_training_learns(prepared):
    system = System(ImageConfig(24, "rgb"), Architecture((1, 0, 0, 0, 0), 0.2))
    model, state = train_alone(
        system, prepared, Recipe(epochs=6, batch=32, seed=3), largest=SPACE.architectures[-1], check_images=0
    )
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert model.input_shape == (None, 24, 24, 3)


@pytest.mark.parametrize("deep", [0.0, 1.0])
def test_earlier_endings_train_along_where_they_weigh_something(prepared, deep):
    system = System(ImageConfig(16, "mono"), Architecture((1, 1, 0, 0, 0), 0.1))
    recipe = Recipe(epochs=0.5, batch=32, deep=deep)
    model, state = train_alone(system, prepared, recipe, largest=SPACE.architectures[-1], check_images=0)
    first = initial_weights(system.arch, 2, recipe.seed, SPACE.architectures[-1])
    moved = [
        ending
        for ending in (2, 3, 4, 5)
        if np.any(state.weights[f"head{ending}/kernel"] != first[f"head{ending}/kernel"])
    ]
    assert moved == ([2, 3, 4] if deep else [4])
    assert [layer.name for layer in model.layers if layer.name.startswith("head")] == ["head4"]


def test_a_loss_that_is_not_a_number_stops_training(prepared):
    net = Supernet(SPACE, 2)
    net.weights["head2/bias"][:] = np.nan
    with pytest.raises(DansError, match="the loss is nan"):
        net.train(prepared, SHORT, check_images=0)


def test_the_last_good_state_is_kept_where_the_loss_stops_being_a_number(prepared, tmp_path, monkeypatch):
    step, calls, path = Trainer.step, [], tmp_path / "net.npz"
    per_epoch = prepared.sizes["train"] // SHORT.batch

    def breaks(*args):
        calls.append(1)
        return float("nan") if len(calls) > per_epoch + 1 else step(*args)

    monkeypatch.setattr(Trainer, "step", breaks)
    with pytest.raises(
        DansError, match=f"the loss is nan at step {per_epoch + 1}; its state after step {per_epoch} is in .*net.npz"
    ):
        Supernet(SPACE, 2).train(prepared, SHORT, path, check_images=0)
    assert all(np.isfinite(w).all() for w in Supernet.load(path).weights.values())
    monkeypatch.setattr(Trainer, "step", step)
    again = Supernet(SPACE, 2).train(prepared, SHORT, path, check_images=0)  # the same command goes on from there
    assert len(again.state.history) == 2


def test_weights_that_are_no_numbers_are_never_kept(prepared, tmp_path, monkeypatch):
    "An update may break the weights after the last loss of an epoch was looked at."
    step, calls, path = Trainer.step, [], tmp_path / "net.npz"
    per_epoch = prepared.sizes["train"] // SHORT.batch

    def breaks(self, *args):
        loss = step(self, *args)
        calls.append(1)
        if len(calls) == 2 * per_epoch:
            self.vector.assign(np.full(self.vector.shape, np.nan, np.float32))
        return loss

    monkeypatch.setattr(Trainer, "step", breaks)
    with pytest.raises(
        Diverged,
        match=f"weights are no numbers after step {2 * per_epoch - 1}; "
        f"its state after step {per_epoch} is in .*net.npz",
    ):
        Supernet(SPACE, 2).train(prepared, SHORT, path, check_images=0)
    assert all(np.isfinite(w).all() for w in Supernet.load(path).weights.values())


RECIPES = dict(
    one_configuration=dict(across=False),
    largest=dict(networks="largest"),
    drawn=dict(networks="drawn", distil=False),
    tuple=dict(by="tuple", deep=0.0),
    decay=dict(decay=0.1),
    average=dict(average=0.5),
    identity=dict(zero_last=True),
    own_scale=dict(own_scale=True),
    fraction=dict(epochs=1.3),
)


@pytest.fixture(scope="module")
def plain(prepared):
    "What `SHORT` trains; no test changes it."
    return Supernet(SPACE, 2).train(prepared, SHORT, check_images=0)


@pytest.mark.parametrize("change", RECIPES.values(), ids=RECIPES)
def test_every_recipe_trains_and_goes_on_with_the_same_bits(prepared, plain, tmp_path, monkeypatch, change):
    recipe = dataclasses.replace(SHORT, **change)
    whole = Supernet(SPACE, 2).train(prepared, recipe, check_images=32)
    assert whole.state.step == recipe.steps(128)
    file = tmp_path / "net.npz"
    original = State.save

    def save_once(self, path, settings):
        original(self, path, settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(State, "save", save_once)
    with pytest.raises(KeyboardInterrupt):
        Supernet(SPACE, 2).train(prepared, recipe, checkpoint=file, check_images=32)
    monkeypatch.undo()
    resumed = Supernet(SPACE, 2).train(prepared, recipe, checkpoint=file, check_images=32)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(value, resumed.weights[name], err_msg=name)
    assert any(not np.array_equal(plain.weights[n], with_scale(whole.weights, 0)[n]) for n in plain.weights)


def test_own_scales_reach_only_their_data_configuration(prepared):
    net = Supernet(SPACE, 2).train(
        prepared, dataclasses.replace(SHORT, own_scale=True, networks="largest"), check_images=0
    )
    first = initial_weights(net.largest.arch, 2, 0)
    for data in SPACE.data_configs:
        moved = not np.array_equal(net.weights_for(data)["stem/gamma"], first["stem/gamma"])
        assert moved == (data == net.largest.data)
        np.testing.assert_array_equal(net.weights_for(data)["stem/kernel"], net.weights["stem/kernel"])


def test_networks_of_a_step_share_a_data_configuration_where_asked():
    net = Supernet(SPACE, 2)
    for seed in range(5):
        systems = net.draw(np.random.default_rng(seed), Recipe(across=False))
        assert len({s.data for s in systems}) == 1 and len(systems) == 4


def test_an_average_is_the_mean_of_the_last_steps():
    average = Average(2)
    for t in range(6):
        average.add(t, np.full(3, t, np.float32))
    np.testing.assert_allclose(average.mean, 3.5)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_in_bfloat16(size, stride):
    "The same output and gradients as in float32, but for bfloat16's 8 bits: of maps of one pixel, too."
    import tensorflow as tf

    def outputs(precision, x, kernel, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = depthwise_conv2d(tf.cast(x, precision), kernel, stride)
        return [y, *tape.gradient(y, [x, kernel], tf.cast(dy, precision))]

    rng, n = np.random.default_rng(size), -(-size // stride)
    for channels in [7, 40, 96, 200] * 4:  # what is not written shows only where the memory held something before
        shapes = [(8, size, size, channels), (3, 3, channels, 1), (8, n, n, channels)]
        values = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
        for exact, found in zip(outputs("float32", *values), outputs("bfloat16", *values)):
            np.testing.assert_allclose(tf.cast(found, tf.float32), exact, rtol=0, atol=0.02 * np.abs(exact).max())


def test_bfloat16_trains(prepared):
    net = Supernet(SPACE, 2).train(
        prepared, dataclasses.replace(SHORT, precision="bfloat16", epochs=0.5), check_images=0
    )
    assert np.isfinite(net.state.history[-1]["loss"])
    assert all(v.dtype == np.float32 for v in net.weights.values())


def test_a_torn_checkpoint_is_named(tmp_path):
    file = tmp_path / "net.npz"
    Supernet(SPACE, 2).save(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DansError, match="net.npz is not a readable checkpoint"):
        Supernet.load(file)


def test_keras_model_has_the_weights_of_its_name():
    system = System(ImageConfig(32, "mono"), Architecture((1, 1, 0, 0, 0), 0.3))
    model = keras_model(system, 3)
    shapes = {_shared_name(v): tuple(v.shape) for v in model.trainable_variables}
    own = weight_shapes(system.arch, 3)
    assert shapes.pop("stem/kernel") == (3, 3, 1, own["stem/kernel"][-1])
    assert all(own[name] == shape for name, shape in shapes.items())


def test_fine_tuning_changes_a_copy(prepared, plain):
    net, before = plain, {name: np.array(value) for name, value in plain.weights.items()}
    system = System(ImageConfig(16, "mono"), Architecture((1, 1, 0, 0, 0), 0.2))
    tuned = fine_tuned(net, system, prepared, Recipe(batch=32), steps=5)
    for name, value in before.items():
        np.testing.assert_array_equal(net.weights[name], value)
        if name in ("stem/kernel", "head4/kernel"):
            assert not np.array_equal(tuned[name], value)
    np.testing.assert_array_equal(tuned["head7/kernel"], before["head7/kernel"])
    np.testing.assert_array_equal(
        tuned["stage1_block0_project/kernel"][..., 4:], before["stage1_block0_project/kernel"][..., 4:]
    )
    again = fine_tuned(net, system, prepared, Recipe(batch=32), steps=5)
    assert all(np.array_equal(tuned[n], again[n]) for n in tuned)


def test_moving_statistics_mix_old_and_new(weights):
    wide, narrow = (System(ImageConfig(16, "rgb"), Architecture((1, 0, 0, 0, 0), w)) for w in (0.3, 0.1))
    shared, images = tensors(weights), images_for(wide.data)
    start, own = calibrate(shared, wide, images), calibrate(shared, narrow, images)
    for steps, share in ((0, 1.0), (100, 0.99**100)):
        mixed = moving_statistics(start, own, steps)
        for name, (mean, _) in own.found.items():
            n = mean.shape[0]
            np.testing.assert_allclose(
                mixed.found[name][0], share * start.found[name][0][:n] + (1 - share) * mean, atol=1e-6
            )


@pytest.mark.parametrize("side,stride", itertools.product(range(1, 6), (1, 2)))
def test_a_sum_of_shifted_images_is_the_depthwise_convolution(side, stride):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, side, side + 1, 5)).astype("f"), rng.normal(size=(3, 3, 5, 1)).astype("f")
    np.testing.assert_allclose(_by_shifts(x, kernel, stride), depthwise_conv2d(x, kernel, stride), atol=1e-5)


# Classes that are unequal


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """19 of 20 images are of the first class; the second is brighter, but not so much that a doubtful image is more
    likely its own."""
    sizes = dict(train=400, val=200, test=20)

    def rows():
        rng = np.random.default_rng(0)
        for split, n in sizes.items():
            for i in range(n):
                label = int(i % 20 == 0) if split == "train" else i % 2
                light = np.clip(rng.normal(100 + 40 * label, 25), 10, 245)
                yield split, f"{i}", np.clip(rng.normal(light, 8, (24, 24, 3)), 0, 255).astype(np.uint8), label, {}

    return prepare(
        Source("unequal", ("dark", "bright"), "unequal", sizes, 24, rows), [16], tmp_path_factory.mktemp("cache")
    )


def recalls(weights, system, prepared):
    train, val = (prepared.view(split, system.data) for split in ("train", "val"))
    found = subnet_predictions(tensors(weights), system, val.images, calibrate(tensors(weights), system, train.images))
    return recall(confusion(val.labels, found, 2))


def test_balanced_weights_find_more_of_the_rare_class(unequal):
    system, recipe = System(ImageConfig(16), Architecture((0, 0, 0, 0, 0), 0.2)), Recipe(epochs=12, batch=40, seed=1)
    plain, weighted = (
        train_alone(system, unequal, recipe, check_images=0, class_weights=w)[1] for w in (None, "balanced")
    )
    (_, before), (other, after) = (recalls(state.weights, system, unequal) for state in (plain, weighted))
    assert before < 0.5 < after and after - before > 0.25 and other > 0.5


def test_class_weights_reach_subnets_through_the_network_that_learns_from_labels(unequal):
    space = SearchSpace((12, 16), ("rgb",), (0.2,), (1, 1, 0, 0, 0))
    recipe = Recipe(epochs=15, batch=40, seed=1)
    plain, weighted = (
        Supernet(space, 2).train(unequal, recipe, check_images=0, class_weights=w) for w in (None, "balanced")
    )
    for system in (space[0], space[-1]):
        (_, before), (_, after) = (recalls(net.weights_for(system.data), system, unequal) for net in (plain, weighted))
        assert after > before + 0.2, system


def test_what_images_count_weighs_the_loss_on_labels_and_no_other(weights):
    short, images, labels = Architecture((1, 1, 0, 0, 0), 0.3), images_for(ImageConfig(16), 16), np.arange(16) % 3
    train = trainer(Layout(short, 3))
    train.load({k: weights[k][tuple(map(slice, shape))] for k, shape in weight_shapes(short, 3).items()})
    system, targets = System(ImageConfig(16), short), np.eye(3, dtype=np.float32)[labels]
    plain, logits, gradient = train.gradients(system, images, targets, 0.0)
    ones, _, same = train.gradients(system, images, targets, 0.0, counts=np.ones(16, np.float32))
    assert float(plain) == float(ones) and (np.asarray(gradient) == np.asarray(same)).all()
    counts = np.array([4, 1, 0], np.float32)[labels]
    weighed, _, _ = train.gradients(system, images, targets, 0.0, counts=counts)
    log_p = np.log(np.asarray(keras.ops.softmax(logits), np.float64))
    assert float(weighed) == pytest.approx(-(counts * log_p[np.arange(16), labels]).mean(), rel=1e-4)
    asked, original = [], type(train).gradients

    def spy(self, *args):
        asked.append(args[-1])
        return original(self, *args)

    for distil in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(train), "gradients", spy)
            train.step([(system, images, 0)] * 2, labels, 1e-3, distil=distil, counts=counts)
        first, second = asked[-2:]
        assert first is counts and (second is None if distil else second is counts)


def test_class_weights_are_part_of_a_training_only_where_there_are_some(prepared, tmp_path):
    file, weighted = tmp_path / "plain.npz", tmp_path / "weighted.npz"
    net = Supernet(SPACE, 2).train(prepared, SHORT, file, check_images=0)
    assert set(State.load(file)[1]) == {"recipe", "data", "space", "classes", "first_weights"}
    Supernet(SPACE, 2).train(prepared, SHORT, weighted, check_images=0, class_weights=(1, 2))
    assert State.load(weighted)[1]["class_weights"] == [1, 2]
    for path, asked in ((file, (1, 2)), (weighted, None), (weighted, "balanced")):
        with pytest.raises(DansError, match=r"belongs to another training \(class_weights differ\)"):
            Supernet(SPACE, 2).train(prepared, SHORT, path, check_images=0, class_weights=asked)
    assert net.state.step == 8


@pytest.mark.parametrize("bad", ["even", (1, 2, 3), (1, -1), (0, 0), (1, float("nan")), {"person": 2}, 3], ids=str)
def test_class_weights_that_are_not_possible_are_refused_before_any_step(prepared, bad):
    with pytest.raises(DansError, match="use 'balanced', or 2 numbers from 0, one for each class"):
        Supernet(SPACE, 2).train(
            prepared, SHORT, check_images=0, class_weights=bad, on_epoch=lambda e: pytest.fail("trained")
        )


# Records further apart than epochs


def test_records_can_be_epochs_apart_and_change_no_bit(prepared, tmp_path):
    recipe = dataclasses.replace(SHORT, epochs=5)
    every, third = [], []
    one = Supernet(SPACE, 2).train(prepared, recipe, check_images=0, on_epoch=every.append)
    other = Supernet(SPACE, 2).train(
        prepared, recipe, tmp_path / "net.npz", check_images=0, on_epoch=third.append, each=3
    )
    assert [e["epoch"] for e in every] == [1, 2, 3, 4, 5] and [(e["epoch"], e["step"]) for e in third] == [
        (3, 12),
        (5, 20),
    ]
    assert sum(e["cost_macs"] for e in every) == sum(e["cost_macs"] for e in third)
    for name, value in one.weights.items():
        np.testing.assert_array_equal(value, other.weights[name], err_msg=name)
