"""Searches for the architecture of highest score within the budgets."""
