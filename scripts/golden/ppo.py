"""Writes the golden vectors of the learner's mathematics to learner/tests/golden/.

Independent of the Rust code: modules and autograd of PyTorch, its distributions, its Adam and its
clip_grad_norm_, all in float64; advantages as explicit sums over each episode. Needs torch and
numpy; run from the root of the repository:

    python scripts/golden/ppo.py
"""

import json
import pathlib

import numpy as np
import torch
from torch import nn

from convolutions import Convolutions

DIRECTORY = pathlib.Path("learner/tests/golden")


def listed(values):
    """A flat list with nine significant digits, more than float32 holds."""
    if torch.is_tensor(values):
        values = values.detach().numpy()
    return [float(f"{float(v):.9g}") for v in np.asarray(values, dtype=np.float64).reshape(-1)]


def write(name, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    (DIRECTORY / name).write_text(f"[\n{lines}\n]\n")


# --- advantages -----------------------------------------------------------------------------------


def advantages_of(rewards, terminated, truncated, values, finals, discount, lam):
    """Advantages [T, B] by their definition: a sum of discounted errors up to the episode's end."""
    steps, envs = rewards.shape
    advantages = np.zeros((steps, envs))
    for b in range(envs):
        for t in range(steps):
            for k in range(t, steps):
                if terminated[k, b]:
                    following = 0.0
                elif truncated[k, b]:
                    following = finals[(k, b)]
                else:
                    following = values[k + 1, b]
                error = rewards[k, b] + discount * following - values[k, b]
                advantages[t, b] += (discount * lam) ** (k - t) * error
                if terminated[k, b] or truncated[k, b]:
                    break
    return advantages


def timeline(generator, steps, envs, p_terminated, p_truncated):
    rewards = generator.normal(size=(steps, envs)).astype(np.float32)
    terminated = generator.random((steps, envs)) < p_terminated
    truncated = generator.random((steps, envs)) < p_truncated
    cut = [(t, b) for t in range(steps) for b in range(envs) if truncated[t, b]]
    return rewards, terminated, truncated, cut


def returns_cases():
    generator = np.random.default_rng(1)
    cases = []
    for name, steps, envs, p_terminated, p_truncated, discount, lam in [
        ("no episode ends", 6, 3, 0.0, 0.0, 0.99, 0.95),
        ("terminated only", 8, 3, 0.3, 0.0, 0.99, 0.95),
        ("truncated only", 8, 3, 0.0, 0.3, 0.99, 0.95),
        ("both, also at once", 12, 5, 0.3, 0.4, 0.9, 0.8),
        ("one step", 1, 4, 0.3, 0.4, 0.97, 0.95),
        ("every step truncated", 4, 2, 0.0, 1.0, 0.99, 0.95),
        ("lambda one", 9, 2, 0.1, 0.2, 0.95, 1.0),
        ("lambda zero", 9, 2, 0.1, 0.2, 0.95, 0.0),
    ]:
        rewards, terminated, truncated, cut = timeline(
            generator, steps, envs, p_terminated, p_truncated
        )
        values = generator.normal(size=(steps + 1, envs)).astype(np.float32)
        finals = {place: np.float32(generator.normal()) for place in cut}
        advantages = advantages_of(rewards, terminated, truncated, values, finals, discount, lam)
        cases.append(
            {
                "name": name,
                "num_envs": envs,
                "discount": discount,
                "lambda": lam,
                "rewards": listed(rewards),
                "terminated": terminated.reshape(-1).tolist(),
                "truncated": truncated.reshape(-1).tolist(),
                "values": listed(values),
                "final_values": [[t * envs + b, listed(finals[(t, b)])[0]] for t, b in cut],
                "advantages": listed(advantages),
                "returns": listed(advantages + values[:-1]),
            }
        )
    return cases


# --- networks and losses --------------------------------------------------------------------------


class ActorCritic(nn.Module):
    def __init__(self, inputs, hidden, activation, head, outputs, shared, image=None):
        super().__init__()
        self.policy_encoder = self.critic_encoder = None
        if image is not None:
            self.policy_encoder = Convolutions(image, torch.zeros)
            self.critic_encoder = self.policy_encoder if shared else Convolutions(image, torch.zeros)
            inputs = self.policy_encoder.features
        activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]

        def trunk():
            layers, width = [], inputs
            for size in hidden:
                layers += [nn.Linear(width, size), activation()]
                width = size
            return nn.Sequential(*layers)

        self.policy_trunk = trunk()
        self.policy_head = nn.Linear(hidden[-1], outputs)
        if head == "diagonal_gaussian":
            self.log_std = nn.Parameter(torch.zeros(outputs))
        self.head = head
        self.critic_trunk = nn.Identity() if shared else trunk()
        self.critic_head = nn.Linear(hidden[-1], 1)
        self.shared = shared

    def in_order(self):
        """The parameters in the order of the flat tensor."""
        tensors = [*self.policy_trunk.parameters(), *self.policy_head.parameters()]
        if self.policy_encoder is not None:
            tensors = [*self.policy_encoder.layers, *tensors]
        if self.head == "diagonal_gaussian":
            tensors.append(self.log_std)
        if self.policy_encoder is not None and not self.shared:
            tensors += self.critic_encoder.layers
        return tensors + [*self.critic_trunk.parameters(), *self.critic_head.parameters()]

    def forward(self, inputs):
        seen, judged = inputs, inputs
        if self.policy_encoder is not None:
            seen, judged = self.policy_encoder(inputs), self.critic_encoder(inputs)
        features = self.policy_trunk(seen)
        values = self.critic_head(features if self.shared else self.critic_trunk(judged))
        outputs = self.policy_head(features)
        if self.head == "categorical":
            policy = torch.distributions.Categorical(logits=outputs)
        else:
            normal = torch.distributions.Normal(outputs, self.log_std.exp())
            policy = torch.distributions.Independent(normal, 1)
        return policy, values.squeeze(-1)


def make_network(generator, case):
    torch.manual_seed(int(generator.integers(1 << 30)))
    encoded = case["num_categories"] if case["encoder"] == "one_hot" else case["width"]
    network = ActorCritic(
        encoded,
        case["hidden"],
        case["activation"],
        case["head"],
        case["outputs"],
        case["critic"] == "shared",
        case.get("image"),
    ).double()
    with torch.no_grad():
        for tensor in network.in_order():
            scale = 0.6 if tensor.dim() < 4 else (tensor[0].numel() + 3) ** -0.5
            tensor.copy_((scale * torch.randn_like(tensor)).float())
    return network


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def loss_of(network, case, rows):
    policy, values = network(rows["inputs"])
    log_ratio = policy.log_prob(rows["actions"]) - rows["log_probs"]
    ratio = log_ratio.exp()
    advantages = rows["advantages"]
    if case["normalise"]:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clip = case["clip_range"]
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    policy_loss = -surrogate.mean()
    errors = (values - rows["returns"]) ** 2
    if case["value_clip_range"] is not None:
        old, limit = rows["old_values"], case["value_clip_range"]
        held = old + (values - old).clamp(-limit, limit)
        errors = torch.max(errors, (held - rows["returns"]) ** 2)
    value_loss = errors.mean()
    entropy = policy.entropy().mean()
    total = policy_loss + case["value_coefficient"] * value_loss
    total = total - case["entropy_coefficient"] * entropy
    return total, {
        "total": total.item(),
        "policy_loss": policy_loss.item(),
        "value_loss": value_loss.item(),
        "entropy": entropy.item(),
        "approximate_kl": ((ratio - 1) - log_ratio).mean().item(),
        "clip_fraction": ((ratio - 1).abs() > clip).double().mean().item(),
    }


def gradient_step(network, optimiser, case, rows):
    total, expected = loss_of(network, case, rows)
    optimiser.zero_grad()
    total.backward()
    expected["gradient"] = listed(flat([tensor.grad for tensor in network.in_order()]))
    norm = nn.utils.clip_grad_norm_(network.parameters(), case["max_gradient_norm"])
    expected["gradient_norm"] = norm.item()
    optimiser.step()
    expected["parameters"] = listed(flat(network.in_order()))
    return expected


def make_optimiser(network, case):
    return torch.optim.Adam(
        network.parameters(),
        lr=case["learning_rate"],
        betas=(case["adam_beta1"], case["adam_beta2"]),
        eps=case["adam_epsilon"],
    )


def draw_observations(generator, case, count):
    """Raw observation values [count, width] and what the network sees of them."""
    if case["encoder"] == "identity":
        raw = generator.normal(size=(count, case["width"])).astype(np.float32)
        return raw, torch.tensor(raw).double()
    if case["encoder"] == "image":
        raw = generator.random(size=(count, case["width"])).astype(np.float32)
        return raw, torch.tensor(raw).double()
    raw = generator.integers(case["num_categories"], size=(count, 1))
    return raw, nn.functional.one_hot(torch.tensor(raw[:, 0]), case["num_categories"]).double()


OPTIONS = {
    "width": 3,
    "num_categories": 5,
    "encoder": "identity",
    "hidden": [5, 4],
    "activation": "tanh",
    "head": "categorical",
    "outputs": 3,
    "critic": "separate",
    "normalise": True,
    "clip_range": 0.2,
    "value_clip_range": None,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.01,
    "max_gradient_norm": 0.5,
    "learning_rate": 0.003,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-5,
}


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


def step_cases():
    generator = np.random.default_rng(2)
    cases = []
    for head in ["categorical", "diagonal_gaussian"]:
        for critic in ["separate", "shared"]:
            for value_clip_range in [None, 0.2]:
                name = f"{head}, {critic}, value clip {value_clip_range}"
                change = {"head": head, "critic": critic, "value_clip_range": value_clip_range}
                cases.append(OPTIONS | {"name": name} | change)
    cases += [
        OPTIONS | {"name": "relu, one-hot", "activation": "relu", "encoder": "one_hot", "width": 1},
        OPTIONS | {"name": "short gradient, not clipped", "max_gradient_norm": 100.0},
        OPTIONS | {"name": "advantages as they are", "normalise": False},
        OPTIONS | {"name": "no entropy bonus", "entropy_coefficient": 0.0},
    ]
    for critic, image in [("shared", SMALL_IMAGE), ("separate", RESIDUAL_IMAGE)]:
        change = {"encoder": "image", "image": image, "critic": critic, "activation": "relu"}
        width = int(np.prod(list(image["planes"].values())))
        cases.append(OPTIONS | {"name": f"image, {critic}", "width": width} | change)
    count = 12
    for case in cases:
        network = make_network(generator, case)
        case["initial"] = listed(flat(network.in_order()))
        raw, inputs = draw_observations(generator, case, count)
        with torch.no_grad():
            policy, values = network(inputs)
            actions = policy.sample().double().numpy().astype(np.float32)
            actions = torch.tensor(actions).double()
            # Ratios on both sides of the clip range, for advantages of both signs.
            noise = torch.tensor(generator.normal(scale=0.3, size=count))
            log_probs = (policy.log_prob(actions) + noise).float().double()
            drawn = generator.normal(size=(3, count)).astype(np.float32)
            advantages, errors, moves = torch.tensor(drawn).double()
            rows = {
                "inputs": inputs,
                "actions": actions,
                "log_probs": log_probs,
                "advantages": advantages,
                "returns": (values + errors).float().double(),
                "old_values": (values + 0.5 * moves).float().double(),
            }
        case["observations"] = listed(raw)
        for key in ["actions", "log_probs", "advantages", "returns", "old_values"]:
            case[key] = listed(rows[key])
        optimiser = make_optimiser(network, case)
        # Two steps: the second sees moments and bias corrections that are not those of the first.
        case["steps"] = [gradient_step(network, optimiser, case, rows) for _ in range(2)]
    return cases


def update_cases():
    """Whole updates with one minibatch an epoch, in which the order of the rows has no part."""
    generator = np.random.default_rng(3)
    cases = []
    for name, change in [
        ("categorical", {}),
        ("gaussian, shared", {"head": "diagonal_gaussian", "critic": "shared"}),
        ("one-hot, value clip", {"encoder": "one_hot", "width": 1, "value_clip_range": 0.1}),
    ]:
        case = OPTIONS | {"name": name, "discount": 0.97, "gae_lambda": 0.9, "epochs": 3} | change
        network = make_network(generator, case)
        case["initial"] = listed(flat(network.in_order()))
        case["shards"] = []
        observed, acted, final_raw, advantages, returns, old_values = [], [], [], [], [], []
        final_inputs = 0
        for steps, envs in [(4, 2), (3, 3)]:
            rewards, terminated, truncated, cut = timeline(generator, steps, envs, 0.2, 0.2)
            raw, inputs = draw_observations(generator, case, (steps + 1) * envs)
            raw_last, last = draw_observations(generator, case, len(cut))
            with torch.no_grad():
                values = network(inputs)[1].numpy().reshape(steps + 1, envs)
                last_values = network(last)[1].numpy()
            finals = dict(zip(cut, last_values))
            gains = advantages_of(
                rewards, terminated, truncated, values, finals, case["discount"], case["gae_lambda"]
            )
            case["shards"].append(
                {
                    "num_envs": envs,
                    "rewards": listed(rewards),
                    "terminated": terminated.reshape(-1).tolist(),
                    "truncated": truncated.reshape(-1).tolist(),
                }
            )
            observed += listed(raw)
            final_raw += listed(raw_last)
            final_inputs += len(cut)
            acted.append(inputs[: steps * envs])
            advantages.append(gains.reshape(-1))
            returns.append((gains + values[:-1]).reshape(-1))
            old_values.append(values[:-1].reshape(-1))
        assert final_inputs > 0
        inputs = torch.cat(acted)
        with torch.no_grad():
            policy, _ = network(inputs)
            actions = torch.tensor(policy.sample().double().numpy().astype(np.float32)).double()
            noise = torch.tensor(generator.normal(scale=0.1, size=len(inputs)))
            log_probs = (policy.log_prob(actions) + noise).float().double()
        rows = {
            "inputs": inputs,
            "actions": actions,
            "log_probs": log_probs,
            "advantages": torch.tensor(np.concatenate(advantages)),
            "returns": torch.tensor(np.concatenate(returns)),
            "old_values": torch.tensor(np.concatenate(old_values)),
        }
        case["observations"] = observed + final_raw
        case["actions"] = listed(actions)
        case["log_probs"] = listed(log_probs)
        targets, old = rows["returns"], rows["old_values"]
        optimiser = make_optimiser(network, case)
        steps = [gradient_step(network, optimiser, case, rows) for _ in range(case["epochs"])]
        keys = ["policy_loss", "value_loss", "entropy", "approximate_kl", "clip_fraction"]
        case["expected"] = {
            key: float(np.mean([step[key] for step in steps])) for key in [*keys, "gradient_norm"]
        } | {
            "explained_variance": float(1 - (targets - old).var() / targets.var()),
            "parameters": steps[-1]["parameters"],
        }
        cases.append(case)
    return cases


if __name__ == "__main__":
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    write("returns.json", returns_cases())
    write("ppo_steps.json", step_cases())
    write("ppo_updates.json", update_cases())
