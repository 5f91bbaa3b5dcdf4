"""Writes the golden vectors of V-trace and of the algorithms that use it to learner/tests/golden/.

Independent of the Rust code: targets as the explicit sums of Espeholt and others 2018, equation 1,
in float64 NumPy; losses, gradients and steps with PyTorch's modules, distributions, autograd and Adam
in float64. Needs torch and numpy; run from the root of the repository:

    python scripts/golden/vtrace.py
"""

import numpy as np
import torch

from ppo import (
    OPTIONS,
    draw_observations,
    flat,
    gradient_step,
    listed,
    make_network,
    make_optimiser,
    timeline,
    write,
)


def vtrace_of(rewards, terminated, truncated, values, finals, ratios, options):
    """Targets and advantages [T, B]: for every step the sum over the rest of its episode."""
    steps, envs = rewards.shape
    gamma, lam = options["discount"], options["lambda"]
    rho = np.minimum(options["rho_clip"], ratios)
    c = lam * np.minimum(options["c_clip"], ratios)

    def following(t, b, of_next_row):
        """What comes after step t: nothing, the final observation's value, or the next row's."""
        if terminated[t, b]:
            return 0.0
        if truncated[t, b]:
            return float(finals[(t, b)])
        return of_next_row[t + 1, b]

    values = values.astype(np.float64)
    targets = values.copy()
    for b in range(envs):
        for s in range(steps):
            trace = 1.0
            for t in range(s, steps):
                error = rewards[t, b] + gamma * following(t, b, values) - values[t, b]
                targets[s, b] += gamma ** (t - s) * trace * rho[t, b] * error
                trace *= c[t, b]
                if terminated[t, b] or truncated[t, b]:
                    break
    advantages = np.zeros((steps, envs))
    for b in range(envs):
        for t in range(steps):
            advantages[t, b] = rewards[t, b] + gamma * following(t, b, targets) - values[t, b]
    if options["policy_rho_clip"] is not None:
        advantages = advantages * np.minimum(options["policy_rho_clip"], ratios)
    return targets[:-1], advantages


def vtrace_cases():
    generator = np.random.default_rng(11)
    cases = []
    plain = {
        "discount": 0.99,
        "lambda": 1.0,
        "rho_clip": 1.0,
        "c_clip": 1.0,
        "policy_rho_clip": 1.0,
    }
    for name, steps, envs, p_terminated, p_truncated, change in [
        ("no episode ends", 7, 3, 0.0, 0.0, {}),
        ("terminated only", 9, 3, 0.3, 0.0, {}),
        ("truncated only", 9, 3, 0.0, 0.3, {}),
        ("both, also at once", 12, 5, 0.3, 0.4, {"discount": 0.9}),
        ("one step", 1, 4, 0.3, 0.4, {}),
        ("every step truncated", 4, 2, 0.0, 1.0, {}),
        ("lambda below one", 9, 2, 0.1, 0.2, {"lambda": 0.7}),
        ("lambda zero", 9, 2, 0.1, 0.2, {"lambda": 0.0}),
        (
            "three clips that differ",
            10,
            4,
            0.1,
            0.1,
            {"rho_clip": 2.5, "c_clip": 0.8, "policy_rho_clip": 1.4, "lambda": 0.9},
        ),
        ("advantages without their weight", 10, 4, 0.1, 0.1, {"policy_rho_clip": None}),
        ("on policy", 10, 4, 0.1, 0.1, {"scale": 0.0}),
    ]:
        options = plain | change
        scale = options.pop("scale", 0.7)
        rewards, terminated, truncated, cut = timeline(
            generator, steps, envs, p_terminated, p_truncated
        )
        values = generator.normal(size=(steps + 1, envs)).astype(np.float32)
        finals = {place: np.float32(generator.normal()) for place in cut}
        log_ratios = (scale * generator.normal(size=(steps, envs))).astype(np.float32)
        ratios = np.exp(log_ratios.astype(np.float64))
        targets, advantages = vtrace_of(
            rewards, terminated, truncated, values, finals, ratios, options
        )
        cases.append(
            {"name": name, "num_envs": envs}
            | options
            | {
                "rewards": listed(rewards),
                "terminated": terminated.reshape(-1).tolist(),
                "truncated": truncated.reshape(-1).tolist(),
                "values": listed(values),
                "final_values": [[t * envs + b, listed(finals[(t, b)])[0]] for t, b in cut],
                "log_ratios": listed(log_ratios),
                "targets": listed(targets),
                "advantages": listed(advantages),
                "rho_fraction": float((ratios > options["rho_clip"]).mean()),
                "c_fraction": float((ratios > options["c_clip"]).mean()),
            }
        )
    return cases


VTRACE = {
    "discount": 0.97,
    "lambda": 0.9,
    "rho_clip": 1.2,
    "c_clip": 0.9,
    "policy_rho_clip": 1.1,
}


def draw_round(generator, case):
    """Two shards of different extents: columns for the case, and the rows on which steps acted."""
    case["shards"] = []
    shards, observed, last_observed, acted = [], [], [], []
    for steps, envs in [(4, 2), (3, 3)]:
        rewards, terminated, truncated, cut = timeline(generator, steps, envs, 0.2, 0.2)
        raw, inputs = draw_observations(generator, case, (steps + 1) * envs)
        raw_last, last = draw_observations(generator, case, len(cut))
        case["shards"].append(
            {
                "num_envs": envs,
                "rewards": listed(rewards),
                "terminated": terminated.reshape(-1).tolist(),
                "truncated": truncated.reshape(-1).tolist(),
            }
        )
        shards.append((rewards, terminated, truncated, cut, inputs, last))
        observed += listed(raw)
        last_observed += listed(raw_last)
        acted.append(inputs[: steps * envs])
    assert last_observed, "some step is truncated"
    case["observations"] = observed + last_observed
    return shards, torch.cat(acted)


def act(generator, network, inputs, scale):
    """Actions of the network, with log-probabilities of another policy around it."""
    with torch.no_grad():
        policy, _ = network(inputs)
        actions = torch.tensor(policy.sample().double().numpy().astype(np.float32)).double()
        noise = torch.tensor(generator.normal(scale=scale, size=len(inputs)))
        return actions, (policy.log_prob(actions) + noise).float().double()


def estimates_of(network, shards, rows, options):
    """V-trace of every shard under the present parameters: targets, advantages and ratios."""
    targets, advantages, ratios, first = [], [], [], 0
    with torch.no_grad():
        policy, _ = network(rows["inputs"])
        every_ratio = (policy.log_prob(rows["actions"]) - rows["log_probs"]).exp().numpy()
        for rewards, terminated, truncated, cut, inputs, last in shards:
            steps, envs = rewards.shape
            ratio = every_ratio[first : first + steps * envs].reshape(steps, envs)
            first += steps * envs
            values = network(inputs)[1].numpy().reshape(steps + 1, envs)
            finals = dict(zip(cut, network(last)[1].numpy())) if cut else {}
            target, advantage = vtrace_of(
                rewards, terminated, truncated, values, finals, ratio, options
            )
            targets.append(target.reshape(-1))
            advantages.append(advantage.reshape(-1))
            ratios.append(ratio.reshape(-1))
    together = [torch.tensor(np.concatenate(part)) for part in (targets, advantages, ratios)]
    return dict(zip(["targets", "advantages", "ratios"], together))


def impala_step(network, optimiser, case, shards, rows):
    """One gradient step: the loss is written out, the gradient is autograd's."""
    estimates = estimates_of(network, shards, rows, case)
    policy, values = network(rows["inputs"])
    log_probs = policy.log_prob(rows["actions"])
    policy_loss = -(estimates["advantages"] * log_probs).mean()
    value_loss = 0.5 * ((estimates["targets"] - values) ** 2).mean()
    entropy = policy.entropy().mean()
    total = policy_loss + case["value_coefficient"] * value_loss
    total = total - case["entropy_coefficient"] * entropy
    optimiser.zero_grad()
    total.backward()
    tensors = [t.grad for t in network.in_order()]
    expected = {
        "total": total.item(),
        "policy_loss": policy_loss.item(),
        "value_loss": value_loss.item(),
        "entropy": entropy.item(),
        "rho_clip_fraction": (estimates["ratios"] > case["rho_clip"]).double().mean().item(),
        "c_clip_fraction": (estimates["ratios"] > case["c_clip"]).double().mean().item(),
        "log_ratio": estimates["ratios"].log().abs().mean().item(),
        "explained_variance": float(
            1
            - (estimates["targets"] - values.detach()).var() / estimates["targets"].var()
        ),
        "gradient": listed(flat(tensors)),
    }
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), case["max_gradient_norm"])
    expected["gradient_norm"] = norm.item()
    optimiser.step()
    expected["parameters"] = listed(flat(network.in_order()))
    return expected


def impala_cases():
    generator = np.random.default_rng(12)
    cases = []
    for name, change in [
        ("categorical", {}),
        ("categorical, shared", {"critic": "shared", "activation": "relu"}),
        ("gaussian", {"head": "diagonal_gaussian"}),
        ("gaussian, shared", {"head": "diagonal_gaussian", "critic": "shared"}),
        ("one-hot", {"encoder": "one_hot", "width": 1}),
        ("short gradient, no entropy", {"max_gradient_norm": 100.0, "entropy_coefficient": 0.0}),
    ]:
        case = OPTIONS | VTRACE | {"name": name} | change
        network = make_network(generator, case)
        case["initial"] = listed(flat(network.in_order()))
        shards, inputs = draw_round(generator, case)
        actions, log_probs = act(generator, network, inputs, 0.4)
        rows = {"inputs": inputs, "actions": actions, "log_probs": log_probs}
        case["actions"] = listed(actions)
        case["log_probs"] = listed(log_probs)
        optimiser = make_optimiser(network, case)
        # The second step is off policy by one more update, and has moments of Adam behind it.
        case["steps"] = [impala_step(network, optimiser, case, shards, rows) for _ in range(2)]
        cases.append(case)
    return cases


def ppo_cases():
    """Whole updates of PPO on advantages of V-trace, with one minibatch an epoch."""
    generator = np.random.default_rng(13)
    cases = []
    for name, change in [
        ("categorical", {}),
        ("gaussian, shared", {"head": "diagonal_gaussian", "critic": "shared"}),
    ]:
        case = OPTIONS | {"name": name, "epochs": 3} | change
        options = VTRACE | {"policy_rho_clip": None}
        case |= {
            "discount": options["discount"],
            "gae_lambda": options["lambda"],
            "vtrace_rho_clip": options["rho_clip"],
            "vtrace_c_clip": options["c_clip"],
        }
        network = make_network(generator, case)
        case["initial"] = listed(flat(network.in_order()))
        shards, inputs = draw_round(generator, case)
        actions, log_probs = act(generator, network, inputs, 0.3)
        rows = {"inputs": inputs, "actions": actions, "log_probs": log_probs}
        estimates = estimates_of(network, shards, rows, options)
        with torch.no_grad():
            old_values = network(inputs)[1]
        rows |= {
            "advantages": estimates["advantages"],
            "returns": estimates["targets"],
            "old_values": old_values,
        }
        case["actions"] = listed(actions)
        case["log_probs"] = listed(log_probs)
        optimiser = make_optimiser(network, case)
        steps = [gradient_step(network, optimiser, case, rows) for _ in range(case["epochs"])]
        keys = ["policy_loss", "value_loss", "entropy", "approximate_kl", "clip_fraction"]
        targets = rows["returns"]
        case["expected"] = {
            key: float(np.mean([step[key] for step in steps])) for key in [*keys, "gradient_norm"]
        } | {
            "explained_variance": float(1 - (targets - old_values).var() / targets.var()),
            "parameters": steps[-1]["parameters"],
            "rho_clip_fraction": float((estimates["ratios"] > options["rho_clip"]).double().mean()),
            "c_clip_fraction": float((estimates["ratios"] > options["c_clip"]).double().mean()),
        }
        cases.append(case)
    return cases


if __name__ == "__main__":
    write("vtrace.json", vtrace_cases())
    write("impala_steps.json", impala_cases())
    write("ppo_vtrace_updates.json", ppo_cases())
