"""What is dropped and chosen: what it is called, what is advised if it does not open, and what the boxes then show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import npm_package
import pytest
from visitor import Visitor

CHECKBOX = "“Take a BERT that was not trained for this, too”"


@pytest.fixture
def checkpoint(goldens: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(goldens / "a_bert_pylate" / "checkpoint", tmp_path / "mine"))


@pytest.fixture
def bert(checkpoint: Path) -> Path:
    """A plain BERT."""
    (checkpoint / "modules.json").unlink()
    shutil.rmtree(checkpoint / "1_Dense")
    return checkpoint


def boxes(visitor: Visitor) -> list[object]:
    found: list[object] = visitor.page.evaluate(
        "[document.querySelector('#dtype').value, document.querySelector('#from-bert').checked]"
    )
    return found


def wait_for_message(visitor: Visitor, text: str) -> str:
    visitor.wait("text => document.querySelector('#model-messages').textContent.includes(text)", text)
    return visitor.message()


def change_setting(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | settings), encoding="utf-8")


def test_an_empty_folder_is_no_checkpoint(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    visitor = visit()
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    visitor.drop(tmp_path / "empty")
    said = visitor.message()
    assert "none of its files is a config.json" in said
    assert "Drop the whole folder" in said
    found = visitor.page.evaluate(
        """async () => {
            const { withoutCommonFolder } = await import("/src/checkpoint/layout.js");
            return [[], ["a/b/c"], ["a/b", "a/c/d"], ["b", "a/b"]].map(withoutCommonFolder);
        }"""
    )
    assert found == [[], ["c"], ["b", "c/d"], ["b", "a/b"]]


@pytest.mark.parametrize("case", ["n_st6_mve", "a_bert_pylate"])
def test_a_model_is_called_as_its_folder(
    visit: Callable[..., Visitor], goldens: Path, tmp_path: Path, case: str
) -> None:
    """Whatever is in the folders inside, and however many are around it."""
    visitor = visit()
    folder = tmp_path / "around" / "my-colbert"
    shutil.copytree(goldens / case / "checkpoint", folder)
    for dropped in (folder, folder.parent):
        visitor.drop(dropped)
        visitor.wait_for_model("my-colbert")
        visitor.page.reload()


def test_loose_files_are_called_yours(visit: Callable[..., Visitor], checkpoint: Path) -> None:
    visitor = visit()
    visitor.drop(*sorted(checkpoint.iterdir()))
    visitor.wait_for_model("your files")


def test_a_plain_bert_opens_with_the_checkbox_that_is_named(visit: Callable[..., Visitor], bert: Path) -> None:
    visitor = visit(model="tiny")
    visitor.drop(bert)
    said = visitor.message()
    assert f"For a plain BERT, check {CHECKBOX}." in said
    assert "tiny stays open" in said
    assert boxes(visitor) == ["float32", False]
    visitor.page.check("#from-bert")
    visitor.wait_for_model("mine")
    assert boxes(visitor) == ["float32", True]


def test_after_its_dismissal_a_choice_is_about_the_open_model(visit: Callable[..., Visitor], bert: Path) -> None:
    visitor = visit(model="tiny")
    visitor.drop(bert)
    visitor.message()
    visitor.page.click("text=Dismiss")
    visitor.page.select_option("#dtype", "int8")
    visitor.wait("document.querySelector('#model-summary').textContent.includes('int8')")
    visitor.wait_for_model("tiny")


def test_a_checkbox_that_is_in_the_way_is_named(visit: Callable[..., Visitor], checkpoint: Path) -> None:
    visitor = visit()
    visitor.page.check("#from-bert")
    visitor.drop(checkpoint)
    assert f"Uncheck {CHECKBOX}." in visitor.message()
    visitor.page.uncheck("#from-bert")
    visitor.wait_for_model("mine")


@pytest.mark.parametrize(
    "settings", [{"model_type": "gpt_neox"}, {"hidden_act": "tan"}, {"position_embedding_type": "relative_key"}]
)
def test_a_setting_is_not_mended_by_a_download(
    visit: Callable[..., Visitor], checkpoint: Path, settings: dict[str, str]
) -> None:
    change_setting(checkpoint, **settings)
    visitor = visit()
    visitor.drop(checkpoint)
    said = visitor.message()
    assert "Take another model" in said
    assert "again, all of it" not in said


def test_an_architecture_of_its_own_code_is_not_mended_by_a_download(
    visit: Callable[..., Visitor], goldens: Path
) -> None:
    visitor = visit()
    visitor.drop(goldens / npm_package.REFUSED / "checkpoint")
    said = visitor.message()
    assert "which is never run. Take another model" in said
    assert "again, all of it" not in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b""),
        ("1_Dense/model.safetensors", b"not weights"),
        ("config.json", b"<!doctype html>"),
        ("tokenizer.json", b'{"version": '),
    ],
)
def test_damage_is_mended_by_a_download(
    visit: Callable[..., Visitor], checkpoint: Path, name: str, content: bytes
) -> None:
    (checkpoint / name).write_bytes(content)
    visitor = visit()
    visitor.drop(checkpoint)
    said = visitor.message()
    assert said.startswith(f"{name}: ")
    assert ". If the files are those of a ColBERT, download or copy the folder again, all of it." in said


def test_a_full_stop_is_put_where_it_is_missing(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    found = visitor.page.evaluate(
        """async () => {
            const { Messages } = await import("/src/view/messages.js");
            const place = document.createElement("div");
            const messages = new Messages(place);
            return ["got 1", "got “1.”", "is it?", "Done."].map(text => {
                messages.show({ text, advice: "Go on." });
                return place.querySelector("p").textContent;
            });
        }"""
    )
    assert found == ["got 1. Go on.", "got “1.” Go on.", "is it? Go on.", "Done. Go on."]


def test_the_boxes_show_what_is_open(visit: Callable[..., Visitor], checkpoint: Path) -> None:
    visitor = visit()
    visitor.drop(checkpoint)
    visitor.wait_for_model("mine")
    away = checkpoint.rename(checkpoint.with_name("away"))
    visitor.page.click("#model-toggle")
    visitor.page.select_option("#dtype", "int8")
    assert "could not be read" in visitor.message()
    assert boxes(visitor) == ["float32", False]
    away.rename(checkpoint)
    visitor.page.click("text=Try again")  # what was tried: int8
    visitor.wait("document.querySelector('#model-summary').textContent.includes('int8')")
    assert boxes(visitor) == ["int8", False]
    visitor.page.click("#model-toggle")
    visitor.page.locator("#from-bert").click()
    assert "has a Dense module" in wait_for_message(visitor, "Dense")
    assert boxes(visitor) == ["int8", False]
    assert "int8" in visitor.page.inner_text("#model-summary")


def test_a_choice_that_is_cancelled_is_not_shown(visit: Callable[..., Visitor], site: object) -> None:
    visitor = visit(model="minilm")
    site.seconds = 1  # type: ignore[attr-defined]
    visitor.page.evaluate("caches.delete('chandelier-pieces-1')")
    visitor.page.reload()
    visitor.page.wait_for_timeout(100)
    site.seconds = 0  # type: ignore[attr-defined]
    visitor.wait_for_model("minilm")
    visitor.page.evaluate("caches.delete('chandelier-pieces-1')")
    site.seconds = 1  # type: ignore[attr-defined]
    visitor.page.click("#model-toggle")
    visitor.page.select_option("#dtype", "int8")
    visitor.page.click("#cancel")
    visitor.page.wait_for_selector("#model-progress", state="hidden")
    assert boxes(visitor) == ["float32", False]


def test_half_a_surrogate_pair_is_ranked_as_a_replacement(visit: Callable[..., Visitor]) -> None:
    """Such halves come from programs that cut texts by UTF-16 units."""
    for lacks_it in (False, True):
        visitor = visit(model="tiny")
        if lacks_it:
            visitor.page.evaluate("delete String.prototype.toWellFormed")
        visitor.page.evaluate(
            r"""() => {
                const type = (id, text) => {
                    const field = document.querySelector(id);
                    field.value = text;
                    field.dispatchEvent(new InputEvent("input"));
                };
                type("#query", "the moon \udf19");
                type("#documents", "the moon \u{1f319}\nthe sea \ud83c\n\udf19 harbour");
            }"""
        )
        visitor.wait("document.querySelectorAll('#ranking tbody tr').length === 3")
        visitor.wait_for_ranking()
        assert {row["text"] for row in visitor.rows()} == {"the moon \U0001f319", "the sea \ufffd", "\ufffd harbour"}
        assert visitor.page.locator("#results-messages .message").count() == 0
