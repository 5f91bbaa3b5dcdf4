"""Makes `common/tests/golden/policy.json`: forward passes and log-probabilities in binary64.

Written from the definitions with NumPy alone, independently of the Rust code. All given numbers
are multiples of 1/1024 and so exact in binary32.

    python3 scripts/golden/policy.py > common/tests/golden/policy.json
"""

import json

import numpy as np


def given(random, *shape, scale=1.0):
    return np.round(random.normal(scale=scale, size=shape) * 1024) / 1024


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def convolution(x, weight, bias, stride=1, padding=0):
    """x [N, inputs, rows, columns], weight [outputs, inputs, kernel, kernel]: one position at a time."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    kernel = weight.shape[2]
    positions = [(extent - kernel) // stride + 1 for extent in x.shape[2:]]
    y = np.empty((len(x), len(weight), *positions))
    for row, column in np.ndindex(*positions):
        top, left = row * stride, column * stride
        patch = x[:, :, top : top + kernel, left : left + kernel]
        y[:, :, row, column] = np.tensordot(patch, weight, axes=([1, 2, 3], [1, 2, 3])) + bias
    return y


def max_pool(x):
    """The maximum of 3x3 at a stride of 2, padded by one."""
    x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    positions = [(extent - 3) // 2 + 1 for extent in x.shape[2:]]
    y = np.empty((*x.shape[:2], *positions))
    for row, column in np.ndindex(*positions):
        y[:, :, row, column] = x[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max((2, 3))
    return y


def encode_image(random, image, x):
    """Features of x [N, channels * rows * columns], and the weights and biases drawn for them."""
    tensors = []

    def draw(outputs, inputs, kernel):
        weight = given(random, outputs, inputs, kernel, kernel, scale=1 / np.sqrt(inputs) / kernel)
        tensors.extend([weight, given(random, outputs, scale=0.3)])
        return tensors[-2:]

    x = x.reshape(len(x), *image["planes"].values())
    for stage in image["stages"]:
        [(kind, options)] = stage.items()
        outputs = options["channels"]
        if kind == "convolution":
            x = convolution(x, *draw(outputs, x.shape[1], options["kernel"]), options["stride"])
            x = np.maximum(x, 0)
            continue
        x = max_pool(convolution(x, *draw(outputs, x.shape[1], 3), padding=1))
        for _ in range(2):
            inner = convolution(np.maximum(x, 0), *draw(outputs, outputs, 3), padding=1)
            x = x + convolution(np.maximum(inner, 0), *draw(outputs, outputs, 3), padding=1)
    return np.maximum(x, 0).reshape(len(x), -1), tensors


def case(random, encoder, hidden, activation, head, normalised=False, rows=5):
    (encoder_kind, inputs), (head_kind, outputs) = encoder, head
    golden = {}
    convolutions = []
    if encoder_kind == "image":
        image = inputs
        planes = list(image["planes"].values())
        observations = given(random, rows, int(np.prod(planes)), scale=0.5).clip(0, 1)
        features, convolutions = encode_image(random, image, observations)
        inputs = features.shape[1]
    widths = [inputs, *hidden, outputs]
    layers = [
        (given(random, out, into, scale=1 / np.sqrt(into)), given(random, out, scale=0.3))
        for into, out in zip(widths, widths[1:])
    ]
    tensors = convolutions + [tensor for layer in layers for tensor in layer]
    parameters = [x for tensor in tensors for x in tensor.ravel()]

    if encoder_kind == "image":
        x = features
        encoder_spec = {"image": image}
    elif encoder_kind == "one_hot":
        observations = random.integers(inputs, size=(rows, 1)).astype(float)
        x = np.eye(inputs)[observations[:, 0].astype(int)]
        encoder_spec = {"one_hot": {"n": inputs}}
    else:
        observations = x = given(random, rows, inputs, scale=2.0)
        encoder_spec = {"identity": {"width": inputs}}
    if normalised:
        mean, inverse_standard_deviation = given(random, inputs), np.abs(given(random, inputs)) + 0.25
        x = np.clip((x - mean) * inverse_standard_deviation, -1.5, 1.5)
        golden["normaliser"] = {"mean": mean.tolist(), "inverse_standard_deviation": inverse_standard_deviation.tolist(), "clip": 1.5}

    for index, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if index < len(hidden):
            x = np.tanh(x) if activation == "tanh" else np.maximum(x, 0.0)

    if head_kind == "categorical":
        head_spec = {"categorical": {"num_actions": outputs}}
        actions = np.arange(rows)[:, None] % outputs
        log_probs = np.take_along_axis(log_softmax(x), actions, axis=1)[:, 0]
    else:
        head_spec = {"diagonal_gaussian": {"dimension": outputs}}
        log_std = given(random, outputs, scale=0.5)
        parameters += log_std.tolist()
        actions = given(random, rows, outputs)
        z = (actions - x) / np.exp(log_std)
        log_probs = (-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(axis=1)

    return golden | {
        "spec": {
            "encoder": encoder_spec,
            "hidden": hidden,
            "activation": activation,
            "head": head_spec,
        },
        "parameters": [float(p) for p in parameters],
        "observations": observations.ravel().tolist(),
        "outputs": x.ravel().tolist(),
        "actions": actions.ravel().tolist(),
        "log_probs": log_probs.tolist(),
    }


def main():
    random = np.random.default_rng(20240607)
    cases = [
        case(random, ("identity", 4), [16, 16], "tanh", ("categorical", 2)),
        case(random, ("identity", 17), [33, 5], "relu", ("categorical", 19)),
        case(random, ("identity", 3), [20], "tanh", ("diagonal_gaussian", 3), normalised=True),
        case(random, ("identity", 5), [7, 6, 9], "relu", ("diagonal_gaussian", 1), normalised=True),
        case(random, ("one_hot", 6), [18], "tanh", ("categorical", 4)),
        case(random, ("one_hot", 3), [], "tanh", ("diagonal_gaussian", 2)),
        case(random, ("identity", 2), [], "relu", ("categorical", 3)),
    ]

    def image(planes, *stages):
        planes = dict(zip(["channels", "rows", "columns"], planes))
        return "image", {"planes": planes, "stages": list(stages)}

    def convolve(channels, kernel, stride):
        return {"convolution": {"channels": channels, "kernel": kernel, "stride": stride}}

    def residual(channels):
        return {"residual": {"channels": channels}}

    strided = image((2, 15, 13), convolve(5, 4, 2), convolve(17, 3, 1), convolve(3, 2, 2))
    impala = image((3, 9, 6), residual(4), residual(5), residual(2))
    mixed = image((1, 8, 10), residual(3), convolve(6, 3, 1))
    cases += [
        case(random, image((4, 10, 10), convolve(6, 3, 1)), [], "relu", ("categorical", 3)),
        case(random, strided, [12], "tanh", ("categorical", 6)),
        case(random, impala, [9], "relu", ("diagonal_gaussian", 2)),
        case(random, mixed, [], "relu", ("categorical", 3)),
    ]
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


if __name__ == "__main__":
    main()
