"""Explain many images into a folder.

`run.explain_folder` is the loop: what an earlier run has done (`resume`), one color scale, then batches side by side
(`workers`), each from its files to its lines of the manifest (`batches`, `writing`, `manifest`).
"""
