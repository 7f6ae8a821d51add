"""How Latchkey is put to work: on this machine (`local`), in containers, behind a proxy."""
