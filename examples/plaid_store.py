"""pylate-rs's sample of retrieval in a store that changes: `python examples/plaid_store.py [MODEL_FOLDER]`.

Twenty texts would need no index, so Python's own reference stands between them.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from arrondissements import documents, named, queries
from python_docs import corpus, find_model, spread

from chandelier import Document
from chandelier.plaid import PlaidStore

model = find_model(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
passages, questions = corpus()
paris = [Document(f"paris {index}", text, {"source": "sample"}) for index, text in enumerate(documents)]

with TemporaryDirectory() as folder, PlaidStore(folder, model) as store:
    store.upsert([*spread(passages, 600), *paris])
    store.optimize()  # builds the index; call it after what adds much
    print(f"{store.count()} documents, segments of the index: {store.segments}")

    for query, hits in zip(queries, store.search_many(queries, k=1), strict=True):
        print(f"{query}\n  {hits[0].score:5.2f}  {hits[0].text}")
    assert [hits[0].id for hits in store.search_many(queries, k=1)] == [f"paris {index}" for index in named]

    # What is replaced or deleted needs no new index: the old text is gone at once, and the new one is found.
    text = "7th Arrondissement: Eiffel Tower, Musée d'Orsay, Champ de Mars."
    store.upsert([Document(f"paris {named[0]}", text, {"source": "note"})])
    store.delete([f"paris {named[1]}"])
    tower, quarter = store.search_many(queries[:2], k=1, filter={"source": {"$in": ["sample", "note"]}})
    print(f"\nreplaced: {tower[0].text}\nwithout the 5th: {quarter[0].text}")
    assert tower[0].text == text
    assert quarter[0].id != f"paris {named[1]}"

    print(f"\n{store.recall(spread(questions, 100), n_full_scores=[128, 256], depth=50)}")
