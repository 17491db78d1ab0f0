"""What instructors and students read after grading: feedback pages and the class report."""
