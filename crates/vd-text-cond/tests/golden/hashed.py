"""The hashed embedding of one prompt, worked out apart from the Rust code: python3 hashed.py."""
import math

MASK = (1 << 64) - 1


def fnv1a(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def splitmix(state):
    state = (state + 0x9E3779B97F4A7C15) & MASK
    x = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return state, x ^ (x >> 31)


# "a red firework"
weights = {"a": 1.0, "red": 1.0, "firework": 1.0, "a red": 0.5, "red firework": 0.5}
norm = math.sqrt(sum(w * w for w in weights.values()))
row = [0.0] * 4
for feature in sorted(weights):
    state = fnv1a(feature.encode())
    for i in range(4):
        state, bits = splitmix(state)
        row[i] += weights[feature] / norm * math.sqrt(3) * (2 * (bits >> 11) / 2**53 - 1)
print(row)
