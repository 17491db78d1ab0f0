"""The instructor's side of the course: authoring, checks, grading. Never given to students."""
