"""Opens the doors: the command line, the settings and the demo."""
