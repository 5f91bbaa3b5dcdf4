"""Writes the golden traces of the environments that show images to tests/golden/environments/.

    python3 scripts/golden/images.py

Both games are written down here a second time, independently of the actor, with the standard library
alone: Catch of bsuite (Osband et al. 2020) and Breakout of MinAtar (Young and Tian 2019). Catch is in the
format of `environments.py`. A line of Breakout is

    row, column, down, right, last_row, last_column, paddle, bricks, struck   the board before the step
    action
    next_row, ..., next_struck                                                the board after it
    observation   the planes [4, 10, 10] after it, in order, as hexadecimal digits of four bits
    reward, terminated

where `bricks` has bit `10 r + c` for the brick in row `r + 1` and column `c`.
"""

import random
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "environments"


def write(name, comment, header, rows):
    lines = [comment, ",".join(header), *(",".join(map(str, row)) for row in rows)]
    (FOLDER / f"{name}.csv").write_text("\n".join(lines) + "\n")


def catch():
    rng = random.Random(3)
    rows = []
    for episode in range(40):
        ball, paddle = episode % 5, 2
        for elapsed in range(1, 10):
            if episode < 10:
                # Straight to the ball.
                action = 1 + (ball > paddle) - (ball < paddle)
            elif episode < 20:
                # Against an edge.
                action = 2 * (episode % 2)
            else:
                action = rng.randrange(3)
            before = [elapsed - 1, ball, paddle]
            paddle = min(max(paddle + action - 1, 0), 4)
            plane = [[0] * 5 for _ in range(10)]
            plane[elapsed][ball] = plane[9][paddle] = 1
            done = elapsed == 9
            reward = (1 if ball == paddle else -1) if done else 0
            rows.append(
                [*before, action, elapsed, ball, paddle, *sum(plane, [])]
                + [reward, int(done), 0, elapsed]
            )
    header = [f"state_{i}" for i in range(3)] + ["action"] + [f"next_{i}" for i in range(3)]
    header += [f"observation_{i}" for i in range(50)]
    write("catch", "# Catch-v0", header + ["reward", "terminated", "truncated", "elapsed"], rows)


class Breakout:
    """The board by coordinates: x to the right, y down; the ball moves by (dx, dy)."""

    def __init__(self, side):
        self.x, self.dx = (0, 1) if side == "left" else (9, -1)
        self.y, self.dy = 3, 1
        self.last = (self.x, self.y)
        self.paddle = 4
        self.wall = {(x, y) for y in (1, 2, 3) for x in range(10)}
        self.struck = False

    def step(self, move):
        """`move` is the paddle's: -1, 0 or 1. Gives reward, loss, and what happened."""
        self.paddle = max(0, min(9, self.paddle + move))
        old_x, old_y = self.last = (self.x, self.y)
        x, y = old_x + self.dx, old_y + self.dy
        events = set()
        if not 0 <= x <= 9:
            x, self.dx = old_x, -self.dx
            events.add("side")
        reward, lost, in_brick = 0, False, False
        if y < 0:
            y, self.dy = 0, 1
            events.add("ceiling")
        elif (x, y) in self.wall:
            in_brick = True
            if self.struck:
                events.add("through")
            else:
                self.wall.remove((x, y))
                reward, y, self.dy = 1, old_y, -self.dy
                events.add("brick")
        elif y == 9:
            if not self.wall:
                self.wall = {(a, b) for b in (1, 2, 3) for a in range(10)}
                events.add("renewed")
            if self.paddle == old_x:
                y, self.dy = old_y, -self.dy
                events.add("paddle")
            elif self.paddle == x:
                y, self.dx, self.dy = old_y, -self.dx, -self.dy
                events.add("corner")
            else:
                lost = True
                events.add("lost")
        self.struck = in_brick
        self.x, self.y = x, y
        return reward, lost, events

    def fields(self):
        bricks = sum(1 << (10 * (y - 1) + x) for x, y in self.wall)
        state = [self.y, self.x, int(self.dy > 0), int(self.dx > 0), self.last[1], self.last[0]]
        return [*state, self.paddle, bricks, int(self.struck)]

    def observation(self):
        cells = [(0, 9, self.paddle), (1, self.y, self.x), (2, self.last[1], self.last[0])]
        cells += [(3, y, x) for x, y in self.wall]
        bits = ["0"] * 400
        for plane, y, x in cells:
            bits[100 * plane + 10 * y + x] = "1"
        return f"{int(''.join(bits), 2):0100x}"


def follow(game, rng, step):
    """Below the ball, at random on either side of where it will be, so that all bricks are met."""
    aim = game.x if step % 2 else game.x + game.dx
    if game.y < 7:
        aim += rng.choice([-1, 0, 0, 1])
    return (aim > game.paddle) - (aim < game.paddle)


def below(game, rng, step):
    """Where the ball will come down, or, now and then, only where it would turn at the corner."""
    aim = game.x + (game.dx if rng.random() < 0.4 else 0)
    return (aim > game.paddle) - (aim < game.paddle)


def breakout():
    rng = random.Random(4)
    rows, seen = [], {}
    for episode in range(60):
        game = Breakout("left" if episode % 2 else "right")
        for step in range(1500):
            if episode % 3 == 0:
                move = rng.choice([-1, 0, 1])
            else:
                move = (follow if episode % 3 == 1 else below)(game, rng, step)
            before = game.fields()
            reward, lost, events = game.step(move)
            kept = episode < 6 and step < 40
            for event in [*events, "none"]:
                seen[event] = seen.get(event, 0) + 1
                kept = kept or event != "none" and (seen[event] <= 60 or event == "renewed")
            if kept:
                action = {0: 0, -1: 1, 1: 2}[move]
                rows.append([*before, action, *game.fields(), game.observation(), reward, int(lost)])
            if lost:
                break
    everything = "side ceiling through brick paddle corner lost renewed".split()
    assert min(seen[event] for event in everything) >= 10, seen
    names = "row column down right last_row last_column paddle bricks struck".split()
    header = [*names, "action", *(f"next_{n}" for n in names), "observation", "reward", "terminated"]
    write("minatar_breakout", "# Breakout-MinAtar-v0 sticky_actions=0", header, rows)


if __name__ == "__main__":
    catch()
    breakout()
