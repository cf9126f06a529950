"Graphs drawn at random, and what converters seldom write: heads to the byte beside TensorFlow Lite Micro."

from math import prod
from random import Random

from made import FILTER, MAP, POOL, Made, bias, ints, lone, taken, weights

from dans.cost.tflite import footprint_of, read

KINDS = "convolve", "each", "two", "pool", "join", "pad", "bend", "flatten", "reduce", "dense", "cut", "turn"
FILTERS = dict(dilationHFactor=1, dilationWFactor=1)


class Drawn(Made):
    "A graph that grows by operators drawn at random."

    def __init__(self, seed):
        super().__init__()
        self.draw, self.live = Random(seed), []
        shapes = [(1, *self.draw.choices((4, 7, 9, 16), k=2), self.draw.choice((1, 3, 4, 8))) for _ in range(3)]
        self.inputs = [self.grow(shape) for shape in shapes[: self.draw.choice((1, 1, 1, 2, 3))]]
        for _ in range(self.draw.randint(3, 25)):
            tensor, shape = self.draw.choice(self.live[-4:] if self.draw.random() < 0.7 else self.live)
            kinds = (
                "convolve",
                "each",
                "two",
                "pool",
                "join",
                "pad",
                "bend",
                "flatten",
                "reduce",
                "dense",
                "cut",
                "turn",
            )
            getattr(self, self.draw.choice(kinds) if len(shape) == 4 else "dense")(tensor, shape)

    def grow(self, shape):
        self.live.append((self.tensor(shape), shape))
        return self.live[-1][0]

    def convolve(self, x, shape):
        n, size, stride, dilation = (self.draw.choice(c) for c in ((1, 4, 6, 12), (1, 3, 5), (1, 2), (1, 2)))
        scales, dilation = self.draw.choice((1, n)), dilation if stride == 1 else 1
        given = [
            x,
            self.weights((n, size, size, shape[3]), scales),
            *([self.bias(n, scales)] * self.draw.choice((0, 1))),
        ]
        y = self.grow((1, -(-shape[1] // stride), -(-shape[2] // stride), n))
        steps = dict(strideH=stride, strideW=stride, dilationHFactor=dilation, dilationWFactor=dilation)
        self.op(
            "CONV_2D", given, [y], "Conv2D", padding=0, fusedActivationFunction=self.draw.choice((0, 1, 3)), **steps
        )

    def each(self, x, shape):
        n = shape[3] * self.draw.choice((1, 1, 2))
        given, y = [x, self.weights((1, 3, 3, n), n, 3), self.bias(n, n)], self.grow((*shape[:3], n))
        self.op("DEPTHWISE_CONV_2D", given, [y], "DepthwiseConv2D", depthMultiplier=n // shape[3], **FILTER, **FILTERS)

    def two(self, x, shape):
        other = self.draw.choice([t for t, s in self.live if s == shape] + [self.tensor((shape[3],), data=2)])
        table = self.draw.choice(("Add", "Mul", "Sub"))
        self.op(table.upper(), [x, other], [self.grow(shape)], table, fusedActivationFunction=self.draw.choice((0, 1)))

    def pool(self, x, shape):
        y = self.grow((1, -(-shape[1] // 2), -(-shape[2] // 2), shape[3]))
        kind = self.draw.choice(("MAX_POOL_2D", "AVERAGE_POOL_2D"))
        self.op(kind, [x], [y], "Pool2D", padding=0, strideW=2, strideH=2, filterWidth=2, filterHeight=2)

    def join(self, x, shape):
        others = [(t, s[3]) for t, s in self.live if len(s) == 4 and s[:3] == shape[:3] and s[3] < 16]
        given = [(x, shape[3]), *self.draw.choices(others or [(x, shape[3])], k=self.draw.randint(1, 6))]
        y = self.grow((*shape[:3], sum(n for _, n in given)))
        self.op("CONCATENATION", [t for t, _ in given], [y], "Concatenation", axis=3)

    def pad(self, x, shape):
        y = self.grow((1, shape[1] + 2, shape[2] + 1, shape[3]))
        self.op("PAD", [x, self.ints(0, 0, 1, 1, 1, 0, 0, 0, shape=(4, 2))], [y], "Pad")

    def bend(self, x, shape):
        kind = self.draw.choice(("RELU", "RELU6", "HARD_SWISH", "QUANTIZE", "PRELU"))
        given = [x, self.weights((1, 1, shape[3]))] if kind == "PRELU" else [x]
        self.op(kind, given, [self.grow(shape)])

    def flatten(self, x, shape):
        y = self.grow((1, prod(shape)))
        self.op("RESHAPE", [x, self.ints(1, -1)], [y], "Reshape", newShape=[1, -1])

    def reduce(self, x, shape):
        keep, kind = self.draw.random() < 0.5, self.draw.choice(("MEAN", "MEAN", "SUM", "REDUCE_MAX"))
        y = self.grow((1, 1, 1, shape[3]) if keep else (1, shape[3]))
        self.op(kind, [x, self.ints(1, 2)], [y], "Reducer", keepDims=keep)

    def dense(self, x, shape):
        n, width = self.draw.choice((2, 10, 33)), shape[-1] if len(shape) < 4 else prod(shape)
        given, y = [x, self.weights((n, width)), self.bias(n)], self.grow((prod(shape) // width, n))
        self.op("FULLY_CONNECTED", given, [y], "FullyConnected")

    def cut(self, x, shape):
        y = self.grow((1, shape[1] - 1, *shape[2:])) if shape[1] > 1 else self.grow(shape)
        begin = self.ints(0, min(1, shape[1] - 1), 0, 0)
        self.op("STRIDED_SLICE", [x, begin, self.ints(*shape), self.ints(1, 1, 1, 1)], [y], "StridedSlice")

    def turn(self, x, shape):
        self.op("TRANSPOSE", [x, self.ints(0, 3, 1, 2)], [self.grow((1, shape[3], *shape[1:3]))], "Transpose")

    def bytes(self):
        read_ = {t for op in self.operators for t in op.inputs}
        return self.file(self.inputs, [t for t, _ in self.live if t not in read_ and t not in self.inputs])


def seldom():
    "What is legal and seldom written."
    row = dict(table="Conv2D", **FILTER)
    yield "a filter in groups", lone("CONV_2D", weights((6, 3, 3, 2), 6), bias(6, 6), out=(1, 4, 4, 6), **row)
    yield (
        "two images",
        lone("CONV_2D", weights((6, 3, 3, 4), 6), bias(6, 6), shape=(2, *MAP[1:]), out=(2, 4, 4, 6), **row),
    )
    rows = dict(shape=(1, 3, 8), out=(1, 3, 5), table="FullyConnected", keepNumDims=True)
    yield "dense on rows", lone("FULLY_CONNECTED", weights((5, 8)), bias(5), **rows)
    yield "no options", lone("RESHAPE", ints(1, 64), out=(1, 64))
    yield "one axis from the end", lone("MEAN", ints(-1), table="Reducer", out=(1, 4, 4))
    yield "a pool with ReLU", lone("MAX_POOL_2D", fusedActivationFunction=1, **POOL)
    for shape in ((1, 1, 1, 4), (1, 4, 1, 4), (1,), ()):
        yield f"spread over {shape}", lone("MUL", lambda g, s=shape: g.tensor(s, data=3), table="Mul")


def around(unread=0, unnamed=0):
    "Two operators, inputs that nothing reads and tensors that no operator names, of so many bytes."
    g = Made()
    x, y, z, more = (*(g.tensor(MAP) for _ in range(3)), [g.tensor((1, n)) for n in (unread, unnamed) if n])
    g.op("RELU", [x], [y])
    g.op("RELU", [y], [z])
    return g.file([x, *more[: bool(unread)]], [z, y])


def test_heads_of_drawn_graphs():
    files = {f"seed {seed}": Drawn(seed).bytes() for seed in range(40)} | dict(seldom())
    files |= {f"around {more}": around(*more) for more in ((1000, 0), (100, 0), (0, 1000), (900, 1000), (10, 10))}
    wrong = {}
    for (name, data), found in zip(files.items(), taken(list(files.values()))):
        said = footprint_of(data, bits=64)
        if isinstance(found, str) or found[0] != said.ram_bytes or abs(found[1] - said.tail_bytes) > 16:
            wrong[name] = found, said, [op.kind for op in read(data).ops]
    assert wrong == {}
