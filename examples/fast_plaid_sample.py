"""pylate-rs's own sample of retrieval with fast-plaid, over chandelier: Paris's arrondissements, and five questions.

    python examples/fast_plaid_sample.py                            # its model, from the hub
    python examples/fast_plaid_sample.py --model your/colbert --index a/new/folder

What differs from the sample is the import, and that the model and the index have names of yours; without one the
index is temporary. Wants fast-plaid, and with it PyTorch: pip install fast-plaid. The sample makes one tensor of all
questions, so the model must fill them up to one length (query expansion). torch warns that a list of arrays is slow
to convert.
"""

# The calls are from the README of pylate-rs, https://github.com/lightonai/pylate-rs, by LightOn (MIT), and so are the
# texts, in arrondissements.py.

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from arrondissements import documents, queries
from fast_plaid import search

from chandelier import models

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--model", default="lightonai/GTE-ModernColBERT-v1", help="a folder or a name on the hub")
parser.add_argument("--index", help="a new folder for fast-plaid's index")
options = parser.parse_args()
if options.index and Path(options.index).exists():
    sys.exit(f"{options.index} exists, and fast-plaid deletes .json and .npy files of a folder: name a new one")
temporary = TemporaryDirectory()
index = options.index or temporary.name

model = models.ColBERT(
    model_name_or_path=options.model,
    device="cpu",  # "cuda", or "metal" for what is "mps" there
)

# Encoding documents
documents_embeddings = model.encode(
    sentences=documents,
    is_query=False,
    pool_factor=2,  # Let's divide the number of embeddings by 2.
)

# Creating the FastPlaid index
fast_plaid = search.FastPlaid(index=index)

fast_plaid.create(documents_embeddings=[torch.tensor(embedding) for embedding in documents_embeddings])

# We can then load the existing index and search for the most relevant documents:
fast_plaid = search.FastPlaid(index=index)

queries_embeddings = model.encode(
    sentences=queries,
    is_query=True,
)

scores = fast_plaid.search(
    queries_embeddings=torch.tensor(queries_embeddings),
    top_k=3,
)

print(scores)
temporary.cleanup()
