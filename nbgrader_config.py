"""nbgrader's configuration: `nbgrader` finds it when it is started in this folder."""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821  (nbgrader's loader defines it)

root = Path(__file__).resolve().parent

c.CourseDirectory.course_id = "dlcourse"
c.CourseDirectory.root = str(root)
# Any SQLAlchemy URL, for example postgresql+psycopg://grader@localhost/dlcourse.
c.CourseDirectory.db_url = f"sqlite:///{root / 'gradebook.db'}"

# nbgrader starts `alembic` by its name to make a gradebook; it stands beside this interpreter,
# which is not on the PATH where the environment is not activated.
scripts = str(Path(sys.executable).parent)
if scripts not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])

# nbgrader copies every file of an assignment's folder that is not ignored: a master beside its
# notebook would reach the students with all its solutions.
c.CourseDirectory.ignore = [
    ".ipynb_checkpoints",
    "__pycache__",
    "*.py",
    "*.py[co]",
    "feedback",
]

# `autograder.authoring.master.stub` makes the same of a region; a test compares the two.
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}

# Grading: `nbgrader autograde` and formgrader's button lead through the project's own judge. The
# first pass reads, runs and judges the notebook. The second enters the marks, with the late penalty
# of c.AssignLatePenalties.plugin_class, when the submission's last notebook is judged.
c.Autograde.exporter_class = "autograder.grading.nbgrader.TolerantExporter"
c.Autograde.sanitize_preprocessors = ["autograder.grading.nbgrader.JudgeNotebook"]
c.Autograde.autograde_preprocessors = ["autograder.grading.nbgrader.EnterMarks"]
