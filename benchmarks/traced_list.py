"""The tree's opponent: subnets scored one by one, as fast as we could make a list.

One `tf.function` serves every subnet: weights are sliced by integer tensors, blocks that a subnet lacks are skipped
by `tf.cond`. Calibration and validation images go through together, block by block, so that no statistics leave the
graph. Scale and shift of each batch normalisation are folded into kernels, and the statistics of an expansion follow
from mean and covariance of its input, as in the tree: what is left out is only the sharing. (A graph with static
shapes for each subnet would have to be traced for each.)
"""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from benchmarks.harness import seconds_of
from dans.families import Architecture, network
from dans.frontends import scaled
from dans.net.elastic import EPSILON, block_name, tensors, weight_shapes
from dans.space import System


def _mean(parts):
    "Mean over images and pixels, for each channel, of images that come in several parts."
    n = tf.add_n([tf.shape(x)[0] for x in parts])
    return tf.add_n([tf.reduce_sum(tf.reduce_mean(x, (1, 2)), 0) for x in parts]) / tf.cast(n, tf.float32)


def _moments(parts):
    mean = _mean(parts)
    return mean, _mean([tf.math.squared_difference(x, mean) for x in parts])


def _covariance(parts):
    "Mean, and covariance of the channels."
    mean = _mean(parts)
    rows = [tf.reshape(x - mean, (-1, tf.shape(x)[-1])) for x in parts]
    n = tf.cast(tf.add_n([tf.shape(r)[0] for r in rows]), tf.float32)
    return mean, tf.add_n([tf.matmul(r, r, transpose_a=True) for r in rows]) / n


def _pointwise(x, kernel):
    return tf.nn.conv2d(x, kernel, 1, "SAME")


class _Pass:
    "Calibration images (`seen`) and validation images (`asked`) on their way through one subnet, as lists of parts."

    def __init__(self, weights, seen, asked):
        self.weights, self.seen, self.asked = weights, seen, asked

    def state(self):
        return self.seen, self.asked

    def fold(self, name, channels, mean, variance):
        "Scale and shift that stand for a batch normalisation."
        scale = self.weights[f"{name}/gamma"][:channels] * tf.math.rsqrt(variance + EPSILON)
        return scale, self.weights[f"{name}/beta"][:channels] - mean * scale

    def normed(self, name, kernel, channels, conv, act, fold=lambda kernel, scale: kernel * scale):
        "Convolution and normalisation by the moments of what the calibration images give."
        seen = [conv(x, kernel) for x in self.seen]
        scale, shift = self.fold(name, channels, *_moments(seen))
        self.seen = [act(x * scale + shift) for x in seen]
        kernel = fold(kernel, scale)
        self.asked = [act(tf.nn.bias_add(conv(x, kernel), shift)) for x in self.asked]

    def expanded(self, name, kernel, channels):
        "A 1x1 convolution with ReLU6, whose moments follow from those of its input."
        mean, covariance = _covariance(self.seen)
        plain = kernel[0, 0]
        variance = tf.reduce_sum(plain * tf.matmul(covariance, plain), 0)
        scale, shift = self.fold(name, channels, tf.linalg.matvec(plain, mean, transpose_a=True), variance)
        self.seen, self.asked = (
            [tf.nn.relu6(tf.nn.bias_add(_pointwise(x, kernel * scale), shift)) for x in parts]
            for parts in (self.seen, self.asked)
        )

    def block(self, block, c_in, c_mid, c_out):
        name, weights, before = block_name(block), self.weights, self.state()
        if block.stage > 1:
            self.expanded(f"{name}_expand", weights[f"{name}_expand/kernel"][:, :, :c_in, :c_mid], c_mid)
        strides = [1, block.stride, block.stride, 1]
        self.normed(
            f"{name}_depthwise",
            weights[f"{name}_depthwise/kernel"][:, :, :c_mid],
            c_mid,
            lambda x, k: tf.nn.depthwise_conv2d(x, k, strides, "SAME"),
            tf.nn.relu6,
            lambda k, scale: k * scale[:, None],
        )
        self.normed(
            f"{name}_project", weights[f"{name}_project/kernel"][:, :, :c_mid, :c_out], c_out, _pointwise, tf.identity
        )
        if block.residual:
            self.seen, self.asked = ([x + y for x, y in zip(*parts)] for parts in zip(before, self.state()))

    def logits(self, ending, c_in, last):
        if ending == 7:
            self.expanded("last", self.weights["last/kernel"][:, :, :c_in, :last], last)
            c_in = last
        kernel, bias = self.weights[f"head{ending}/kernel"][:c_in], self.weights[f"head{ending}/bias"]
        return tf.concat([tf.matmul(tf.reduce_mean(x, (1, 2)), kernel) + bias for x in self.asked], 0)


def _logits(weights, seen, asked, channels, depths, stages):
    "Logits of one subnet. channels: of stem and last convolution, then (c_in, c_mid, c_out) of each block."

    def sizes(number):
        return channels[2 + 3 * number], channels[3 + 3 * number], channels[4 + 3 * number]

    def pixels(parts):
        return [scaled(tf.cast(x, tf.float32)) for x in parts]

    through = _Pass(weights, pixels(seen), pixels(asked))
    through.normed(
        "stem",
        weights["stem/kernel"][..., : channels[0]],
        channels[0],
        lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"),
        tf.nn.relu6,
    )
    for number, block in stages[1] + stages[2]:
        through.block(block, *sizes(number))
    logits, state = through.logits(2, sizes(stages[2][0][0])[2], channels[1]), through.state()
    for ending in range(3, max(stages) + 1):

        def stage(state=state, ending=ending, logits=logits):
            def further(state, number, block):
                one = _Pass(weights, *state)
                one.block(block, *sizes(number))
                return one.state()

            (number, first), *others = stages[ending]
            state = further(state, number, first)
            for n, block in others:
                state = tf.cond(
                    depths[ending - 3] > block.index, lambda s=state, n=n, b=block: further(s, n, b), lambda s=state: s
                )
            ends = tf.equal(depths[ending - 2], 0) if ending < max(stages) else tf.constant(True)
            return state, tf.cond(
                ends, lambda: _Pass(weights, *state).logits(ending, sizes(number)[2], channels[1]), lambda: logits
            )

        state, logits = tf.cond(depths[ending - 3] > 0, stage, lambda s=state, z=logits: (s, z))
    return logits


class TracedList:
    "Logits of any subnet of `weights`; `trace_seconds` is what the one trace took."

    def __init__(self, weights, largest: Architecture, classes, seen, asked):
        self.largest, self.weights = largest, tensors(weights)
        self.seen, self.asked = ([tf.constant(np.asarray(x)) for x in parts] for parts in (seen, asked))
        stages = {}
        for number, block in enumerate(network(largest).blocks):
            stages.setdefault(block.stage, []).append((number, block))
        unknown = {name: tf.TensorSpec([None] * len(shape)) for name, shape in weight_shapes(largest, classes).items()}
        images = tf.TensorSpec((None, None, None, None), tf.uint8)
        self.function = tf.function(
            lambda *args: _logits(*args, stages),
            autograph=False,
            input_signature=[
                unknown,
                [images] * len(seen),
                [images] * len(asked),
                tf.TensorSpec((None,), tf.int32),
                tf.TensorSpec((5,), tf.int32),
            ],
        )
        self.trace_seconds = seconds_of(self.function.get_concrete_function)

    def __call__(self, system: System):
        "Logits (n, classes) of a subnet, with statistics of its own."
        arch = system.arch
        net = network(replace(self.largest, width=arch.width))
        channels = [net.stem, net.last, *(c for b in net.blocks for c in (b.c_in, b.c_mid, b.c_out))]
        return self.function(
            self.weights, self.seen, self.asked, tf.constant(channels, tf.int32), tf.constant(arch.depths)
        ).numpy()
