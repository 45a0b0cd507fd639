"""Haystack: rank, retrieve and write with ColBERT as components (extra `haystack`)."""

from chandelier.extras import require

require("haystack", "haystack-ai", "haystack")
