"The supernet against ordinary Keras models, and against itself after an interruption."
import dataclasses

import keras
import numpy as np
import pytest

from dans.data import prepare, wake_scenes
from dans.elastic import calibrate, extract, initial_weights, keras_model, subnet_logits, tensors, weight_shapes
from dans.space import Architecture, DansError, DataConfig, SearchSpace, System
from dans.supernet import Recipe, State, Supernet, batch_at, train_alone, trainer

LARGEST = Architecture((3, 4, 3, 3, 1), 0.3)
SPACE = SearchSpace(resolutions=(16, 24), widths=(0.1, 0.2, 0.3))
SHORT = Recipe(epochs=2, batch=32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(wake_scenes(n_train=128, n_val=64, n_test=32, seed=1, native=48), SPACE.resolutions,
                   tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def weights():
    "Weights in which no gamma, beta or bias is trivial."
    rng = np.random.default_rng(0)
    start = initial_weights(LARGEST, 3, seed=0)
    return {k: v if k.endswith("kernel") else (v + 0.2 * rng.standard_normal(v.shape)).astype(np.float32)
            for k, v in start.items()}


def images_for(data, n=16, seed=0):
    "Images with coarse structure: pure noise looks the same to deep layers, whose statistics then rest on rounding."
    rng, cell = np.random.default_rng(seed), -(-data.resolution // 3)
    coarse = rng.integers(0, 256, (n, 3, 3, data.channels)).repeat(cell, 1).repeat(cell, 2)
    fine = rng.integers(-20, 21, (n, data.resolution, data.resolution, data.channels))
    return np.clip(coarse[:, :data.resolution, :data.resolution] + fine, 0, 255).astype(np.uint8)


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
    mono = System(DataConfig(17, "mono"), Architecture((1, 0, 0, 0, 0), 0.2))
    rgb = System(DataConfig(17, "rgb"), mono.arch)
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
    train = trainer(LARGEST, 3)
    train.load(weights)
    before = train._gradients.experimental_get_tracing_count()
    for system in random_systems(6):
        images = np.repeat(images_for(system.data, 8), 3 // system.data.channels, -1)
        train.gradients(system, images, np.eye(3, dtype=np.float32)[np.arange(8) % 3], 1.0)
    assert train._gradients.experimental_get_tracing_count() - before <= 1
    assert train._gradients.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("depths", [(0, 0, 0, 0, 0), (2, 1, 0, 0, 0), (3, 4, 3, 3, 1)], ids=str)
def test_gradients_are_those_of_the_cut_out_model(weights, depths):
    import tensorflow as tf
    system = System(DataConfig(64, "rgb"), Architecture(depths, 0.2))  # enough positions for stable batch statistics
    images, labels = images_for(system.data, 64), np.arange(64) % 3
    train = trainer(LARGEST, 3)
    train.load(weights)
    loss, _, grads = train.gradients(system, images, np.eye(3, dtype=np.float32)[labels], 0.0)
    grads = dict(zip(weight_shapes(LARGEST, 3), grads))
    shared = tensors(weights)
    model = extract(shared, system, calibrate(shared, system, images))
    with tf.GradientTape() as tape:
        logits = model(images / np.float32(127.5) - 1, training=True)
        expected = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    names = [_shared_name(v) for v in model.trainable_variables]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    values = tape.gradient(expected, model.trainable_variables)
    floor = 1e-2 * max(np.linalg.norm(v) for v in values)  # a beta before a normalised layer has gradient 0 but for rounding
    for name, value in zip(names, values):
        full = grads[name].numpy()
        inside = tuple(slice(n) for n in value.shape)
        error = np.linalg.norm(full[inside] - value) / max(np.linalg.norm(value), floor)
        assert error < 1e-2, f"{name}: relative error {error:.2g}"  # rounding flips a few ReLU6 units of a deep network
        full[inside] = 0
        assert not full.any(), f"{name}: a gradient outside the subnet"
    unused = set(grads) - set(names)
    assert not any(np.any(grads[n]) for n in unused)


def _shared_name(variable):
    layer, kind = variable.path.split("/")[-2:]
    return f"{layer.removesuffix('_norm')}/{kind}"


def test_a_training_step_is_that_of_the_cut_out_model(weights):
    "One Adam step from fresh optimizer variables moves both models alike, wherever the gradient is not rounding noise."
    import tensorflow as tf
    system = System(DataConfig(16, "rgb"), Architecture((1, 1, 0, 0, 0), 0.3))
    images, labels = images_for(system.data, 64), np.arange(64) % 3
    train = trainer(LARGEST, 3)
    train.load(weights)
    train.step([(system, images)], labels, rate=1e-2, deep=0.0, distil=False)
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
    whole = Supernet(SPACE).train(prepared, SHORT, check_images=0, on_epoch=epochs.append)
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
        Supernet(SPACE).train(prepared, SHORT, checkpoint=file, check_images=0)
    monkeypatch.undo()
    assert State.load(file)[0].step == 4
    resumed = Supernet(SPACE).train(prepared, SHORT, checkpoint=file, check_images=0)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(value, resumed.weights[name], err_msg=name)
    with pytest.raises(DansError, match="belongs to another training"):
        Supernet(SPACE).train(prepared, dataclasses.replace(SHORT, rate=0.5), checkpoint=file, check_images=0)
    loaded = Supernet.load(file)
    assert loaded.space == SPACE and loaded.state.step == 8


def test_a_batch_is_a_function_of_seed_and_step(prepared):
    net = Supernet(SPACE)
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


def test_stand_alone_training_learns(prepared):
    system = System(DataConfig(24, "rgb"), Architecture((1, 0, 0, 0, 0), 0.2))
    model, state = train_alone(system, prepared, Recipe(epochs=6, batch=32, seed=3), largest=SPACE.architectures[-1], check_images=0)
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert model.input_shape == (None, 24, 24, 3)


def test_a_loss_that_is_not_a_number_stops_training(prepared):
    net = Supernet(SPACE)
    net.weights["head2/bias"][:] = np.nan
    with pytest.raises(DansError, match="the loss is nan"):
        net.train(prepared, SHORT, check_images=0)


def test_a_torn_checkpoint_is_named(tmp_path):
    file = tmp_path / "net.npz"
    Supernet(SPACE).save(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DansError, match="net.npz is not a readable checkpoint"):
        Supernet.load(file)


def test_keras_model_has_the_weights_of_its_name():
    system = System(DataConfig(32, "mono"), Architecture((1, 1, 0, 0, 0), 0.3))
    model = keras_model(system, 3)
    shapes = {_shared_name(v): tuple(v.shape) for v in model.trainable_variables}
    own = weight_shapes(system.arch, 3)
    assert shapes.pop("stem/kernel") == (3, 3, 1, own["stem/kernel"][-1])
    assert all(own[name] == shape for name, shape in shapes.items())
