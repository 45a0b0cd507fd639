"""pylate-rs's own sample of retrieval with fast-plaid, over chandelier: Paris's arrondissements, and five questions.

    python examples/fast_plaid_sample.py                            # its model, from the hub
    python examples/fast_plaid_sample.py --model your/colbert --index a/new/folder

What differs from the sample is the import, and that the model and the index have names of yours; without one the
index is temporary. Wants fast-plaid, and with it PyTorch: pip install fast-plaid. The sample makes one tensor of all
questions, so the model must fill them up to one length (query expansion). torch warns that a list of arrays is slow
to convert.
"""

# The texts and the calls are from the README of pylate-rs, https://github.com/lightonai/pylate-rs, by LightOn (MIT).

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
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

documents = [
    "1st Arrondissement: Louvre, Tuileries Garden, Palais Royal, historic, tourist.",
    "2nd Arrondissement: Bourse, financial, covered passages, Sentier, business.",
    "3rd Arrondissement: Marais, Musée Picasso, galleries, trendy, historic.",
    "4th Arrondissement: Notre-Dame, Marais, Hôtel de Ville, LGBTQ+.",
    "5th Arrondissement: Latin Quarter, Sorbonne, Panthéon, student, intellectual.",
    "6th Arrondissement: Saint-Germain-des-Prés, Luxembourg Gardens, chic, artistic, cafés.",
    "7th Arrondissement: Eiffel Tower, Musée d'Orsay, Les Invalides, affluent, prestigious.",
    "8th Arrondissement: Champs-Élysées, Arc de Triomphe, luxury, shopping, Élysée.",
    "9th Arrondissement: Palais Garnier, department stores, shopping, theaters.",
    "10th Arrondissement: Gare du Nord, Gare de l'Est, Canal Saint-Martin.",
    "11th Arrondissement: Bastille, nightlife, Oberkampf, revolutionary, hip.",
    "12th Arrondissement: Bois de Vincennes, Opéra Bastille, Bercy, residential.",
    "13th Arrondissement: Chinatown, Bibliothèque Nationale, modern, diverse, street-art.",
    "14th Arrondissement: Montparnasse, Catacombs, residential, artistic, quiet.",
    "15th Arrondissement: Residential, family, populous, Parc André Citroën.",
    "16th Arrondissement: Trocadéro, Bois de Boulogne, affluent, elegant, embassies.",
    "17th Arrondissement: Diverse, Palais des Congrès, residential, Batignolles.",
    "18th Arrondissement: Montmartre, Sacré-Cœur, Moulin Rouge, artistic, historic.",
    "19th Arrondissement: Parc de la Villette, Cité des Sciences, canals, diverse.",
    "20th Arrondissement: Père Lachaise, Belleville, cosmopolitan, artistic, historic.",
]

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

queries = [
    "arrondissement with the Eiffel Tower and Musée d'Orsay",
    "Latin Quarter and Sorbonne University",
    "arrondissement with Sacré-Cœur and Moulin Rouge",
    "arrondissement with the Louvre and Tuileries Garden",
    "arrondissement with Notre-Dame Cathedral and the Marais",
]

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
