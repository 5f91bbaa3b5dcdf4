"""Writes the golden vectors of DQN, SAC and TD3 to learner/tests/golden/.

Independent of the Rust code: modules, autograd, distributions and Adam of PyTorch, in float64. Needs torch
and numpy; run from the root of the repository:

    python scripts/golden/off_policy.py
"""

import itertools
import json
import math
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from convolutions import Convolutions

DIRECTORY = pathlib.Path("learner/tests/golden")
torch.set_default_dtype(torch.float64)


def listed(values):
    """A flat list with nine significant digits, more than float32 holds."""
    if torch.is_tensor(values):
        values = values.detach().numpy()
    return [float(f"{float(v):.9g}") for v in np.asarray(values, dtype=np.float64).reshape(-1)]


def rounded(generator, *shape, scale=1.0):
    """Normal numbers that float32 holds exactly, so that both sides begin alike."""
    return torch.tensor((generator.normal(size=shape) * scale).astype(np.float32).astype(np.float64))


def write(name, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    (DIRECTORY / name).write_text(f"[\n{lines}\n]\n")


def flat(parameters):
    return torch.cat([p.reshape(-1) for p in parameters])


ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class Stack(nn.Module):
    """Fully connected layers; an activation behind all but the last."""

    def __init__(self, generator, widths, activation):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.weights = nn.ParameterList(
            nn.Parameter(rounded(generator, o, i, scale=0.6)) for i, o in itertools.pairwise(widths)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(rounded(generator, o, scale=0.3)) for o in widths[1:]
        )

    def forward(self, x):
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = functional.linear(x, weight, bias)
            if layer < last:
                x = self.activation(x)
        return x

    def in_order(self):
        return [p for pair in zip(self.weights, self.biases) for p in pair]


SMALL_IMAGE = {
    "planes": {"channels": 2, "rows": 6, "columns": 5},
    "stages": [
        {"convolution": {"channels": 3, "kernel": 3, "stride": 1}},
        {"convolution": {"channels": 2, "kernel": 2, "stride": 2}},
    ],
}
RESIDUAL_IMAGE = {
    "planes": {"channels": 1, "rows": 7, "columns": 6},
    "stages": [{"residual": {"channels": 2}}, {"residual": {"channels": 3}}],
}

# --- DQN ------------------------------------------------------------------------------------------


class QNetwork(nn.Module):
    """Hidden layers, a head, and for a dueling network a value stream; noisy where sigmas are given.
    Convolutions come before them where the case has an image."""

    def __init__(self, generator, case):
        super().__init__()
        self.case = case
        self.activation = ACTIVATIONS[case["activation"]]
        self.encoder = None
        if "image" in case:
            self.encoder = Convolutions(
                case["image"], lambda *s: rounded(generator, *s, scale=(math.prod(s[1:]) + 3) ** -0.5)
            )
        widths = [self.encoder.features if self.encoder else case["width"], *case["hidden"]]
        last = widths[-1]
        shapes = [(o, i) for i, o in itertools.pairwise(widths)]
        shapes.append((case["actions"] * case["outputs"], last))
        if case["dueling"]:
            shapes.append((case["outputs"], last))
        self.layers = nn.ParameterList()
        for shape in shapes:
            self.layers.append(nn.Parameter(rounded(generator, *shape, scale=0.6)))
            self.layers.append(nn.Parameter(rounded(generator, shape[0], scale=0.3)))
            if case["noisy"]:
                self.layers.append(nn.Parameter(rounded(generator, *shape, scale=0.2).abs()))
                self.layers.append(nn.Parameter(rounded(generator, shape[0], scale=0.2).abs()))

    def in_order(self):
        return [*(self.encoder.layers if self.encoder else []), *self.layers]

    def forward(self, x, noise):
        if self.encoder:
            x = self.encoder(x)
        step = 4 if self.case["noisy"] else 2
        layers = []
        for index in range(0, len(self.layers), step):
            weight, bias = self.layers[index], self.layers[index + 1]
            if self.case["noisy"]:
                weight = weight + self.layers[index + 2] * noise[index + 2]
                bias = bias + self.layers[index + 3] * noise[index + 3]
            layers.append((weight, bias))
        num_hidden = len(self.case["hidden"])
        for weight, bias in layers[:num_hidden]:
            x = self.activation(x @ weight.T + bias)
        weight, bias = layers[num_hidden]
        q = (x @ weight.T + bias).reshape(len(x), self.case["actions"], self.case["outputs"])
        if self.case["dueling"]:
            weight, bias = layers[num_hidden + 1]
            value = (x @ weight.T + bias).unsqueeze(1)
            q = value + q - q.mean(dim=1, keepdim=True)
        return q

    def noise(self, generator):
        return [rounded(generator, *p.shape, scale=0.5) for p in self.layers]

    def listed_noise(self, noise):
        """With zeros for the convolutions, which have none."""
        silent = [torch.zeros_like(p) for p in (self.encoder.layers if self.encoder else [])]
        return listed(flat([*silent, *noise]))


def support_of(case):
    return torch.linspace(case["v_min"], case["v_max"], case["outputs"])


def expected(case, q):
    if case["distribution"] == "categorical":
        return (q.softmax(-1) * support_of(case)).sum(-1)
    return q.mean(-1)


def projection(case, probabilities, returns, discounts):
    """Bellemare and others 2017, algorithm 1, one atom after the other."""
    atoms = case["outputs"]
    distance = (case["v_max"] - case["v_min"]) / (atoms - 1)
    support = support_of(case)
    m = torch.zeros_like(probabilities)
    for row in range(len(returns)):
        for j in range(atoms):
            moved = (returns[row] + discounts[row] * support[j]).clamp(case["v_min"], case["v_max"])
            b = float((moved - case["v_min"]) / distance)
            b = min(max(b, 0.0), atoms - 1.0)
            low, high = math.floor(b), math.ceil(b)
            if low == high:
                m[row, low] += probabilities[row, j]
            else:
                m[row, low] += probabilities[row, j] * (high - b)
                m[row, high] += probabilities[row, j] * (b - low)
    return m


def dqn_rows(case, outputs, following, returns, discounts):
    """The loss of each row and its surprise."""
    if case["distribution"] == "expectation":
        target = returns + discounts * following.squeeze(-1)
        error = outputs.squeeze(-1) - target
        if case["huber_threshold"] is None:
            return 0.5 * error**2, error.abs()
        return (
            functional.huber_loss(
                outputs.squeeze(-1), target, reduction="none", delta=case["huber_threshold"]
            ),
            error.abs(),
        )
    if case["distribution"] == "categorical":
        target = projection(case, following.softmax(-1), returns, discounts)
        rows = -(target * outputs.log_softmax(-1)).sum(-1)
        return rows, rows
    targets = returns.unsqueeze(-1) + discounts.unsqueeze(-1) * following
    count = case["outputs"]
    rows = torch.zeros(len(returns))
    for i in range(count):
        fraction = (i + 0.5) / count
        for j in range(count):
            u = targets[:, j] - outputs[:, i]
            weight = (fraction - (u.detach() < 0).to(u.dtype)).abs()
            threshold = case["huber_threshold"]
            if threshold is None:
                loss = u.abs()
            else:
                loss = functional.huber_loss(u, torch.zeros_like(u), reduction="none", delta=threshold)
                loss = loss / threshold
            rows = rows + weight * loss / count
    return rows, (targets.mean(-1) - outputs.mean(-1)).abs()


def dqn_cases():
    generator = np.random.default_rng(20)
    base = {
        "width": 3,
        "hidden": [6, 5],
        "activation": "relu",
        "actions": 3,
        "outputs": 1,
        "double": True,
        "dueling": False,
        "noisy": False,
        "distribution": "expectation",
        "v_min": -2.0,
        "v_max": 3.0,
        "huber_threshold": 1.0,
        "learning_rate": 2e-3,
        "adam_epsilon": 1e-8,
        "max_gradient_norm": 0.7,
    }
    variants = [
        {"name": "plain", "double": False},
        {"name": "double, squared error", "huber_threshold": None, "activation": "tanh"},
        {"name": "dueling", "dueling": True, "huber_threshold": 0.5},
        {"name": "noisy", "noisy": True},
        {"name": "linear", "hidden": []},
        {"name": "c51", "distribution": "categorical", "outputs": 6},
        {"name": "quantiles", "distribution": "quantiles", "outputs": 4},
        {"name": "plain quantiles", "distribution": "quantiles", "outputs": 3, "huber_threshold": None},
        {
            "name": "rainbow",
            "dueling": True,
            "noisy": True,
            "distribution": "categorical",
            "outputs": 6,
        },
        {"name": "image", "image": SMALL_IMAGE, "width": 60},
        {
            "name": "image, residual, dueling, noisy",
            "image": RESIDUAL_IMAGE,
            "width": 42,
            "dueling": True,
            "noisy": True,
        },
        {"name": "image, linear", "image": SMALL_IMAGE, "width": 60, "hidden": []},
    ]
    for variant in variants:
        case = base | variant
        online, target = QNetwork(generator, case), QNetwork(generator, case)
        rows = 7
        observations = rounded(generator, rows, case["width"])
        following = rounded(generator, rows, case["width"])
        actions = torch.tensor(generator.integers(case["actions"], size=rows))
        returns = rounded(generator, rows)
        # One row falls exactly onto the atoms, one is terminated, one leaves the support.
        returns[1], returns[2] = 1.0, 9.0
        discounts = torch.tensor([0.9, 0.0, 0.5, 0.0, 1.0, 0.875, 0.25])
        weights = torch.tensor([1.0, 0.5, 0.25, 1.0, 0.75, 0.125, 1.0])
        noises = [online.noise(generator) for _ in range(3)] if case["noisy"] else [None] * 3
        trained, chooses, of_target = noises
        initial, of_target_network = flat(online.in_order()), flat(target.in_order())

        with torch.no_grad():
            next_outputs = target(following, of_target)
            judge = online(following, chooses) if case["double"] else next_outputs
            best = expected(case, judge).argmax(-1)
            next_taken = next_outputs[torch.arange(rows), best]
        outputs = online(observations, trained)[torch.arange(rows), actions]
        losses, surprise = dqn_rows(case, outputs, next_taken, returns, discounts)
        total = (weights * losses).mean()
        optimiser = torch.optim.Adam(
            online.parameters(), lr=case["learning_rate"], eps=case["adam_epsilon"]
        )
        optimiser.zero_grad()
        total.backward()
        gradient = torch.cat(
            [
                (p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1)
                for p in online.in_order()
            ]
        )
        norm = nn.utils.clip_grad_norm_(online.parameters(), case["max_gradient_norm"])
        optimiser.step()
        yield case | {
            "initial": listed(initial),
            "target": listed(of_target_network),
            "observations": listed(observations),
            "next_observations": listed(following),
            "batch_actions": listed(actions),
            "returns": listed(returns),
            "discounts": listed(discounts),
            "weights": listed(weights),
            "noises": [online.listed_noise(n) for n in noises] if case["noisy"] else [],
            "expected": {
                "loss": float(total),
                "rows": listed(losses),
                "surprise": listed(surprise),
                "gradient": listed(gradient),
                "gradient_norm": float(norm),
                "parameters": listed(flat(online.in_order())),
            },
        }


# --- SAC ------------------------------------------------------------------------------------------


def squashed(policy, observations, noise):
    """Draws through PyTorch's own transformed distribution."""
    mean, log_std = policy(observations).chunk(2, dim=-1)
    normal = torch.distributions.Normal(mean, log_std.clamp(-20.0, 2.0).exp())
    u = normal.mean + normal.stddev * noise
    distribution = torch.distributions.TransformedDistribution(
        normal, [torch.distributions.TanhTransform(cache_size=1)]
    )
    action = distribution.transforms[0](u)
    return action, distribution.log_prob(action).sum(-1)


def adam(parameters, case, rate):
    return torch.optim.Adam(parameters, lr=case[rate], eps=case["adam_epsilon"])


def sac_cases():
    generator = np.random.default_rng(21)
    base = {
        "width": 3,
        "hidden": [6, 5],
        "activation": "relu",
        "low": [-2.0, -1.0],
        "high": [2.0, 3.0],
        "actions": 0,
        "learning_rate": 1e-3,
        "critic_learning_rate": 2e-3,
        "temperature_learning_rate": 3e-3,
        "adam_epsilon": 1e-8,
        "initial_temperature": 0.25,
        "target_tau": 0.125,
        "policy_scale": 1.0,
    }
    variants = [
        {"name": "continuous"},
        {"name": "continuous, tanh, clamped deviations", "activation": "tanh", "policy_scale": 9.0},
        {"name": "discrete", "low": [], "high": [], "actions": 4},
    ]
    for variant in variants:
        case = base | variant
        discrete = case["actions"] > 0
        dimension = len(case["low"])
        policy_outputs = case["actions"] if discrete else 2 * dimension
        critic_inputs = case["width"] + (0 if discrete else dimension)
        critic_outputs = case["actions"] if discrete else 1
        policy = Stack(
            generator, [case["width"], *case["hidden"], policy_outputs], case["activation"]
        )
        with torch.no_grad():
            policy.biases[-1].mul_(case["policy_scale"])
        critic_widths = [critic_inputs, *case["hidden"], critic_outputs]
        critics = [Stack(generator, critic_widths, case["activation"]) for _ in range(2)]
        targets = [Stack(generator, critic_widths, case["activation"]) for _ in range(2)]
        of_critics = [p for critic in critics for p in critic.in_order()]
        of_targets = [p for critic in targets for p in critic.in_order()]
        rows = 6
        observations = rounded(generator, rows, case["width"])
        following = rounded(generator, rows, case["width"])
        returns, weights = rounded(generator, rows), torch.tensor([1.0, 0.5, 0.25, 1.0, 0.75, 1.0])
        discounts = torch.tensor([0.9, 0.0, 0.5, 0.99, 1.0, 0.25])
        log_alpha = nn.Parameter(torch.tensor([math.log(case["initial_temperature"])]))
        if discrete:
            actions = torch.tensor(generator.integers(case["actions"], size=(rows, 1)))
            next_noise = policy_noise = torch.zeros(0)
            aim = 0.89 * math.log(case["actions"])
        else:
            low, high = torch.tensor(case["low"]), torch.tensor(case["high"])
            unit = torch.tensor(generator.uniform(-1, 1, size=(rows, dimension)))
            actions = (low + (unit + 1) / 2 * (high - low)).to(torch.float32).to(torch.float64)
            next_noise = rounded(generator, rows, dimension)
            policy_noise = rounded(generator, rows, dimension)
            aim = -float(dimension)
        start = {
            "policy": listed(flat(policy.in_order())),
            "critics": listed(flat(of_critics)),
            "target_critics": listed(flat(of_targets)),
        }
        alpha = log_alpha.exp().item()

        # The critics.
        with torch.no_grad():
            if discrete:
                log_probs = policy(following).log_softmax(-1)
                least = torch.minimum(*[t(following) for t in targets])
                value = (log_probs.exp() * (least - alpha * log_probs)).sum(-1)
            else:
                next_action, next_log_prob = squashed(policy, following, next_noise)
                joined = torch.cat([following, next_action], 1)
                value = torch.minimum(*[t(joined).squeeze(-1) for t in targets])
                value = value - alpha * next_log_prob
            y = returns + discounts * value
        if discrete:
            values = [c(observations).gather(1, actions).squeeze(-1) for c in critics]
        else:
            scaled = 2 * (actions - low) / (high - low) - 1
            joined = torch.cat([observations, scaled], 1)
            values = [c(joined).squeeze(-1) for c in critics]
        critic_loss = sum((weights * 0.5 * (v - y) ** 2).mean() for v in values)
        critic_adam = adam(of_critics, case, "critic_learning_rate")
        critic_gradient = torch.autograd.grad(critic_loss, of_critics)
        for p, g in zip(of_critics, critic_gradient):
            p.grad = g
        critic_adam.step()

        # The policy, with the critics as they are now.
        if discrete:
            log_probs = policy(observations).log_softmax(-1)
            least = torch.minimum(*[c(observations) for c in critics]).detach()
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            policy_loss = (log_probs.exp() * (alpha * log_probs - least)).sum(-1).mean()
        else:
            action, log_prob = squashed(policy, observations, policy_noise)
            joined = torch.cat([observations, action], 1)
            least = torch.minimum(*[c(joined).squeeze(-1) for c in critics])
            entropy = -log_prob
            policy_loss = (alpha * log_prob - least).mean()
        of_policy = policy.in_order()
        policy_gradient = torch.autograd.grad(policy_loss, of_policy)
        policy_adam = adam(of_policy, case, "learning_rate")
        for p, g in zip(of_policy, policy_gradient):
            p.grad = g
        policy_adam.step()

        # The temperature and the targets.
        temperature_adam = adam([log_alpha], case, "temperature_learning_rate")
        temperature_loss = (log_alpha * (entropy.detach().mean() - aim)).sum()
        temperature_adam.zero_grad()
        temperature_loss.backward()
        temperature_adam.step()
        with torch.no_grad():
            for t, p in zip(of_targets, of_critics):
                t.lerp_(p, case["target_tau"])

        yield case | start | {
            "observations": listed(observations),
            "next_observations": listed(following),
            "batch_actions": listed(actions),
            "returns": listed(returns),
            "discounts": listed(discounts),
            "weights": listed(weights),
            "next_noise": listed(next_noise),
            "policy_noise": listed(policy_noise),
            "expected": {
                "critic_loss": float(critic_loss),
                "critic_gradient": listed(flat(critic_gradient)),
                "critics": listed(flat(of_critics)),
                "policy_gradient": listed(flat(policy_gradient)),
                "policy": listed(flat(of_policy)),
                "entropy": float(entropy.mean()),
                "log_temperature": float(log_alpha),
                "target_critics": listed(flat(of_targets)),
            },
        }


# --- TD3 ------------------------------------------------------------------------------------------


def td3_cases():
    generator = np.random.default_rng(34)
    base = {
        "width": 3,
        "hidden": [6, 5],
        "activation": "relu",
        "low": [-2.0, -1.0],
        "high": [2.0, 3.0],
        "learning_rate": 1e-3,
        "critic_learning_rate": 2e-3,
        "adam_epsilon": 1e-8,
        "target_tau": 0.125,
        "target_noise": 0.2,
        "target_noise_clip": 0.5,
        "policy_scale": 1.0,
    }
    variants = [
        {"name": "continuous"},
        {"name": "tanh, noise often clipped", "activation": "tanh", "target_noise": 1.5},
        {"name": "saturated", "policy_scale": 5.0, "target_noise_clip": 0.1},
    ]
    for variant in variants:
        case = base | variant
        dimension = len(case["low"])
        policy_widths = [case["width"], *case["hidden"], dimension]
        critic_widths = [case["width"] + dimension, *case["hidden"], 1]
        policy, target_policy = (
            Stack(generator, policy_widths, case["activation"]) for _ in range(2)
        )
        with torch.no_grad():
            for network in (policy, target_policy):
                network.biases[-1].mul_(case["policy_scale"])
        critics = [Stack(generator, critic_widths, case["activation"]) for _ in range(2)]
        targets = [Stack(generator, critic_widths, case["activation"]) for _ in range(2)]
        of_critics = [p for critic in critics for p in critic.in_order()]
        of_targets = [p for critic in targets for p in critic.in_order()]
        rows = 6
        observations = rounded(generator, rows, case["width"])
        following = rounded(generator, rows, case["width"])
        returns, weights = rounded(generator, rows), torch.tensor([1.0, 0.5, 0.25, 1.0, 0.75, 1.0])
        discounts = torch.tensor([0.9, 0.0, 0.5, 0.99, 1.0, 0.25])
        low, high = torch.tensor(case["low"]), torch.tensor(case["high"])
        unit = torch.tensor(generator.uniform(-1, 1, size=(rows, dimension)))
        actions = (low + (unit + 1) / 2 * (high - low)).to(torch.float32).to(torch.float64)
        noise = rounded(generator, rows, dimension)
        start = {
            "policy": listed(flat(policy.in_order())),
            "target_policy": listed(flat(target_policy.in_order())),
            "critics": listed(flat(of_critics)),
            "target_critics": listed(flat(of_targets)),
        }

        # The critics.
        with torch.no_grad():
            clip = case["target_noise_clip"]
            smoothing = (noise * case["target_noise"]).clamp(-clip, clip)
            next_action = (torch.tanh(target_policy(following)) + smoothing).clamp(-1, 1)
            joined = torch.cat([following, next_action], 1)
            y = returns + discounts * torch.minimum(*[t(joined).squeeze(-1) for t in targets])
        joined = torch.cat([observations, 2 * (actions - low) / (high - low) - 1], 1)
        values = [c(joined).squeeze(-1) for c in critics]
        critic_loss = sum((weights * 0.5 * (v - y) ** 2).mean() for v in values)
        critic_adam = adam(of_critics, case, "critic_learning_rate")
        critic_gradient = torch.autograd.grad(critic_loss, of_critics)
        for p, g in zip(of_critics, critic_gradient):
            p.grad = g
        critic_adam.step()

        # The policy, with the first critic as it is now.
        joined = torch.cat([observations, torch.tanh(policy(observations))], 1)
        policy_value = critics[0](joined).mean()
        of_policy = policy.in_order()
        policy_gradient = torch.autograd.grad(-policy_value, of_policy)
        policy_adam = adam(of_policy, case, "learning_rate")
        for p, g in zip(of_policy, policy_gradient):
            p.grad = g
        policy_adam.step()

        with torch.no_grad():
            pairs = zip([*of_targets, *target_policy.in_order()], [*of_critics, *of_policy])
            for t, p in pairs:
                t.lerp_(p, case["target_tau"])

        yield case | start | {
            "observations": listed(observations),
            "next_observations": listed(following),
            "batch_actions": listed(actions),
            "returns": listed(returns),
            "discounts": listed(discounts),
            "weights": listed(weights),
            "noise": listed(noise),
            "expected": {
                "critic_loss": float(critic_loss),
                "critic_gradient": listed(flat(critic_gradient)),
                "critics": listed(flat(of_critics)),
                "policy_value": float(policy_value),
                "policy_gradient": listed(flat(policy_gradient)),
                "policy": listed(flat(of_policy)),
                "target_critics": listed(flat(of_targets)),
                "target_policy": listed(flat(target_policy.in_order())),
            },
        }


write("dqn_steps.json", dqn_cases())
write("sac_steps.json", sac_cases())
write("td3_steps.json", td3_cases())
