"""What plugd answers, as lines of text for people: pure functions, one module for each subject."""
