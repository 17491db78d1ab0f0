"""What runs beside the student's code. These modules import nothing of the rest of the autograder.

The folder is put on the student process's path by itself, as the package `inside`: no hidden check,
reference solution or mark is importable there.
"""
