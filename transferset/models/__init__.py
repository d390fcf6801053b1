"""Models by spec: weights, preprocessing, fingerprint and the runtime that a frozen model runs on."""
