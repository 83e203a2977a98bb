"""FITS world coordinates: a raw's header cards, and the pointing that follows from them."""
