"""Files that survive: atomic writes, journals, and the shelves of devices and predictors."""
