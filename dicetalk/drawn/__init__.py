"""Procedurally drawn talking heads with synthetic voices; training and evaluation of the small model on them."""
