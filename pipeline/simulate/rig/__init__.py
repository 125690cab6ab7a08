"""The rig: what is shown when, the eye camera, and the files of a recording."""
