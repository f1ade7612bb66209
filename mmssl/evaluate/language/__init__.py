"""Evaluations of a method that brings pictures and words into one space."""
