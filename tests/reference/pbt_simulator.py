"""A simulator of population based training that shares no code with the package.

It keeps for every trial what really happened to its weights: the list of policies, one an epoch, that the
weights it holds now were trained under. Copying weights copies that list. It writes the two kinds of log that
Ray writes, stale
lines included: the file of a source that was never overwritten does not exist, so the target's old lines
    stay.
"""

import ast
import json
import random
from pathlib import Path

ZEROS = [0] * 60


class Simulation:
    """Trials that are copied now and then.

    Args:
        trials, epochs, interval: sizes.
        seed: base seed of every random stream.
        late: whether a source's copy may be one interval older than the target, as in asynchronous runs.
        beginning: the policy of each epoch for trials that were never overwritten; None is 60 zeros.
    """

    def __init__(self, trials, epochs, interval, seed, *, late=False, beginning=None):
        self.rng = random.Random(seed)
        self.epochs, self.interval, self.late = epochs, interval, late
        self.beginning = beginning or [ZEROS] * epochs
        self.current = [None] * trials  # policy in use; None: still the beginning
        self.past = [[] for _ in range(trials)]  # policies that today's weights were trained under
        self.files = {}  # trial -> lines of its file
        self.log = []
        self.rows = []  # the same exploits as plain tuples

    def policy(self, trial, epoch):
        return self.beginning[epoch] if self.current[trial] is None else self.current[trial]

    def train(self, trial, until):
        while len(self.past[trial]) < until:
            self.past[trial].append(self.policy(trial, len(self.past[trial])))

    def copy(self, target, source):
        epoch = len(self.past[source])
        old = self.policy(source, epoch)
        new = [self.rng.randint(0, 9 if i % 2 else 10) for i in range(60)]
        line = json.dumps(
            [
                str(target),
                str(source),
                len(self.past[target]) - 1,
                epoch,
                {"hp_policy": old},
                {"hp_policy": new},
            ]
        )
        self.log.append(line)
        self.rows.append((epoch, target, source, old, new))
        if source in self.files:
            self.files[target] = list(self.files[source])
        self.files.setdefault(target, []).append(line)
        self.past[target] = list(self.past[source])
        self.current[target] = new

    def run(self):
        trials = range(len(self.past))
        for boundary in range(self.interval, self.epochs, self.interval):
            if self.late:
                self._late_round(boundary)
            for trial in trials:
                self.train(trial, boundary)
            chosen = self.rng.sample(trials, 2 * max(1, len(self.past) // 4))
            half = len(chosen) // 2
            for target in sorted(chosen[:half]):
                self.copy(target, self.rng.choice(chosen[half:]))
        for trial in trials:
            self.train(trial, self.epochs)
        return self

    def _late_round(self, boundary):
        """A trial that is already at the boundary copies one that is not there yet."""
        first, second = self.rng.sample(range(len(self.past)), 2)
        if len(self.past[second]) == boundary - self.interval and len(self.past[second]) > 0:
            self.train(first, boundary)
            self.copy(first, second)

    def segments(self, trial):
        """(epochs, policy) of what the trial's final weights were trained under; equal neighbors are one."""
        found = []
        for policy in self.past[trial]:
            if found and found[-1][1] == policy:
                found[-1][0] += 1
            else:
                found.append([1, policy])
        return [(length, tuple(policy)) for length, policy in found]

    def write(self, folder: Path):
        """`pbt_global.txt` and the trials' files."""
        (folder / "pbt_global.txt").write_text("".join(line + "\n" for line in self.log))
        for trial, lines in self.files.items():
            (folder / f"pbt_policy_{trial}.txt").write_text("".join(line + "\n" for line in lines))


def parse_trial_file(lines, epochs):
    """The published rules for one trial's file: drop the stale head, then one segment for each line and one
    before."""
    rows = []
    for line in lines:
        row = json.loads(line) if line.lstrip().startswith('["') else ast.literal_eval(line)
        rows.append(
            [row[0], row[1], row[3], *(c["hp_policy"] if isinstance(c, dict) else c for c in row[4:])]
        )
    stale = [i for i in range(len(rows) - 1) if rows[i][0] != rows[i + 1][1]]
    rows = rows[stale[-1] + 1 :] if stale else rows
    if not rows:
        return [(epochs, tuple(ZEROS))]
    starts = [0, *(row[2] for row in rows), epochs]
    policies = [rows[0][3], *(row[4] for row in rows)]
    found = []
    for start, end, policy in zip(starts, starts[1:], policies, strict=False):
        if end > start and found and found[-1][1] == tuple(policy):
            found[-1] = (found[-1][0] + end - start, tuple(policy))
        elif end > start:
            found.append((end - start, tuple(policy)))
    return found
