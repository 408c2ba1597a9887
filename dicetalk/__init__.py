"""DICE-Talk: one portrait, recorded speech and an emotion become a talking-head video."""
