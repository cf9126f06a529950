"""Small model files made by hand: a writer of `.tflite` files, and graphs of each operator that `dans.cost.tflite`
knows. What TensorFlow Lite Micro takes for them is measured by `taken`, all in one process."""

import json
import re
import subprocess
import sys

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


class Made:
    "A graph that grows operator by operator; tensors are numbers."

    def __init__(self):
        self.buffers, self.tensors, self.codes, self.operators = [schema.BufferT()], [], [], []

    def tensor(self, shape, kind="int8", data=None, scale=0.05, zero=0, channels=1, state=False):
        "A new tensor, constant where it has `data`; with `channels` scales."
        t, q = schema.TensorT(), schema.QuantizationParametersT()
        t.shape, t.type, t.isVariable = list(shape), getattr(schema.TensorType, kind.upper()), state
        if kind not in ("float32", "bool", "int64") and scale:
            q.scale, q.zeroPoint = [scale] * channels, [zero] * channels
            t.quantization = q
        if data is not None:
            b = schema.BufferT()
            b.data = np.frombuffer(np.broadcast_to(data, shape).astype(kind).tobytes(), np.uint8)
            t.buffer = len(self.buffers)
            self.buffers.append(b)
        self.tensors.append(t)
        return len(self.tensors) - 1

    def weights(self, shape, channels=1, axis=0):
        "Constant int8 weights, with `channels` scales on `axis`."
        t = self.tensor(shape, data=np.random.default_rng(0).integers(-127, 128, shape), scale=0.01, channels=channels)
        self.tensors[t].quantization.quantizedDimension = axis
        return t

    def bias(self, n, channels=1):
        "Constant zeros."
        return self.tensor((n,), "int32", 0, scale=0.0005, channels=channels)

    def ints(self, *values, shape=None):
        "A constant of int32."
        shape = (len(values),) if shape is None else shape
        return self.tensor(shape, "int32", np.reshape(values, shape), scale=0)

    def op(self, kind, inputs, outputs, table=None, custom=None, **fields):
        "Adds an operator. `table` is the name of its options; `fields` go into them."
        number, code, op = getattr(schema.BuiltinOperator, kind), schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        code.customCode = custom
        op.opcodeIndex, op.inputs, op.outputs = len(self.codes), list(inputs), list(outputs)
        self.codes.append(code)
        if table:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, table + "Options")
            op.builtinOptions = getattr(schema, table + "OptionsT")()
            for name, value in fields.items():
                setattr(op.builtinOptions, name, value)
        self.operators.append(op)

    def file(self, inputs, outputs, graphs=1):
        "The bytes of the file."
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, inputs, outputs
        model.version, model.operatorCodes, model.buffers = 3, self.codes, self.buffers
        model.subgraphs = [graph] * graphs
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


MAP = (1, 4, 4, 4)
SIGMOID, BYTE = dict(scale=1 / 256, zero=-128), dict(scale=1 / 128)


def lone(kind, *more, shape=MAP, out=None, types=("int8", "int8"), quantised=None, place=0, several=1, **options):
    """Some `copies` (two) of one operator, side by side, that read the same input. `more` adds its other inputs, as
    functions of the graph; the input stands at `place` among them. Each writes `several` outputs."""
    g, ends = Made(), []
    x = g.tensor(shape, types[0])
    for _ in range(options.pop("copies", 2)):
        ys = [g.tensor(out or shape, types[1], **(quantised or {})) for _ in range(several)]
        inputs = [x if f is None else f(g) for f in more]
        g.op(kind, inputs[:place] + [x] + inputs[place:], ys, **options)
        ends += ys
    return g.file([x], ends)


def ints(*values, shape=None):
    return lambda g: g.ints(*values, shape=shape)


def weights(shape, channels=1, axis=0):
    return lambda g: g.weights(shape, channels, axis)


def bias(n, channels=1):
    return lambda g: g.bias(n, channels)


ONE, PADS, CROPS = ints(3, shape=()), ints(0, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2)), ints(0, 0, 0, 0, shape=(2, 2))
FILTER = dict(padding=0, strideW=1, strideH=1)
UPWARDS = dict(table="TransposeConv", padding=0, strideW=2, strideH=2)
POOL = dict(table="Pool2D", padding=0, strideW=2, strideH=2, filterWidth=2, filterHeight=2, out=(1, 2, 2, 4))
MEANS = dict(table="Reducer", out=(1, 4))
FLOAT, UNSIGNED, SHORT, WIDE = "float32", "uint8", "int16", "int32"
REDUCERS, TWO = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), dict(ADD="Add", SUB="Sub", MUL="Mul")


def convolution(n, channels, with_bias=True, one=False, kernel=(3, 3), shape=MAP, stride=1, dilation=1):
    "CONV_2D, or DEPTHWISE_CONV_2D where `one`."
    out = (1, -(-shape[1] // stride), -(-shape[2] // stride), n)
    size = (1, *kernel, n) if one else (n, *kernel, shape[-1])
    step = dict(padding=0, strideW=stride, strideH=stride, dilationWFactor=dilation, dilationHFactor=dilation)
    options = dict(table="DepthwiseConv2D", depthMultiplier=n // shape[-1]) if one else dict(table="Conv2D")
    given = (weights(size, channels, 3 * one), *([bias(n, channels)] if with_bias else []))
    return lone("DEPTHWISE_CONV_2D" if one else "CONV_2D", *given, shape=shape, out=out, **options, **step)


def upwards(n, channels, with_bias=True):
    given = (ints(1, 8, 8, n), weights((n, 3, 3, 4), channels), *([bias(n, channels)] if with_bias else []))
    return lone("TRANSPOSE_CONV", *given, place=2, out=(1, 8, 8, n), **UPWARDS)


def dense(copies=2, channels=1, with_bias=True):
    given = (weights((5, 8), channels), *([bias(5, channels)] if with_bias else []))
    return lone("FULLY_CONNECTED", *given, shape=(1, 8), out=(1, 5), copies=copies, table="FullyConnected")


def svdf(rank=2, units=3, memory=4, kind=SHORT):
    n = rank * units
    given = (
        weights((n, 8)),
        lambda g: g.tensor((n, memory), kind, 1),
        lambda g: g.tensor((units,), WIDE, 0, scale=0.05**2),
        lambda g: g.tensor((1, n * memory), kind, state=True),
    )
    return lone("SVDF", *given, shape=(1, 8), out=(1, units), table="SVDF", rank=rank, fusedActivationFunction=1)


def written_shape():
    "A transposed convolution whose shape is computed, as Keras writes it: SHAPE, STRIDED_SLICE, PACK."
    g = Made()
    x, y = g.tensor(MAP), g.tensor((1, 8, 8, 6))
    shape, batch, size = (g.tensor(s, WIDE, scale=0) for s in ((4,), (), (4,)))
    g.op("SHAPE", [x], [shape], "Shape", outType=schema.TensorType.INT32)
    g.op("STRIDED_SLICE", [shape, g.ints(0), g.ints(1), g.ints(1)], [batch], "StridedSlice", shrinkAxisMask=1)
    g.op("PACK", [batch, *(g.ints(n, shape=()) for n in (8, 8, 6))], [size], "Pack", valuesCount=4)
    inputs = [size, g.weights((6, 3, 3, 4), 6), x, g.bias(6, 6)]
    g.op("TRANSPOSE_CONV", inputs, [y], **UPWARDS)
    return g.file([x], [y])


def between(first, last):
    "QUANTIZE, a convolution and DEQUANTIZE or QUANTIZE: float or uint8 ends, as the converter writes them."
    g = Made()
    x, a, b, y = g.tensor(MAP, first), g.tensor(MAP), g.tensor(MAP), g.tensor(MAP, last)
    g.op("QUANTIZE", [x], [a], "Quantize")
    g.op("CONV_2D", [a, g.weights((4, 3, 3, 4), 4), g.bias(4, 4)], [b], "Conv2D", **FILTER)
    g.op("DEQUANTIZE" if last == FLOAT else "QUANTIZE", [b], [y])
    return g.file([x], [y])


def person_detect():
    "The example of TensorFlow Lite Micro by its shapes: MobileNetV1 of width 0.25 for one channel of 96 x 96."
    g = Made()
    x = image = g.tensor((1, 96, 96, 1))
    side, channels = 96, 1

    def convolve(x, out, kind, size, **more):
        shape = (1, *size, out) if kind == "DepthwiseConv2D" else (out, *size, channels)
        y, given = g.tensor((1, side, side, out)), [x, g.weights(shape, out, 3 * (shape[0] == 1)), g.bias(out, out)]
        g.op("DEPTHWISE_CONV_2D" if kind == "DepthwiseConv2D" else "CONV_2D", given, [y], kind, **(FILTER | more))
        return y

    stages = (8, 2), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)
    for out, stride in stages:
        side, wide, steps = side // stride, channels if x != image else out, dict(strideW=stride, strideH=stride)
        each = convolve(x, wide, "DepthwiseConv2D", (3, 3), depthMultiplier=wide // channels, **steps)
        x, channels = convolve(each, out, "Conv2D", (1, 1)) if x != image else each, out
    pooled, side = g.tensor((1, 1, 1, 256)), 1
    g.op("AVERAGE_POOL_2D", [x], [pooled], "Pool2D", padding=1, strideW=3, strideH=3, filterWidth=3, filterHeight=3)
    two, flat, last = convolve(pooled, 2, "Conv2D", (1, 1)), g.tensor((1, 2)), g.tensor((1, 2), **SIGMOID)
    g.op("RESHAPE", [two, g.ints(1, 2)], [flat], "Reshape", newShape=[1, 2])
    g.op("SOFTMAX", [flat], [last], "Softmax", beta=1.0)
    return g.file([image], [last])


def autoencoder(sizes=(640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)):
    "Dense layers alone."
    g = Made()
    x = first = g.tensor((1, sizes[0]))
    for a, b in zip(sizes, sizes[1:]):
        y = g.tensor((1, b))
        g.op("FULLY_CONNECTED", [x, g.weights((b, a)), g.bias(b)], [y], "FullyConnected")
        x = y
    return g.file([first], [x])


def _graphs():
    yield "CONV_2D", convolution(6, 6)
    yield "CONV_2D, one scale", convolution(6, 1)
    yield "CONV_2D, no bias", convolution(6, 6, with_bias=False)
    yield "CONV_2D, along a row", convolution(6, 6, kernel=(1, 3), shape=(1, 1, 16, 4))
    yield "CONV_2D, dilated", convolution(4, 4, dilation=2)
    yield "DEPTHWISE_CONV_2D", convolution(4, 4, one=True)
    yield "DEPTHWISE_CONV_2D, two each", convolution(8, 8, one=True, stride=2)
    yield "TRANSPOSE_CONV", upwards(6, 6)
    yield "TRANSPOSE_CONV, one channel", upwards(1, 1)
    yield "TRANSPOSE_CONV, no bias", upwards(6, 6, with_bias=False)
    yield "SHAPE, STRIDED_SLICE, PACK", written_shape()
    yield "FULLY_CONNECTED", dense(1)
    yield "FULLY_CONNECTED, five", dense(5)
    yield "FULLY_CONNECTED, by channel", dense(2, 5)
    yield "FULLY_CONNECTED, no bias", dense(3, with_bias=False)
    yield "SVDF", svdf()
    yield "SVDF, int8", svdf(1, 5, 7, "int8")
    for ends in ((FLOAT, FLOAT), (UNSIGNED, UNSIGNED), (FLOAT, UNSIGNED)):
        yield f"QUANTIZE, {ends[0]} to {ends[1]}", between(*ends)
    for types in ((FLOAT, "int8"), ("int8", SHORT), (SHORT, "int8"), (SHORT, WIDE), ("int8", WIDE), (WIDE, "int8")):
        yield f"QUANTIZE, {types[0]} to {types[1]}", lone("QUANTIZE", types=types)
    for kind in ("int8", UNSIGNED, SHORT):
        yield f"DEQUANTIZE, {kind}", lone("DEQUANTIZE", types=(kind, FLOAT))
    for types in (("int8", FLOAT), (FLOAT, "int8"), ("int8", WIDE), (UNSIGNED, "int8")):
        yield f"CAST, {types[0]} to {types[1]}", lone("CAST", types=types, table="Cast")
    for kind in ("RELU", "RELU6", "HARD_SWISH", "ELU", "ABS", "RSQRT"):
        yield kind, lone(kind)
    yield "LEAKY_RELU", lone("LEAKY_RELU", table="LeakyRelu", alpha=0.1)
    yield "PRELU", lone("PRELU", weights((1, 1, 4)), place=0)
    yield "TANH", lone("TANH", quantised=BYTE)
    yield "LOGISTIC", lone("LOGISTIC", quantised=SIGMOID)
    yield "SOFTMAX", lone("SOFTMAX", shape=(1, 8), quantised=SIGMOID, table="Softmax", beta=1.0)
    softmax, short = dict(shape=(1, 8), table="Softmax", beta=1.0), dict(scale=2**-16, zero=-(2**15))
    yield "SOFTMAX, int16", lone("SOFTMAX", types=("int8", SHORT), quantised=short, **softmax)
    yield "LOG_SOFTMAX", lone("LOG_SOFTMAX", shape=(1, 8), quantised=dict(scale=1 / 16, zero=127))
    yield "L2_NORMALIZATION", lone("L2_NORMALIZATION", quantised=BYTE, table="L2Norm")
    for kind, table in TWO.items():
        yield kind, lone(kind, None, table=table)
        yield f"{kind}, a constant", lone(kind, lambda g: g.tensor((4,), data=3), table=table)
    yield "SQUARED_DIFFERENCE", lone("SQUARED_DIFFERENCE", None)
    yield "MINIMUM", lone("MINIMUM", lambda g: g.tensor((), data=3))
    yield "MAXIMUM", lone("MAXIMUM", lambda g: g.tensor((1, 4), data=3))
    for kind in REDUCERS:
        yield kind, lone(kind, ints(1, 2), **MEANS)
        yield f"{kind}, three axes kept", lone(kind, ints(1, 2, 3), table="Reducer", out=(1, 1, 1, 1), keepDims=True)
    yield "MEAN, another scale", lone("MEAN", ints(1, 2), quantised=dict(scale=0.03), **MEANS)
    yield "ARG_MAX", lone("ARG_MAX", ONE, types=("int8", WIDE), out=(1, 4, 4), table="ArgMax", outputType=2)
    yield "ARG_MIN", lone("ARG_MIN", ONE, types=("int8", WIDE), out=(1, 4, 4), table="ArgMin", outputType=2)
    yield "AVERAGE_POOL_2D", lone("AVERAGE_POOL_2D", **POOL)
    yield "MAX_POOL_2D", lone("MAX_POOL_2D", **POOL)
    yield "PAD", lone("PAD", PADS, out=(1, 6, 6, 4))
    yield "PADV2", lone("PADV2", PADS, lambda g: g.tensor((1,), data=0), out=(1, 6, 6, 4))
    yield "MIRROR_PAD", lone("MIRROR_PAD", PADS, out=(1, 6, 6, 4), table="MirrorPad")
    yield "TRANSPOSE", lone("TRANSPOSE", ints(0, 3, 1, 2))
    yield "GATHER", lone("GATHER", ints(0, 1), out=(1, 4, 2, 4), table="Gather", axis=2)
    yield "BROADCAST_TO", lone("BROADCAST_TO", ints(1, 4, 4, 4), shape=(1, 1, 1, 4), out=MAP)
    yield "DIV", lone("DIV", None, table="Div")
    yield "REVERSE_V2", lone("REVERSE_V2", ints(1))
    yield "GATHER_ND", lone("GATHER_ND", ints(0, 1, shape=(1, 2)), out=(1, 4, 4))
    for kind, table in dict(NEAREST_NEIGHBOR="NearestNeighbor", BILINEAR="Bilinear").items():
        yield f"RESIZE_{kind}", lone(f"RESIZE_{kind}", ints(8, 8), out=(1, 8, 8, 4), table=f"Resize{table}")
    yield "SPACE_TO_BATCH_ND", lone("SPACE_TO_BATCH_ND", ints(2, 2), CROPS, out=(4, 2, 2, 4))
    yield "SPACE_TO_DEPTH", lone("SPACE_TO_DEPTH", out=(1, 2, 2, 16), table="SpaceToDepth", blockSize=2)
    yield "DEPTH_TO_SPACE", lone("DEPTH_TO_SPACE", out=(1, 8, 8, 1), table="DepthToSpace", blockSize=2)
    for kind in ("int8", SHORT, WIDE, FLOAT):
        for name, data in _moves((kind, kind)):
            yield f"{name}, {kind}", data


def _moves(types):
    "Operators that move values of any type."
    yield "RESHAPE", lone("RESHAPE", ints(1, 64), out=(1, 64), types=types, table="Reshape", newShape=[1, 64])
    yield "SQUEEZE", lone("SQUEEZE", out=(4, 4, 4), types=types, table="Squeeze", squeezeDims=[0])
    yield "EXPAND_DIMS", lone("EXPAND_DIMS", ints(0), out=(1, 1, 4, 4, 4), types=types)
    longer = dict(out=(1, 4, 4, 12), types=types, table="Concatenation", axis=3)
    yield "CONCATENATION", lone("CONCATENATION", None, None, **longer)
    yield "SLICE", lone("SLICE", ints(0, 1, 1, 0), ints(1, 2, 2, 4), out=(1, 2, 2, 4), types=types)
    cut = ints(0, 1, 1, 0), ints(1, 3, 3, 4), ints(1, 1, 1, 1)
    yield "STRIDED_SLICE", lone("STRIDED_SLICE", *cut, out=(1, 2, 2, 4), types=types, table="StridedSlice")
    yield "PACK", lone("PACK", None, out=(1, 2, 4, 4, 4), types=types, table="Pack", axis=1, valuesCount=2)
    yield "UNPACK", lone("UNPACK", out=(1, 4, 4), types=types, several=4, table="Unpack", num=4, axis=3)
    yield "SPLIT", lone("SPLIT", ONE, place=1, out=(1, 4, 4, 2), types=types, several=2, table="Split", numSplits=2)
    sizes = ints(2, 2), ONE
    yield "SPLIT_V", lone("SPLIT_V", *sizes, out=(1, 4, 4, 2), types=types, several=2, table="SplitV", numSplits=2)


def batches():
    "SPACE_TO_BATCH_ND and back: a dilated convolution as TensorFlow wrote it once."
    g = Made()
    x, a, y = g.tensor(MAP), g.tensor((4, 2, 2, 4)), g.tensor(MAP)
    g.op("SPACE_TO_BATCH_ND", [x, g.ints(2, 2), CROPS(g)], [a])
    g.op("BATCH_TO_SPACE_ND", [a, g.ints(2, 2), CROPS(g)], [y])
    return g.file([x], [y])


def _floats():
    "The end of a model that goes on in float."
    types, constant = (FLOAT, FLOAT), lambda g: g.tensor((4,), FLOAT, 3)
    for kind in ("LOGISTIC", "TANH", "RELU", "RELU6", "HARD_SWISH", "ABS", "RSQRT", "ELU"):
        yield kind, lone(kind, types=types)
    for kind in ("EXP", "LOG", "SQRT", "SQUARE", "NEG", "FLOOR", "CEIL", "ROUND"):
        yield kind, lone(kind, types=types)
    yield "DIV", lone("DIV", constant, types=types, table="Div")
    for kind in ("MEAN", "SUM", "REDUCE_MIN"):
        yield kind, lone(kind, ints(1, 2), types=types, **MEANS)
    yield "BROADCAST_TO", lone("BROADCAST_TO", ints(1, 4, 4, 4), shape=(1, 1, 1, 4), out=MAP, types=types)
    yield "PRELU", lone("PRELU", lambda g: g.tensor((1, 1, 4), FLOAT, 1), place=0, types=types)
    yield "ARG_MAX", lone("ARG_MAX", ONE, types=(FLOAT, WIDE), out=(1, 4, 4), table="ArgMax", outputType=2)
    for kind, table in dict(NEAREST_NEIGHBOR="NearestNeighbor", BILINEAR="Bilinear").items():
        larger = dict(out=(1, 8, 8, 4), types=types, table=f"Resize{table}")
        yield f"RESIZE_{kind}", lone(f"RESIZE_{kind}", ints(8, 8), **larger)
    yield "SPACE_TO_DEPTH", lone("SPACE_TO_DEPTH", out=(1, 2, 2, 16), types=types, table="SpaceToDepth", blockSize=2)
    yield "DEPTH_TO_SPACE", lone("DEPTH_TO_SPACE", out=(1, 8, 8, 1), types=types, table="DepthToSpace", blockSize=2)
    yield "PADV2", lone("PADV2", PADS, lambda g: g.tensor((1,), FLOAT, 0), out=(1, 6, 6, 4), types=types)
    yield "REVERSE_V2", lone("REVERSE_V2", ints(1), types=types)
    yield "GATHER_ND", lone("GATHER_ND", ints(0, 1, shape=(1, 2)), out=(1, 4, 4), types=types)
    for kind in ("MINIMUM", "MAXIMUM", "SQUARED_DIFFERENCE"):
        yield kind, lone(kind, constant, types=types)
    for kind, table in TWO.items():
        yield kind, lone(kind, constant, types=types, table=table)
    yield "SOFTMAX", lone("SOFTMAX", shape=(1, 8), types=types, table="Softmax", beta=1.0)
    yield "LEAKY_RELU", lone("LEAKY_RELU", types=types, table="LeakyRelu", alpha=0.1)
    yield "REDUCE_MAX", lone("REDUCE_MAX", ints(1, 2), types=types, **MEANS)
    yield "AVERAGE_POOL_2D", lone("AVERAGE_POOL_2D", types=types, **POOL)
    yield "MAX_POOL_2D", lone("MAX_POOL_2D", types=types, **POOL)
    yield "PAD", lone("PAD", PADS, out=(1, 6, 6, 4), types=types)
    yield "TRANSPOSE", lone("TRANSPOSE", ints(0, 3, 1, 2), types=types)
    yield "GATHER", lone("GATHER", ints(0, 1), out=(1, 4, 2, 4), types=types, table="Gather", axis=2)
    yield "L2_NORMALIZATION", lone("L2_NORMALIZATION", types=types, table="L2Norm")


def wide(n, channels=1):
    "A bias of int64."

    def bias(g):
        t, q = g.tensor((n,), "int64", 0), schema.QuantizationParametersT()
        q.scale, q.zeroPoint = [0.0005] * channels, [0] * channels
        g.tensors[t].quantization = q
        return t

    return bias


def _shorts():
    "Activations of int16 and weights of int8."
    types, near = (SHORT, SHORT), dict(scale=2**-15)
    for name, given in dict(int64=wide(6, 6), int32=bias(6, 6)).items():
        yield (
            f"CONV_2D, {name}",
            lone("CONV_2D", weights((6, 3, 3, 4), 6), given, out=(1, 4, 4, 6), types=types, table="Conv2D", **FILTER),
        )
    one = dict(table="DepthwiseConv2D", depthMultiplier=1, **FILTER)
    yield "DEPTHWISE_CONV_2D", lone("DEPTHWISE_CONV_2D", weights((1, 3, 3, 4), 4, 3), wide(4, 4), types=types, **one)
    upward = ints(1, 8, 8, 6), weights((6, 3, 3, 4), 6), wide(6, 6)
    yield "TRANSPOSE_CONV", lone("TRANSPOSE_CONV", *upward, place=2, out=(1, 8, 8, 6), types=types, **UPWARDS)
    dense = dict(shape=(1, 8), out=(1, 5), types=types, table="FullyConnected")
    yield "FULLY_CONNECTED", lone("FULLY_CONNECTED", weights((5, 8)), wide(5), copies=3, **dense)
    for kind, table in TWO.items():
        yield kind, lone(kind, None, table=table, types=types)
    for kind in ("MINIMUM", "MAXIMUM", "SQUARED_DIFFERENCE"):
        yield kind, lone(kind, None, types=types)
    yield "SOFTMAX", lone("SOFTMAX", shape=(1, 8), types=types, quantised=near, table="Softmax", beta=1.0)
    for kind in ("LOGISTIC", "TANH", "RELU", "RELU6", "ABS", "RSQRT"):
        yield kind, lone(kind, types=types, quantised=near)
    yield "LEAKY_RELU", lone("LEAKY_RELU", table="LeakyRelu", alpha=0.1, types=types)
    yield "MEAN", lone("MEAN", ints(1, 2), types=types, **MEANS)
    yield "SUM", lone("SUM", ints(1, 2), types=types, **MEANS)
    yield "AVERAGE_POOL_2D", lone("AVERAGE_POOL_2D", types=types, **POOL)
    yield "MAX_POOL_2D", lone("MAX_POOL_2D", types=types, **POOL)
    yield "PAD", lone("PAD", PADS, out=(1, 6, 6, 4), types=types)
    yield "TRANSPOSE", lone("TRANSPOSE", ints(0, 3, 1, 2), types=types)
    yield "BROADCAST_TO", lone("BROADCAST_TO", ints(1, 4, 4, 4), shape=(1, 1, 1, 4), out=MAP, types=types)
    larger = dict(out=(1, 8, 8, 4), types=types, table="ResizeNearestNeighbor")
    yield "RESIZE_NEAREST_NEIGHBOR", lone("RESIZE_NEAREST_NEIGHBOR", ints(8, 8), **larger)


GRAPHS = dict(_graphs()) | {f"{name}, float": data for name, data in _floats()}
GRAPHS |= {f"{name}, 16 bits": data for name, data in _shorts()}
GRAPHS["SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND"] = batches()
GRAPHS["BATCH_TO_SPACE_ND, four images"] = lone("BATCH_TO_SPACE_ND", ints(2, 2), CROPS, shape=(4, 2, 2, 4), out=MAP)

_CHILD = """
import json, os, sys
os.dup2(2, 1)
from tflite_micro import runtime
for size, smallest in json.loads(sys.stdin.buffer.readline()):
    data = sys.stdin.buffer.read(size)
    print("<graph>", file=sys.stderr, flush=True)
    try:
        runtime.Interpreter.from_bytes(data, arena_size=1 << 20).print_allocations()
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)
    if smallest:
        from dans.board.runtime import smallest_loading
        print("smallest arena", smallest_loading(data), file=sys.stderr, flush=True)
"""


def taken(
    files,  # bytes of each
    smallest=(),  # of which the smallest arena is looked for
):
    "Head, tail and smallest arena (None) of each of `files`, bytes, or what the interpreter said instead."
    head = json.dumps([(len(data), data in smallest) for data in files]).encode() + b"\n"
    done = subprocess.run([sys.executable, "-c", _CHILD], input=head + b"".join(files), capture_output=True, check=True)
    found = []
    for said in done.stderr.decode(errors="replace").split("<graph>\n")[1:]:
        head, tail, least = (re.search(f"{name} (\\d+)", said) for name in ("head", "tail", "smallest arena"))
        found.append((int(head[1]), int(tail[1]), least and int(least[1])) if head else said.strip()[:300])
    return found
