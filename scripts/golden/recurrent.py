"""Writes the golden vectors of recurrent policies: `common/tests/golden/recurrent.json` (forward
passes from the definitions, with NumPy in float64) and `learner/tests/golden/ppo_recurrent.json`
(whole updates with PyTorch's cells, autograd and Adam, in float64). Independent of the Rust code;
run from the root of the repository:

    python scripts/golden/recurrent.py
"""

import json
import pathlib

import numpy as np
import torch
from torch import nn

import ppo
from ppo import flat, listed


def write(path, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    pathlib.Path(path).write_text(f"[\n{lines}\n]\n")


# --- forward passes -------------------------------------------------------------------------------


def given(generator, *shape, scale=1.0):
    """Multiples of 1/1024, which are exact in float32."""
    return np.round(generator.normal(scale=scale, size=shape) * 1024) / 1024


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def cell_step(cell, x, state, weight_ih, bias_ih, weight_hh, bias_hh):
    """The state after one step, from the equations."""
    units = weight_hh.shape[1]
    hidden = state[:, :units]
    from_input = x @ weight_ih.T + bias_ih
    from_state = hidden @ weight_hh.T + bias_hh
    if cell == "lstm":
        i, f, g, o = np.split(from_input + from_state, 4, axis=1)
        memory = sigmoid(f) * state[:, units:] + sigmoid(i) * np.tanh(g)
        return np.concatenate([sigmoid(o) * np.tanh(memory), memory], axis=1)
    x_r, x_z, x_n = np.split(from_input, 3, axis=1)
    u_r, u_z, u_n = np.split(from_state, 3, axis=1)
    reset, update = sigmoid(x_r + u_r), sigmoid(x_z + u_z)
    candidate = np.tanh(x_n + reset * u_n)
    return (1 - update) * candidate + update * hidden


def forward_case(generator, encoder, hidden, activation, cell, units, head, steps=5, envs=3):
    (encoder_kind, inputs), (head_kind, outputs) = encoder, head
    gates = {"lstm": 4, "gru": 3}[cell] * units
    state_width = {"lstm": 2, "gru": 1}[cell] * units

    def dense(out, into):
        return given(generator, out, into, scale=1 / np.sqrt(into)), given(generator, out, scale=0.3)

    widths = [inputs, *hidden]
    trunk = [dense(out, into) for into, out in zip(widths, widths[1:])]
    recurrent = [*dense(gates, widths[-1]), *dense(gates, units)]
    last = dense(outputs, units)
    tensors = [tensor for layer in trunk for tensor in layer] + recurrent + [*last]
    parameters = [x for tensor in tensors for x in tensor.ravel()]
    if head_kind == "diagonal_gaussian":
        parameters += given(generator, outputs, scale=0.5).tolist()

    initial = given(generator, envs, state_width, scale=0.5)
    ended = generator.random((steps, envs)) < 0.25
    assert ended[:-1].any()
    if encoder_kind == "one_hot":
        observations = generator.integers(inputs, size=(steps, envs, 1)).astype(float)
        seen = np.eye(inputs)[observations[..., 0].astype(int)]
    else:
        observations = seen = given(generator, steps, envs, inputs, scale=2.0)
    state, results = initial, []
    for t in range(steps):
        x = seen[t]
        for weight, bias in trunk:
            x = x @ weight.T + bias
            x = np.tanh(x) if activation == "tanh" else np.maximum(x, 0.0)
        state = cell_step(cell, x, state, *recurrent)
        results.append(state[:, :units] @ last[0].T + last[1])
        state = np.where(ended[t][:, None], 0.0, state)
    extent = "n" if encoder_kind == "one_hot" else "width"
    return {
        "spec": {
            "encoder": {encoder_kind: {extent: inputs}},
            "hidden": hidden,
            "activation": activation,
            "recurrent": {"cell": cell, "units": units},
            "head": {
                head_kind: {"num_actions" if head_kind == "categorical" else "dimension": outputs}
            },
        },
        "parameters": [float(p) for p in parameters],
        "initial_state": initial.ravel().tolist(),
        "observations": observations.ravel().tolist(),
        "ended": ended.ravel().tolist(),
        "outputs": np.stack(results).ravel().tolist(),
        "last_state": state.ravel().tolist(),
    }


def forward_cases():
    generator = np.random.default_rng(17)
    categorical, gaussian = ("categorical", 3), ("diagonal_gaussian", 2)
    for cell in ["lstm", "gru"]:
        yield forward_case(generator, ("identity", 4), [8], "tanh", cell, 8, categorical)
        yield forward_case(generator, ("identity", 5), [7, 9], "relu", cell, 5, gaussian)
        yield forward_case(generator, ("identity", 3), [], "tanh", cell, 11, categorical)
        yield forward_case(generator, ("one_hot", 6), [], "tanh", cell, 4, categorical)
        yield forward_case(generator, ("one_hot", 6), [5], "tanh", cell, 17, gaussian)


# --- updates --------------------------------------------------------------------------------------


class RecurrentActorCritic(ppo.ActorCritic):
    """The shared trunk, PyTorch's cell, two heads; shards are computed step by step."""

    def __init__(self, case):
        super().__init__(
            case["width"], case["hidden"], case["activation"], case["head"], case["outputs"], True
        )
        units = case["recurrent"]["units"]
        kind = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[case["recurrent"]["cell"]]
        self.cell = kind(case["hidden"][-1], units)
        self.units = units
        self.policy_head = nn.Linear(units, case["outputs"])
        self.critic_head = nn.Linear(units, 1)

    def in_order(self):
        cell = self.cell
        tensors = [*self.policy_trunk.parameters()]
        tensors += [cell.weight_ih, cell.bias_ih, cell.weight_hh, cell.bias_hh]
        tensors += [*self.policy_head.parameters()]
        if self.head == "diagonal_gaussian":
            tensors.append(self.log_std)
        return tensors + [*self.critic_head.parameters()]

    def step(self, inputs, state):
        features = self.policy_trunk(inputs)
        if isinstance(self.cell, nn.LSTMCell):
            state = torch.cat(self.cell(features, tuple(state.split(self.units, dim=1))), dim=1)
        else:
            state = self.cell(features, state)
        return state[:, : self.units], state

    def walk(self, shard):
        """Outputs and the states that each row has left, row after row of [T, B, ..]."""
        state, outputs, states = shard["state"], [], []
        for t, inputs in enumerate(shard["inputs"]):
            if t > 0:
                state = torch.where(shard["ended"][t - 1][:, None], torch.zeros_like(state), state)
            hidden, state = self.step(inputs, state)
            outputs.append(hidden)
            states.append(state)
        return torch.stack(outputs), torch.stack(states)

    def forward(self, shards):
        steps = [self.walk(shard)[0][:-1].reshape(-1, self.units) for shard in shards]
        features = torch.cat(steps)
        values = self.critic_head(features).squeeze(-1)
        outputs = self.policy_head(features)
        if self.head == "categorical":
            return torch.distributions.Categorical(logits=outputs), values
        normal = torch.distributions.Normal(outputs, self.log_std.exp())
        return torch.distributions.Independent(normal, 1), values


def update_cases():
    generator = np.random.default_rng(18)
    torch.manual_seed(18)
    for cell in ["lstm", "gru"]:
        for head in ["categorical", "diagonal_gaussian"]:
            yield update_case(generator, cell, head)


def update_case(generator, cell, head):
    units, steps = 4, 5
    state_width = {"lstm": 2, "gru": 1}[cell] * units
    case = ppo.OPTIONS | {
        "name": f"{cell}, {head}",
        "head": head,
        "critic": "shared",
        "recurrent": {"cell": cell, "units": units},
        "discount": 0.97,
        "gae_lambda": 0.9,
        "epochs": 3,
        "hidden": [5],
        "shards": [],
        "observations": [],
        "initial_states": [],
    }
    network = RecurrentActorCritic(case).double()
    with torch.no_grad():
        for tensor in network.in_order():
            tensor.copy_((0.6 * torch.randn_like(tensor)).float())
    case["initial"] = listed(flat(network.in_order()))
    shards, last_rows, all_values, last_values = [], [], [], []
    advantages, returns, old_values = [], [], []
    for envs in [2, 3]:
        rewards, terminated, truncated, cut = ppo.timeline(generator, steps, envs, 0.15, 0.2)
        truncated &= ~terminated
        cut = [(t, b) for t, b in cut if truncated[t, b]]
        ended = terminated | truncated
        assert ended[:-1].any() and cut
        raw, inputs = ppo.draw_observations(generator, case, (steps + 1) * envs)
        raw_last, last = ppo.draw_observations(generator, case, len(cut))
        state = generator.normal(scale=0.5, size=(envs, state_width)).astype(np.float32)
        # An episode that begins with the unroll.
        state[0] = 0.0
        shard = {
            "inputs": inputs.reshape(steps + 1, envs, -1),
            "state": torch.tensor(state).double(),
            "ended": torch.tensor(ended),
        }
        shards.append(shard)
        with torch.no_grad():
            outputs, states = network.walk(shard)
            values = network.critic_head(outputs).squeeze(-1).numpy()
            finals = {}
            for (t, b), observation in zip(cut, last):
                hidden, _ = network.step(observation[None], states[t, b][None])
                finals[(t, b)] = network.critic_head(hidden).item()
        gains = ppo.advantages_of(
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
        case["observations"] += listed(raw)
        case["initial_states"] += listed(state)
        last_rows += listed(raw_last)
        all_values += listed(values)
        last_values += listed(list(finals.values()))
        advantages.append(gains.reshape(-1))
        returns.append((gains + values[:-1]).reshape(-1))
        old_values.append(values[:-1].reshape(-1))
    case["observations"] += last_rows
    with torch.no_grad():
        policy, _ = network(shards)
        actions = torch.tensor(policy.sample().double().numpy().astype(np.float32)).double()
        exact = policy.log_prob(actions)
        noise = torch.tensor(generator.normal(scale=0.1, size=len(exact)))
        log_probs = (exact + noise).float().double()
    rows = {
        "inputs": shards,
        "actions": actions,
        "log_probs": log_probs,
        "advantages": torch.tensor(np.concatenate(advantages)),
        "returns": torch.tensor(np.concatenate(returns)),
        "old_values": torch.tensor(np.concatenate(old_values)),
    }
    case["actions"] = listed(actions)
    case["log_probs"] = listed(log_probs)
    case["exact_log_probs"] = listed(exact)
    case["values"] = all_values + last_values
    targets, old = rows["returns"], rows["old_values"]
    optimiser = ppo.make_optimiser(network, case)
    taken = [ppo.gradient_step(network, optimiser, case, rows) for _ in range(case["epochs"])]
    keys = ["policy_loss", "value_loss", "entropy", "approximate_kl", "clip_fraction"]
    case["gradient"] = taken[0]["gradient"]
    case["expected"] = {
        key: float(np.mean([step[key] for step in taken])) for key in [*keys, "gradient_norm"]
    } | {
        "explained_variance": float(1 - (targets - old).var() / targets.var()),
        "parameters": taken[-1]["parameters"],
    }
    return case


if __name__ == "__main__":
    write("common/tests/golden/recurrent.json", forward_cases())
    write("learner/tests/golden/ppo_recurrent.json", update_cases())
