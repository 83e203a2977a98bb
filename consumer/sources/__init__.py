"""From files and notifications to events; no code outside of here reads a raw or its header."""
