//! Gymnasium's checks of actions, which hosts answer faster: the answers must be Gymnasium's.

use std::process::Command;

use crate::support::python;

/// Holds both answers side by side, for spaces and for what could be in them; prints how many were yes
/// and how many no.
const COMPARE: &str = r"
spaces = gymnasium.spaces
declared = [spaces.Discrete(1), spaces.Discrete(2), spaces.Discrete(5, start=-3), spaces.Discrete(3, start=2**63 - 3)]
declared += [spaces.Discrete(4, dtype=dtype) for dtype in (np.int8, np.uint8, np.int32)]
numbers = [-2**63, -4, -3, -1, 0, 1, 2, 3, 4, 127, 2**63 - 3, 2**63 - 1]
offered = [np.int64(number) for number in numbers] + numbers + [np.array(number) for number in numbers]
offered += [kind(number) for kind in (np.int8, np.uint8, np.int32, np.float32) for number in (0, 1, 3)]
offered += [np.array([1]), True, 1.0, None, '1']
choices = [spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 3], start=[-1, 4]), spaces.MultiDiscrete([[2, 3], [4, 5]])]
choices += [spaces.MultiDiscrete([100, 27], dtype=np.int8, start=[28, 101])]
rows = [[0, 0], [1, 2], [2, 0], [-1, 4], [0, 6], [0, 7], [-2, 4], [28, 101], [127, 127], [-128, 101]]
rows += [[[0, 0], [0, 0]], [[1, 2], [3, 4]], [[1, 3], [3, 4]], [0], [0, 0, 0], 0]
arrays = [np.array(row, dtype=dtype) for row in rows for dtype in (np.int64, np.int8, np.int32, np.float32)] + rows

def answer(contains, space, value):
    try:
        given = contains(space, value)
        return type(given), bool(given)
    except Exception as error:
        return type(error), str(error)

counts = {}
for space, values in [(space, offered) for space in declared] + [(space, arrays) for space in choices]:
    for value in values:
        expected = answer(originals[type(space)], space, value)
        got = answer(type(space).contains, space, value)
        assert got[1] == expected[1], (space, repr(value), expected, got)
        counts[expected[1]] = counts.get(expected[1], 0) + 1
print(counts[True], counts[False])
";

#[test]
fn actions_are_in_a_space_where_gymnasium_says_so() {
    let script = [
        "import numpy as np, gymnasium",
        "originals = {kind: kind.contains for kind in (gymnasium.spaces.Discrete, gymnasium.spaces.MultiDiscrete)}",
        include_str!("../../src/environments/hosted/checks.py"),
        "assert all(kind.contains is not contains for kind, contains in originals.items())",
        COMPARE,
    ];
    let output = Command::new(python())
        .args(["-W", "error", "-c", &script.join("\n")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let counts: Vec<u32> = said
        .split_whitespace()
        .map(|count| count.parse().unwrap())
        .collect();
    assert!(counts.iter().all(|count| *count > 30), "{counts:?}");
}
