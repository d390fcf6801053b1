"""Where a run is."""

from dataclasses import dataclass, field


@dataclass
class Progression:
    """Where a run is: what a checkpoint holds beside the tensors. `scores`: (step, score) of all evaluations;
    `divided`: (step, parts of a batch from that step on), where the memory did not suffice for fewer."""

    step: int = 0
    scores: list[tuple[int, float]] = field(default_factory=list)
    skipped: int = 0
    skipped_in_row: int = 0
    divided: list[tuple[int, int]] = field(default_factory=list)

    def best(self) -> tuple[int, float] | None:
        """Step and score of the best evaluation, the earliest of equals."""
        return max(self.scores, key=lambda entry: (entry[1], -entry[0]), default=None)

    def since_best(self) -> int:
        """How many evaluations have brought nothing better."""
        best = self.best()
        return sum(step > best[0] for step, _ in self.scores) if best else 0
