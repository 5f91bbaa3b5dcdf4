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


def case(random, encoder, hidden, activation, head, normalised=False, rows=5):
    (encoder_kind, inputs), (head_kind, outputs) = encoder, head
    widths = [inputs, *hidden, outputs]
    layers = [
        (given(random, out, into, scale=1 / np.sqrt(into)), given(random, out, scale=0.3))
        for into, out in zip(widths, widths[1:])
    ]
    parameters = [x for layer in layers for tensor in layer for x in tensor.ravel()]
    golden = {}

    if encoder_kind == "one_hot":
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
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


if __name__ == "__main__":
    main()
