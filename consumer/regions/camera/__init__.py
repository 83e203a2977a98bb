"""Camera geometry: the model, the files that describe cameras (``data/``), and what a file is checked for."""
