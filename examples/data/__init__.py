"""Where the data come from: readers of files and of packages that carry them, and what is made up for smoke runs."""
