"""Rates of stages as lines for the terminal."""

from collections.abc import Iterable

from transferset.rates import Rate, joint


def lines(rates: Iterable[Rate], actual: float) -> list[str]:
    """The measured stages, the prediction and how much of it was reached."""
    rates = list(rates)
    predicted = joint(rates)
    stages = [f"{r.stage:<22}{r.per_second:>9.0f} images/s{r.core_ms:>8.2f} core-ms/image" for r in rates]
    return [
        *stages,
        f"predicted joint rate {predicted:.0f}, measured {actual:.0f}, ratio {actual / predicted:.2f}",
    ]
