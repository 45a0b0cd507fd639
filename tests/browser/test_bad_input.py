"""Whatever is done to the page, it says what is wrong and what to do, and goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from site_server import PAGE, Site
from visitor import Visitor

POISONED = """
addEventListener("message", (event) => {
  if (event.data.name === "rank" && event.data.argument.query === "poison") {
    event.stopImmediatePropagation();
    throw new Error("died of it");
  }
}, { capture: true });
"""
"""Every worker that has this in its program dies of a query, whenever it was started."""


@pytest.fixture
def checkpoint(goldens: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(goldens / "a_bert_pylate" / "checkpoint", tmp_path / "damaged"))


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def remove_dense(folder: Path) -> None:
    shutil.rmtree(folder / "1_Dense")


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def swap_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 2 * config["hidden_size"]}))


def unknown_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("<!doctype html>")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (remove_tokenizer, "tokenizer.json"),
        (remove_dense, "1_Dense"),
        (truncate, "model.safetensors"),
        (empty, "model.safetensors"),
        (swap_config, "model.safetensors"),
        (unknown_model, "gpt_neox"),
        (no_json, "config.json"),
    ],
)
def test_a_broken_checkpoint_is_named_and_the_open_one_stays(
    visit: Callable[..., Visitor], checkpoint: Path, damage: Callable[[Path], None], named: str
) -> None:
    visitor = visit(model="tiny")
    damage(checkpoint)
    visitor.drop(checkpoint)
    said = visitor.message()
    assert named in said
    assert "tiny stays open" in said
    visitor.type("the moon", ["the moon", "the sea"])
    assert visitor.rows()[0]["text"] == "the moon"


def test_a_single_dropped_file_is_no_checkpoint(
    visit: Callable[..., Visitor], checkpoint: Path, tmp_path: Path
) -> None:
    visitor = visit()
    visitor.drop(checkpoint / "model.safetensors")
    assert "no such file" in visitor.message()
    assert "whole folder" in visitor.message()
    (tmp_path / "letter.odt").write_bytes(b"Dear Sir")
    visitor.drop(tmp_path / "letter.odt")
    visitor.wait("document.querySelector('.message').textContent.includes('no checkpoint')")
    visitor.drop(checkpoint)
    visitor.wait_for_model("damaged")
    assert visitor.page.locator("#model-messages .message").count() == 0


def test_a_folder_that_no_tab_can_hold_is_not_read(visit: Callable[..., Visitor], checkpoint: Path) -> None:
    os.truncate(checkpoint / "model.safetensors", 1_300_000_000)
    visitor = visit()
    visitor.drop(checkpoint)
    said = visitor.message()
    assert "1,300 MB, and a tab can hold 1,200 MB" in said
    assert "Take a smaller one" in said


def test_the_same_weights_in_another_format_are_not_read(visit: Callable[..., Visitor], checkpoint: Path) -> None:
    (checkpoint / "pytorch_model.bin").touch()
    os.truncate(checkpoint / "pytorch_model.bin", 1_300_000_000)
    visitor = visit()
    visitor.drop(checkpoint)
    visitor.wait_for_model("damaged")
    assert visitor.page.locator("#model-messages .message").count() == 0


def test_a_file_that_vanished_is_told(visit: Callable[..., Visitor], checkpoint: Path) -> None:
    visitor = visit()
    visitor.drop(checkpoint)
    visitor.wait_for_model("damaged")
    shutil.rmtree(checkpoint)
    visitor.page.click("#model-toggle")
    visitor.page.select_option("#dtype", "int8")
    said = visitor.message()
    assert "could not be read" in said
    assert "Choose it again" in said
    visitor.type("the moon", ["the moon", "the sea"])
    assert len(visitor.rows()) == 2


def test_a_model_for_other_things_needs_a_word(visit: Callable[..., Visitor], checkpoint: Path) -> None:
    visitor = visit()
    shutil.rmtree(checkpoint / "1_Dense")
    modules = json.loads((checkpoint / "modules.json").read_text())
    (checkpoint / "modules.json").write_text(json.dumps([entry for entry in modules if "Dense" not in entry["type"]]))
    visitor.drop(checkpoint)
    visitor.message()
    assert "none yet" in visitor.page.inner_text("#model-summary")
    visitor.page.check("#from-bert")
    visitor.drop(checkpoint)
    visitor.wait_for_model("damaged")


def test_a_document_of_100_000_words(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="minilm")
    visitor.type("the moon over the sea", ["moonlight on the water", "word " * 100_000])
    said = visitor.message("#results-messages")
    assert "1 document has more than the 180 tokens" in said
    assert "Split long documents" in said
    rows = visitor.rows()
    assert rows[0]["text"] == "moonlight on the water"
    assert rows[1]["tokens"] <= 180
    visitor.page.locator("#ranking button", has_text="word word").click()
    visitor.page.wait_for_selector(".document .unseen")
    assert "of the 499,999 characters of the document" in visitor.page.inner_text("#explanation")
    visitor.type(documents=["short again"])
    assert visitor.page.locator("#results-messages .message").count() == 0


def test_many_documents_show_how_far_it_is_and_can_be_changed_meanwhile(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="minilm")
    visitor.paste([f"document number {number} of very many" for number in range(3000)])
    visitor.page.wait_for_selector("#ranking-progress:not([hidden])")
    assert "of 3000 documents" in visitor.page.inner_text("#ranking-text")
    visitor.type("the moon", ["the moon"])
    assert [row["text"] for row in visitor.rows()] == ["the moon"]
    assert visitor.page.is_hidden("#ranking-progress")


@pytest.mark.parametrize(
    ("query", "documents", "hint"),
    [
        ("", ["the moon"], "Type a query"),
        ("   ", ["the moon"], "Type a query"),
        ("moon", ["", "  "], "one or more documents"),
    ],
)
def test_empty_fields_say_what_is_wanted(
    visit: Callable[..., Visitor], query: str, documents: list[str], hint: str
) -> None:
    visitor = visit(model="tiny")
    visitor.type(query, documents)
    assert hint in visitor.page.inner_text("#ranking")
    assert visitor.page.is_hidden("#explanation")
    visitor.page.locator("#pool-factor").press("ArrowRight")
    visitor.type("moon", ["the moon"])
    assert len(visitor.rows()) == 1


@pytest.mark.parametrize(
    "address", ["", "::", "ftp://example.org/model", "javascript:alert(1)", "models/nowhere/", "src/"]
)
def test_an_address_that_leads_nowhere(visit: Callable[..., Visitor], address: str) -> None:
    visitor = visit()
    visitor.page.fill("#url", address)
    visitor.page.press("#url", "Enter")
    said = visitor.message()
    assert "address" in said or "config.json" in said
    visitor.page.click("text=Dismiss")
    assert visitor.page.locator(".message").count() == 0


def test_a_page_whose_own_address_is_wrong(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    for wrong, said in (
        ("http://[", "is no address"),
        ("", "There is no config.json"),
        ("models/gone/", "config.json"),
    ):
        visitor.page.goto(f"{visitor.site.address}?model={wrong}")
        assert said in visitor.message()


def test_a_worker_that_ends_is_started_again(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="tiny")
    visitor.type("the moon", ["the moon", "the sea"])
    # What a browser does that runs out of memory or meets a bug in a worker: an error that nothing in it catches.
    visitor.page.workers[0].evaluate("setTimeout(() => { throw new Error('out of memory, say') })")
    visitor.page.wait_for_timeout(300)
    visitor.wait_for_model("tiny")
    visitor.type("the sea")
    assert visitor.rows()[0]["text"] == "the sea"
    visitor.complaints.clear()


def test_texts_that_end_the_worker_twice_are_not_tried_again(
    visit: Callable[..., Visitor], site: Site, tmp_path: Path
) -> None:
    page = Path(shutil.copytree(PAGE, tmp_path / "page"))
    with (page / "src" / "worker.js").open("a") as program:
        program.write(POISONED)
    site.mounts[""] = page
    visitor = visit(model="tiny")
    visitor.page.fill("#query", "poison")
    visitor.wait("document.querySelector('#ranking').textContent.includes('twice')")
    assert "died of it" in visitor.message("#results-messages")
    visitor.type("the moon", ["the moon", "the sea"])
    assert visitor.rows()[0]["text"] == "the moon"
    assert visitor.page.locator("#results-messages .message").count() == 0
    visitor.complaints.clear()


def test_texts_that_exhaust_the_memory_cost_the_worker_and_not_the_page(visit: Callable[..., Visitor]) -> None:
    visitor = visit(model="tiny")
    started: list[object] = []
    visitor.page.on("worker", lambda worker: started.append(worker))
    # All but 32 of the 4,096 MiB are taken before, so that a text of 1 MB is enough.
    visitor.page.workers[0].evaluate(
        """async () => {
            const { default: init } = await import("/chandelier/chandelier.js");
            const { memory } = await init();
            memory.grow(2 ** 16 - memory.buffer.byteLength / 2 ** 16 - 512);
        }"""
    )
    visitor.paste(["word " * 200_000])
    said = visitor.message("#results-messages")
    assert "ended and is started again: " in said
    assert "memory" in said.split("started again: ")[1].split(" If it happens again")[0]
    visitor.wait_for_model("tiny")
    visitor.wait_for_ranking()
    assert len(started) == 1
    assert visitor.rows()[0]["text"].startswith("word word")
    assert "1 document has more than" in visitor.page.inner_text("#results-messages")
    visitor.type("the moon", ["the moon", "the sea"])
    assert visitor.rows()[0]["text"] == "the moon"
    assert visitor.page.locator("#results-messages .message").count() == 0


def test_without_a_package_the_page_says_so(visit: Callable[..., Visitor], site: object, tmp_path: Path) -> None:
    site.mounts["chandelier/"] = tmp_path  # type: ignore[attr-defined]
    visitor = visit()
    visitor.page.fill("#url", "models/tiny/")
    visitor.page.press("#url", "Enter")
    assert "program could not be loaded" in visitor.message()
    visitor.complaints.clear()
