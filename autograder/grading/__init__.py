"""Repair, run and judge submissions."""
