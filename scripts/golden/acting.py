"""Makes `common/tests/golden/acting.json`: how action values, squashed Gaussians and deterministic
policies act, in binary64.

Written from the definitions with NumPy and SciPy alone, independently of the Rust code. All given
numbers are multiples of 1/1024 and so exact in binary32. The random streams are the project's own
(SplitMix64, `common/src/seeds.rs`), written anew here.

    python3 -m venv .venv
    .venv/bin/pip install numpy==2.4.6 scipy==1.17.1
    .venv/bin/python scripts/golden/acting.py > common/tests/golden/acting.json
"""

import json

import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm, uniform

WORD = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
ACTION, NOISE = 2, 6


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


class Stream:
    def __init__(self, seed, purpose, index, position):
        key = mix((seed + GAMMA) & WORD)
        key = mix(key ^ (purpose * GAMMA & WORD))
        key = mix((key + index) * GAMMA & WORD)
        self.key = mix((key + position + GAMMA) & WORD)
        self.counter = 0

    def bits(self):
        self.counter += 1
        return mix((self.key + self.counter * GAMMA) & WORD)

    def unit(self):
        return (self.bits() >> 11) / 2**53

    def below(self, bound):
        return self.bits() * bound >> 64

    def normals(self, count):
        """`count` standard normals; they come in pairs, and an odd one out is lost."""
        drawn = []
        while len(drawn) < count:
            radius = np.sqrt(-2 * np.log(1 - self.unit()))
            angle = 2 * np.pi * self.unit()
            drawn += [radius * np.cos(angle), radius * np.sin(angle)]
        return np.array(drawn[:count])


def given(random, *shape, scale=1.0):
    return np.round(random.normal(scale=scale, size=shape) * 1024) / 1024


class Network:
    """A multilayer perceptron with the parameters in the order of the layout."""

    def __init__(self, random, encoder, hidden, activation, head):
        (self.encoder, self.inputs), self.hidden, self.activation = encoder, hidden, activation
        (self.kind, self.head), self.parameters, self.layers = head, [], []
        self.noisy, self.dueling = self.head.get("noisy", False), self.head.get("dueling", False)
        last = [self.inputs, *hidden][-1]
        shapes = list(zip([self.inputs, *hidden], [*hidden, self.outputs()]))
        if self.dueling:
            shapes.append((last, self.per_action()))
        for into, out in shapes:
            layer = [given(random, out, into, scale=into**-0.5), given(random, out, scale=0.3)]
            if self.noisy:
                layer += [
                    np.abs(given(random, out, into, scale=0.5 * into**-0.5)),
                    np.abs(given(random, out, scale=0.5 * into**-0.5)),
                ]
            self.layers.append(layer)
            self.parameters += [x for tensor in layer for x in tensor.ravel()]

    def per_action(self):
        ((kind, options),) = self.head["distribution"].items()
        return {"categorical": options.get("num_atoms"), "quantiles": options.get("num_quantiles")}.get(kind, 1)

    def outputs(self):
        if self.kind == "action_values":
            return self.head["num_actions"] * self.per_action()
        return len(self.head["low"]) * (2 if self.kind == "squashed_gaussian" else 1)

    def spec(self):
        head = dict(self.head)
        if head.get("distribution") == {"expectation": {}}:
            head["distribution"] = "expectation"
        encoder = {"one_hot": {"n": self.inputs}} if self.encoder == "one_hot" else {"identity": {"width": self.inputs}}
        return {"encoder": encoder, "hidden": self.hidden, "activation": self.activation, "head": {self.kind: head}}

    def observations(self, random, rows):
        if self.encoder == "one_hot":
            return random.integers(self.inputs, size=(rows, 1)).astype(float)
        return given(random, rows, self.inputs, scale=2.0)

    def forward(self, observations, noise=None):
        layers = []
        for layer in self.layers:
            weight, bias = layer[:2]
            if noise is not None:
                factor = lambda x: np.sign(x) * np.sqrt(np.abs(x))
                into, out = factor(noise.normals(weight.shape[1])), factor(noise.normals(weight.shape[0]))
                weight, bias = weight + layer[2] * np.outer(out, into), bias + layer[3] * out
            layers.append((weight, bias))
        x = np.eye(self.inputs)[observations[:, 0].astype(int)] if self.encoder == "one_hot" else observations
        for weight, bias in layers[: len(self.hidden)]:
            x = x @ weight.T + bias
            x = np.tanh(x) if self.activation == "tanh" else np.maximum(x, 0.0)
        weight, bias = layers[len(self.hidden)]
        head = x @ weight.T + bias
        if self.dueling:
            weight, bias = layers[-1]
            advantage = head.reshape(len(x), self.head["num_actions"], -1)
            value = (x @ weight.T + bias)[:, None, :]
            head = (value + advantage - advantage.mean(axis=1, keepdims=True)).reshape(len(x), -1)
        return head

    def values(self, outputs):
        outputs = outputs.reshape(len(outputs), self.head["num_actions"], -1)
        ((kind, options),) = self.head["distribution"].items()
        if kind == "categorical":
            support = np.linspace(options["v_min"], options["v_max"], options["num_atoms"])
            return np.exp(log_softmax(outputs, axis=-1)) @ support
        return outputs.mean(axis=-1)


def rescale(head, x):
    low, high = np.array(head["low"]), np.array(head["high"])
    return np.clip((low + high) / 2 + (high - low) / 2 * x, low, high)


def squashed_log_prob(head, mean, log_std, u):
    """By the change of variables, with sech for the derivative of the tangent."""
    half = (np.array(head["high"]) - np.array(head["low"])) / 2
    std = np.exp(np.clip(log_std, -20, 2))
    return (norm.logpdf(u, mean, std) + 2 * np.log(np.cosh(u)) - np.log(half)).sum(axis=-1)


def act(network, outputs, behaviour, stream):
    """One row's action and its log-probability."""
    kind, options = behaviour
    head = network.head
    if network.kind == "action_values":
        values = network.values(outputs[None])[0]
        count, greedy = len(values), int(values.argmax())
        if kind == "uniform":
            return [stream.below(count)], -np.log(count)
        epsilon = options.get("epsilon", 0.0)
        action = stream.below(count) if stream.unit() < epsilon else greedy
        return [action], np.log((1 - epsilon) * (action == greedy) + epsilon / count)
    low, high = np.array(head["low"]), np.array(head["high"])
    if kind == "uniform":
        action = np.array([a + (b - a) * stream.unit() for a, b in zip(low, high)])
        return action, uniform.logpdf(action, low, high - low).sum()
    if network.kind == "squashed_gaussian":
        mean, log_std = np.split(outputs, 2)
        u = mean + np.exp(np.clip(log_std, -20, 2)) * stream.normals(len(mean))
        return rescale(head, np.tanh(u)), squashed_log_prob(head, mean, log_std, u)
    if kind == "gaussian_noise":
        noise = options["std"] * stream.normals(len(outputs))
        half = (high - low) / 2
        centre = (low + high) / 2 + half * np.tanh(outputs)
        return (
            np.clip(centre + half * noise, low, high),
            norm.logpdf(centre + half * noise, centre, half * options["std"]).sum(),
        )
    return rescale(head, np.tanh(outputs)), 0.0


def numbers(values):
    return [float(x) for x in np.asarray(values).ravel()]


def network_case(random, network, rows=5):
    observations = network.observations(random, rows)
    case = {"spec": network.spec(), "parameters": numbers(network.parameters), "observations": numbers(observations)}
    case["outputs"] = numbers(network.forward(observations))
    if network.kind == "action_values":
        case["values"] = numbers(network.values(network.forward(observations)))
    if network.noisy:
        address = {"seed": 11, "shard": 3, "unroll": 41}
        stream = Stream(address["seed"], NOISE, address["shard"], address["unroll"])
        case["noise"] = address
        case["noisy_outputs"] = numbers(network.forward(observations, stream))
    return case


def behaviour_case(random, networks, index, behaviour, rows=40):
    network = networks[index]
    observations = network.observations(random, rows)
    outputs = network.forward(observations)
    seed, step = 5, 1234
    drawn = [act(network, row, behaviour, Stream(seed, ACTION, env, step)) for env, row in enumerate(outputs)]
    kind, options = behaviour
    return {
        "network": index,
        "observations": numbers(observations),
        "behaviour": {kind: options} if options else kind,
        "seed": seed,
        "step": step,
        "actions": numbers([action for action, _ in drawn]),
        "log_probs": numbers([log_prob for _, log_prob in drawn]),
    }


def epsilon_count(seed, rows, epsilon, num_actions, greedy):
    """How often each action is taken by environments 0..rows at step 9."""
    counts = [0] * num_actions
    for env in range(rows):
        stream = Stream(seed, ACTION, env, 9)
        counts[stream.below(num_actions) if stream.unit() < epsilon else greedy] += 1
    return {"seed": seed, "step": 9, "epsilon": epsilon, "greedy": greedy, "counts": counts}


def main():
    random = np.random.default_rng(20240819)
    expectation = {"expectation": {}}
    c51 = {"categorical": {"num_atoms": 11, "v_min": -4.0, "v_max": 6.0}}
    quantiles = {"quantiles": {"num_quantiles": 7}}

    def values(num_actions, dueling, distribution, noisy):
        return "action_values", {
            "num_actions": num_actions,
            "dueling": dueling,
            "distribution": distribution,
            "noisy": noisy,
        }

    bounds = {"low": [-2.0, 0.0, -0.125], "high": [2.0, 0.5, 3.0]}
    networks = [
        Network(random, ("identity", 4), [16, 16], "relu", values(3, False, expectation, False)),
        Network(random, ("identity", 5), [20], "relu", values(4, True, expectation, False)),
        Network(random, ("identity", 3), [18], "tanh", values(5, False, c51, False)),
        Network(random, ("identity", 6), [9, 17], "relu", values(3, True, c51, True)),
        Network(random, ("identity", 2), [7], "relu", values(2, True, quantiles, False)),
        Network(random, ("identity", 3), [33], "relu", values(6, False, expectation, True)),
        Network(random, ("one_hot", 9), [], "relu", values(4, True, expectation, True)),
        Network(random, ("one_hot", 5), [6], "tanh", values(3, False, quantiles, True)),
        Network(random, ("identity", 4), [16], "relu", ("squashed_gaussian", bounds)),
        Network(random, ("identity", 7), [12, 5], "tanh", ("deterministic", bounds)),
    ]
    greedy, even = ("on_policy", {}), ("uniform", {})
    epsilon, noise = ("epsilon_greedy", {"epsilon": 0.375}), ("gaussian_noise", {"std": 0.25})
    behaviours = [
        (0, greedy), (0, even), (0, epsilon), (2, epsilon),
        (3, epsilon), (4, epsilon), (6, epsilon),
        (8, greedy), (8, even),
        (9, greedy), (9, even), (9, noise),
    ]
    draws = []
    for scale, log_std in [(1.0, -0.5), (8.0, 1.0), (20.0, 2.0), (2.0, 50.0)]:
        mean, u = given(random, 3, scale=scale), given(random, 3, scale=scale)
        draws.append((mean, np.full(3, log_std), u))
    mean = given(random, 3)
    draws.append((mean, np.full(3, -50.0), mean))
    series = [(0.4, 7.0, 8), (0.4, 7.0, 256), (0.3, 3.5, 2), (0.25, 7.0, 1)]
    golden = {
        "networks": [network_case(random, network) for network in networks],
        "behaviours": [behaviour_case(random, networks, *pair) for pair in behaviours],
        "epsilon_counts": [
            epsilon_count(7, 10_000, 0.3, 5, 2),
            epsilon_count(8, 10_000, 0.0, 3, 1),
            epsilon_count(9, 10_000, 1.0, 4, 0),
        ],
        "squashed_log_probs": [
            bounds
            | {
                "outputs": numbers([mean, log_std]),
                "draw": numbers(u),
                "log_prob": float(squashed_log_prob(bounds, mean, log_std, u)),
            }
            for mean, log_std, u in draws
        ],
        "ape_x": [
            {
                "base": base,
                "alpha": alpha,
                "num_shards": count,
                "epsilons": [base ** (1 + alpha * i / (count - 1)) if count > 1 else base for i in range(count)],
            }
            for base, alpha, count in series
        ],
    }
    parts = ",\n".join(
        json.dumps(name) + ": [\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]" for name, cases in golden.items()
    )
    print("{\n" + parts + "\n}")


if __name__ == "__main__":
    main()
