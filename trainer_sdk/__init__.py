"""How the trainer talks: what was asked, what is told, where files go. Imports no torch and none of mm*."""
