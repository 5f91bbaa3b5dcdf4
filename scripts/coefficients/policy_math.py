"""Derives the coefficients of `common/src/policy/math.rs` (needs mpmath).

Each approximation is the minimax one in the sense of the relative error of the whole function, found
by Remez's exchange algorithm in 60-digit arithmetic. Printed are the coefficients rounded to
binary32, lowest power first, and the error before and after that rounding.

    python3 scripts/coefficients/policy_math.py
"""

import struct

import mpmath as mp

mp.mp.dps = 60
GRID = 1000


def to_binary32(value):
    """The binary32 number nearest to `value`, exactly."""
    return mp.mpf(struct.unpack("<f", struct.pack("<f", float(value)))[0])


def shortest(value):
    """The shortest decimal that reads back as the same binary32 number."""
    exact = float(value)
    for digits in range(1, 10):
        text = f"{exact:.{digits}e}"
        if struct.pack("<f", float(text)) == struct.pack("<f", exact):
            return text
    raise AssertionError(exact)


def evaluate(coefficients, y):
    return mp.polyval(coefficients[::-1], y)


def remez(target, weight, nodes, numerator, denominator):
    """Minimises max |weight(x) * (P(x) / Q(x) - target(x))| over the nodes."""
    count, last = numerator + denominator + 2, len(nodes) - 1
    targets = [target(x) for x in nodes]
    weights = [weight(x) for x in nodes]
    reference = [round(i * last / (count - 1)) for i in range(count)]
    for _ in range(60):
        p, q = levelled([(nodes[i], targets[i], weights[i]) for i in reference], numerator, nodes)
        errors = [
            w * (evaluate(p, x) / evaluate(q, x) - t) for x, t, w in zip(nodes, targets, weights)
        ]
        # One extremum from each run of equal sign; the largest alternating stretch is kept.
        extrema = [0]
        for i in range(1, last + 1):
            if (errors[i] > 0) == (errors[extrema[-1]] > 0):
                if abs(errors[i]) > abs(errors[extrema[-1]]):
                    extrema[-1] = i
            else:
                extrema.append(i)
        while len(extrema) > count:
            extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
        assert len(extrema) == count, (len(extrema), count)
        if extrema == reference:
            break
        reference = extrema
    return p, q, max(abs(e) for e in errors)


def levelled(points, numerator, nodes):
    """Solves P(x) = Q(x) * (target + sign * E / weight) at the points with alternating signs.

    That is a generalised eigenvalue problem in the coefficients; the solution sought is the one
    whose Q keeps its sign over the whole interval.
    """
    count = len(points)
    left, right = mp.zeros(count, count), mp.zeros(count, count)
    for row, (x, target, weight) in enumerate(points):
        for column in range(count):
            if column <= numerator:
                left[row, column] = x**column
            else:
                power = x ** (column - numerator - 1)
                left[row, column] = -target * power
                right[row, column] = (-1) ** row * power / weight
    values, vectors = mp.eig(mp.inverse(left) * right)
    for _, column in sorted((-abs(v), i) for i, v in enumerate(values)):
        scale = vectors[numerator + 1, column]
        if abs(values[column]) < mp.mpf(10) ** -20 or abs(scale) < mp.mpf(10) ** -40:
            continue
        solution = [vectors[i, column] / scale for i in range(count)]
        if max(abs(mp.im(c)) for c in solution) > mp.mpf(10) ** -20:
            continue
        p = [mp.re(c) for c in solution[: numerator + 1]]
        q = [mp.re(c) for c in solution[numerator + 1 :]]
        if all(evaluate(q, x) > 0 for x in nodes):
            return p, q
    raise AssertionError("no pole-free solution on this reference")


def report(name, target, weight, nodes, numerator, denominator=0):
    p, q, error = remez(target, weight, nodes, numerator, denominator)
    # In a quotient only ratios matter: the pair is scaled so that the numerator starts at one.
    p, q = ([c / p[0] for c in r] for r in (p, q)) if denominator else (p, q)
    p, q = ([to_binary32(c) for c in r] for r in (p, q))
    rounded = max(
        abs(weight(x) * (evaluate(p, x) / evaluate(q, x) - target(x))) for x in nodes
    )
    print(f"{name}: relative error {mp.nstr(error, 3)}, rounded {mp.nstr(rounded, 3)}")
    print("  P", [shortest(c) for c in p])
    if denominator:
        print("  Q", [shortest(c) for c in q])


def chebyshev(low, high):
    """Nodes that crowd towards both ends of the interval."""
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle - half * mp.cos(mp.pi * i / GRID) for i in range(GRID + 1)]


def main():
    tiny = mp.mpf(10) ** -18

    # tanh(x) = x * P(x^2) / Q(x^2) up to where tanh rounds to one.
    limit = to_binary32(9.02)
    squares = [x**2 for x in chebyshev(mp.mpf(0), limit)]
    ratio = lambda y: mp.tanh(mp.sqrt(y + tiny)) / mp.sqrt(y + tiny)
    report("tanh", ratio, lambda y: 1 / ratio(y), squares, 4, 4)

    # exp(r) = 1 + r + r^2 * P(r) for |r| <= ln(2) / 2.
    half = mp.log(2) / 2 * mp.mpf("1.0001")
    rest = lambda r: (mp.exp(r + tiny) - 1 - (r + tiny)) / (r + tiny) ** 2
    report("exp", rest, lambda r: r**2 * mp.exp(-r) + tiny, chebyshev(-half, half), 4)

    # ln(1 + f) = f - f^2 / 2 + f^3 * P(f) for 1 + f in [sqrt(1/2), sqrt(2)].
    low, high = mp.sqrt(0.5) - 1, mp.sqrt(2) - 1
    cubic = lambda f: (mp.log1p(f + tiny) - (f + tiny) + (f + tiny) ** 2 / 2) / (f + tiny) ** 3
    weight = lambda f: abs(f**3 / mp.log1p(f + tiny)) + tiny
    report("ln", cubic, weight, chebyshev(low, high), 7)

    high = to_binary32(mp.log(2) - mp.fmod(mp.log(2), mp.mpf(2) ** -15))
    print("ln(2) high", shortest(high), "low", shortest(to_binary32(mp.log(2) - high)))


if __name__ == "__main__":
    main()
