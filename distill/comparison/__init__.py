"""The comparison: rows of methods and columns of transfer sets, label budgets and seeds, from one recipe."""
