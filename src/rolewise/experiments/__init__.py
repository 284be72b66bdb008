"""The paper's tables and figure, and a study, as ordinary runs: cells, arms, a plan, its work, claims, statistics."""
