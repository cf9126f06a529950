"""Small int8 graphs made by hand: every operator that `dans.cost.tflite` knows, two inputs, two outputs, branches,
equal sizes."""

import numpy as np


def _layers():
    import keras

    layers, normal = keras.layers, lambda: keras.initializers.RandomNormal(stddev=0.3, seed=1)

    def conv(x, filters, size=3, stride=1, act="relu6"):
        return layers.Conv2D(filters, size, stride, padding="same", activation=act, kernel_initializer=normal())(x)

    def depthwise(x, size=3, stride=1, each=1):
        return layers.DepthwiseConv2D(
            size, stride, padding="same", depth_multiplier=each, activation="relu6", depthwise_initializer=normal()
        )(x)

    return layers, keras.Input, conv, depthwise


def branches():
    layers, image, conv, depthwise = _layers()
    i = image((24, 24, 3))
    x = conv(i, 8, stride=2)
    return i, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Concatenate()([conv(x, 6, 1), depthwise(x), x])))


def pools():
    layers, image, conv, _ = _layers()
    i = image((20, 20, 3))
    x = conv(i, 8)
    most, mean = layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)
    x = layers.Subtract()([layers.Multiply()([most, mean]), most])
    return i, layers.Dense(2)(layers.Flatten()(conv(x, 4)))


def padded():
    layers, image, conv, _ = _layers()
    i = image((15, 15, 3))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(2)(conv(i, 6)))
    return i, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.ZeroPadding2D(((1, 0), (0, 3)))(x)))


def two_inputs():
    layers, image, conv, _ = _layers()
    i, j = image((16, 16, 3)), image((16, 16, 1))
    x = conv(layers.Add()([conv(i, 6), conv(j, 6)]), 4, stride=2)
    return [i, j], layers.Softmax()(layers.Dense(4)(layers.GlobalMaxPooling2D()(x)))


def two_outputs():
    layers, image, conv, _ = _layers()
    i = image((16, 16, 3))
    x = conv(i, 6)
    return i, [layers.Dense(2)(layers.GlobalAveragePooling2D()(x)), conv(x, 4, stride=2)]


def equal_sizes():
    layers, image, conv, _ = _layers()
    i = image((12, 12, 4))
    x = conv(i, 4)
    y, z = conv(x, 4), conv(x, 4)
    return i, layers.Add()([layers.Add()([layers.Add()([y, z]), x]), y])


def reshapes():
    layers, image, conv, _ = _layers()
    i = image((8, 8, 4))
    y = layers.Reshape((4,))(conv(i, 4, stride=8))
    return i, layers.Softmax()(layers.Add()([y, layers.Dense(4, activation="relu")(y)]))


def reshape_first():
    layers, image, conv, _ = _layers()
    i = image((8, 8, 4))
    return i, layers.Reshape((256,))(conv(layers.Reshape((16, 4, 4))(i), 4))


def gate():
    layers, image, conv, _ = _layers()
    i = image((16, 16, 3))
    x = conv(i, 8)
    weight = conv(layers.GlobalAveragePooling2D(keepdims=True)(x), 8, 1, act="sigmoid")
    return i, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Multiply()([x, weight])))


def multiplier():
    layers, image, conv, depthwise = _layers()
    i = image((16, 16, 1))
    return i, layers.Dense(2)(layers.Flatten()(conv(depthwise(i, 3, 2, each=8), 4, stride=2)))


GRAPHS = (branches, pools, padded, two_inputs, two_outputs, equal_sizes, reshapes, reshape_first, gate, multiplier)


def convert(make, integer=True):
    "The graph as a `.tflite` file: int8 throughout, or with float ends."
    import keras
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants as constants

    keras.utils.set_random_seed(0)
    inputs, outputs = make()
    model = keras.Model(inputs, outputs)
    shapes = [tf.TensorSpec((1, *t.shape[1:]), tf.float32) for t in model.inputs]
    run = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False), input_signature=shapes)
    frozen = constants.convert_variables_to_constants_v2(run.get_concrete_function())
    converter, rng = tf.lite.TFLiteConverter.from_concrete_functions([frozen]), np.random.default_rng(0)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.uniform(-1, 1, s.shape).astype("float32") for s in shapes] for _ in range(20)
    )
    if integer:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()
