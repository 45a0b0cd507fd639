"""Stores over an engine of points, as Qdrant has them and Weaviate's objects are: a UUID, named vectors and a payload.

`Operations` says what a store does, as steps that know neither threads nor event loops; an `Engine` says how one engine
is asked; `chandelier.qdrant`, `chandelier.qdrant_edge` and `chandelier.weaviate` put the two together.
"""
