"""Settings, history, presets, translations and the vendored parts: what is read and written, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
from diffedit import translation, vendoring
from diffedit.model import history, prompts
from diffedit.model.history import HistoryEntry
from diffedit.model.inputs import EditInputs
from diffedit.model.progress import Activity, fraction
from diffedit.model.settings import Settings, Store
from diffedit.model.texts import layer_name
from diffedit_bench.quality.roster import KRITAS_FEATHER, KRITAS_GROW
from diffedit_protocol.messages import STAGES, Progress

PLUGIN = Path(translation.__file__).parent


class TestSettings:
    def test_a_change_is_there_in_the_next_krita(self, store: Store) -> None:
        reported = []
        store.listen(reported.append)
        store.change(context=12, unfolded=("mask", "edit"))
        assert Store().settings == Settings(context=12, unfolded=("mask", "edit")) == reported[0]

    def test_the_file_can_be_read_by_its_owner_only(self, store: Store) -> None:
        store.change(context=12)
        assert (store.folder / "plugin.json").stat().st_mode & 0o777 == 0o600

    def test_a_broken_file_is_set_aside_and_told_of(self, home: Path) -> None:
        (home / "plugin.json").write_text("{broken")
        (home / "plugin.json").chmod(0o600)
        store = Store()
        assert store.settings == Settings()
        assert "begin anew" in store.complaint
        assert (home / "plugin.unreadable.json").read_text() == "{broken"

    def test_a_value_that_is_none_is_told_of_and_names_of_other_versions_are_left_out(self, home: Path) -> None:
        def write(**settings: object) -> Store:
            (home / "plugin.json").write_text(json.dumps({"settings": settings}))
            (home / "plugin.json").chmod(0o600)
            return Store()

        assert "mask_form must be one of" in write(mask_form="glitter").complaint
        newer = write(context=3, from_the_future=True)
        assert (newer.settings.context, newer.complaint) == (3, "")


class TestHistory:
    def record(self, number: int, thumbnail: str = "") -> HistoryEntry:
        inputs = EditInputs(source=f"a horse {number}", target="a zebra", negative="mist", strength=0.7)
        return HistoryEntry(inputs, number, "2026-01-02T03:04:05+00:00", "Ink", "bundled", thumbnail)

    def test_records_come_back_as_they_were(self) -> None:
        records = tuple(self.record(i, "AAAA") for i in range(3))
        assert history.decode(history.encode(records, 100_000)) == records

    def test_the_limit_costs_old_thumbnails_first_and_old_records_then(self) -> None:
        records = tuple(self.record(i, "A" * 400) for i in range(20))
        some = history.decode(history.encode(records, 8000))
        assert [record.seed for record in some] == list(range(20))
        assert some[0].thumbnail == ""
        few = history.decode(history.encode(records, 1500))
        assert few[-1].seed == 19
        assert 0 < len(few) < 20
        for limit in (8000, 1500, 200):
            assert len(history.encode(records, limit)) <= limit

    @pytest.mark.parametrize("data", [b"[]", b'{"format": 2, "edits": []}', b'{"format": 1, "edits": [{}]}', b"\xff"])
    def test_what_is_no_history_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            history.decode(data)

    def test_an_earlier_edit_comes_back_with_its_seed_locked(self) -> None:
        again = self.record(7).again()
        assert (again.seed, again.seed_locked, again.negative) == (7, True, "mist")


class TestWords:
    def test_the_newest_text_stands_first_and_none_twice(self, store: Store) -> None:
        for source in ("a cat", "a dog", "a cat"):
            prompts.remember(store, EditInputs(source=source, target="a fox"))
        assert prompts.earlier(Store(), "source") == ["a cat", "a dog"]
        assert prompts.earlier(Store(), "negative") == []

    def test_a_preset_keeps_a_seed_only_if_it_is_locked(self, store: Store) -> None:
        prompts.save_preset(store, "free", EditInputs(source="x", seed=5))
        prompts.save_preset(store, "held", EditInputs(source="x", seed=5, seed_locked=True))
        assert prompts.apply_preset(store, "free", EditInputs(seed=1)).seed == 1
        assert prompts.apply_preset(store, "held", EditInputs(seed=1)).seed == 5

    def test_every_control_is_part_of_the_request(self) -> None:
        inputs = EditInputs("a", "b", "c", 0.4, -3, 7, 0.6, "fine", 9, True, 4, True, True, False)
        request = inputs.request("edit", side=64, model="m", preview=False)
        reported = dataclasses.asdict(inputs)
        del reported["seed_locked"]
        assert {name: getattr(request, name) for name in reported} == reported
        assert (request.model, request.preview) == ("m", False)
        assert inputs.request("mask", side=64).variations == 1

    @pytest.mark.parametrize(
        ("source", "target", "name"),
        [
            ("an apple and a cup", "a pear and a cup", "an apple → a pear (41)"),
            ("a red apple", "a red pear", "apple → pear (41)"),
            ("a horse", "a white horse", "horse → white horse (41)"),
            ("a sky with clouds", "a sky", "sky with clouds → sky (41)"),
            ("a", "b", "a → b (41)"),
        ],
    )
    def test_a_layers_name_says_what_changes(self, source: str, target: str, name: str) -> None:
        assert layer_name(source, target, 41) == name

    @pytest.mark.parametrize("text", ["x" * 500, "🐎 " * 300, "ä\x00\x02\n\ud800\ufffe" * 99])
    def test_a_layers_name_is_one_short_line_that_files_can_hold(self, text: str) -> None:
        name = layer_name("a horse", text, 2**32 - 1)
        assert len(name) <= 60
        assert name.endswith(" (4294967295)")
        assert len(name.encode()) <= 255
        assert name.isprintable()

    def test_typed_and_pasted_texts_are_cleaned_before_they_are_kept(self, store: Store) -> None:
        inputs = EditInputs(source="a\x02 horse\ud83d", target="two\nlines")
        assert (inputs.source, inputs.target) == ("a horse", "two lines")
        store.put("inputs", inputs.as_map())
        assert EditInputs.from_map(Store().get("inputs", {})) == inputs

    @pytest.mark.parametrize(("side", "grow", "feather"), [(64, 4, 3), (512, 4, 3), (1024, 8, 6), (4096, 32, 24)])
    def test_grow_and_feather_fit_the_picture_unless_they_are_chosen(self, side: int, grow: int, feather: int) -> None:
        request = EditInputs("a", "b").request("mask", side=side)
        assert (request.grow, request.feather, request.automatic_grow) == (grow, feather, True)
        chosen = EditInputs("a", "b", grow=-3, feather=0).request("mask", side=side)
        assert (chosen.grow, chosen.feather, chosen.automatic_grow) == (-3, 0, False)

    def test_the_mask_of_a_smaller_model_is_coarser_and_so_are_grow_and_feather(self) -> None:
        request = EditInputs("a", "b").request("edit", side=512, model_side=128)
        assert (request.grow, request.feather) == (16, 12)
        chosen = EditInputs("a", "b", grow=2, feather=1).request("edit", side=512, model_side=128)
        assert (chosen.grow, chosen.feather) == (2, 1)

    def test_the_mask_of_a_ground_is_grown_only_where_the_artist_says_so(self) -> None:
        assert (EditInputs().grow_px(512), EditInputs().grow_px(512, ground=True)) == (4, 0)
        assert EditInputs(grow=9).grow_px(512, ground=True) == 9

    def test_the_benchmarks_editor_asks_for_the_same_grow_and_feather(self) -> None:
        request = EditInputs("a", "b").request("mask", side=128)  # of the bundled model, whose cells are 8 px
        assert (request.grow, request.feather) == (8 * KRITAS_GROW, 8 * KRITAS_FEATHER)


class TestProgress:
    @pytest.mark.parametrize("kind", ["mask", "edit", "detailed"])
    def test_every_stage_begins_where_the_one_before_it_ended(self, kind: str) -> None:
        shares = [fraction(kind, Progress(stage, step, 4)) for stage in STAGES for step in range(5)]
        known = shares if kind != "mask" else shares[:15]
        assert known == sorted(known)
        assert known[-1] == pytest.approx(1.0)

    def test_a_stage_that_only_a_newer_backend_knows_is_shown_by_its_own_name(self) -> None:
        assert fraction("edit", Progress("sharpening", 1, 2)) == 0.0
        assert Activity("edit", "working", stage="sharpening", step=1, total=2).title == "Editing · sharpening 1/2"


class TestTranslations:
    def test_names_in_sentences_end_at_60_characters_and_paths_and_reasons_are_told_whole(self) -> None:
        long = "a very long name " * 20
        for name in ("layer", "document", "source", "host", "model"):
            sentence = translation.tr(f"'{{{name}}}' is locked.", **{name: long})
            assert len(sentence) == 60 + len("'' is locked.")
            assert "…" in sentence
        for name in ("folder", "reason", "last", "program"):
            assert long in translation.tr(f"'{{{name}}}' cannot be written.", **{name: long})

    def catalogue(self, language: str) -> dict[str, str]:
        return translation.read_po((PLUGIN / "locale" / f"{language}.po").read_text(encoding="utf-8"))

    def test_the_catalogues_hold_the_texts_of_the_code(self) -> None:
        sys.path.insert(0, str(PLUGIN.parent))
        try:
            import update_translations
        finally:
            sys.path.pop(0)
        found = update_translations.texts()
        template = (PLUGIN / "locale" / "diffedit.pot").read_text(encoding="utf-8")
        assert template == update_translations.catalogue("template", found, {}), "run update_translations.py"
        for language in ("de", "zh_CN"):
            assert list(self.catalogue(language)) == list(found)

    @pytest.mark.parametrize("language", ["de", "zh_CN"])
    def test_everything_is_translated_with_the_same_values_in_it(self, language: str) -> None:
        for text, translated in self.catalogue(language).items():
            assert translated, f"{text!r} has no translation"
            assert _names(translated) == _names(text), text
            if text.endswith(("…", ".")):
                assert translated[-1] in "….。", text

    def test_a_chosen_language_is_spoken(self) -> None:
        translation.use_language("de")
        assert translation.tr("Edit") == self.catalogue("de")["Edit"] != "Edit"
        assert translation.tr("not in any catalogue {x}", x=1) == "not in any catalogue 1"
        translation.use_language("en")
        assert translation.tr("Edit") == "Edit"

    @pytest.mark.parametrize(
        ("wanted", "spoken"),
        [(["de_AT"], "de"), (["fr", "zh-Hans-CN"], "zh_CN"), (["en_GB", "de"], "en"), (["fr"], "en"), ([], "en")],
    )
    def test_the_nearest_language_is_taken(self, wanted: list[str], spoken: str) -> None:
        assert translation.best_language(wanted) == spoken

    def test_a_line_that_belongs_to_no_catalogue_is_named(self) -> None:
        with pytest.raises(ValueError, match="Line 2"):
            translation.read_po('msgid "a"\nmsgtsr "b"\n')

    def test_actions_have_the_same_names_in_krita_s_shortcut_settings(self) -> None:
        import xml.etree.ElementTree as ET

        from diffedit import actions

        named = {}
        for action in ET.parse(PLUGIN.parent / "diffedit.action").getroot().iter("Action"):
            named[action.get("name")] = action.findtext("text")

        class AnyNames:
            def __getattr__(self, name: str) -> AnyNames:
                return self

        made = {action.id: action.text for action in actions.actions(AnyNames())}
        assert named == {name: f"DiffEdit: {text}" for name, text in made.items()}


class TestVendoredParts:
    @pytest.mark.parametrize(
        ("system", "machine", "python", "folder"),
        [
            ("Windows", "AMD64", (3, 10), "zmq-cp310-win_amd64"),
            ("Darwin", "arm64", (3, 13), "zmq-cp312-abi3-macosx"),
            ("Linux", "x86_64", (3, 12), "zmq-cp312-abi3-linux_x86_64"),
        ],
    )
    def test_the_pyzmq_that_fits_is_chosen(self, system, machine, python, folder) -> None:
        assert vendoring.zmq_folder(system, machine, python) == folder

    def test_every_vendored_pyzmq_of_the_zip_is_one_that_is_looked_for(self) -> None:
        from diffedit_backend.krita.plugin_zip import TARGETS

        looked_for = {
            vendoring.zmq_folder(system, machine, python)
            for system, machine in (("Windows", "AMD64"), ("Darwin", "arm64"), ("Linux", "x86_64"))
            for python in ((3, 10), (3, 11), (3, 12), (3, 13))
        }
        assert {f"zmq-{target.tag}" for target in TARGETS} <= looked_for

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs `code` in a Python that sees neither this environment's packages nor the checkout's protocol."""
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(PLUGIN.parent)!r})\n{code}"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )

    def test_a_missing_pyzmq_is_named_with_what_to_do(self) -> None:
        answer = self.run("from diffedit import vendoring\nvendoring.prepare()")
        assert "MissingPartError" in answer.stderr
        assert "finds no module 'zmq'" in answer.stderr
        assert "python3-zmq" in answer.stderr


def test_the_manual_is_the_one_that_its_source_and_pictures_make() -> None:
    sys.path.insert(0, str(PLUGIN.parent))
    try:
        import make_manual
    finally:
        sys.path.pop(0)
    assert make_manual.MANUAL.read_text(encoding="utf-8") == make_manual.manual(), "run make_manual.py"
    assert 'src="data:image/png' in make_manual.manual()


def _names(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_no_text_of_the_plugin_escapes_the_translators() -> None:
    """Every sentence that is shown goes through tr(): no widget is made with a bare text."""
    bare = re.compile(
        r'(?:QPushButton|QLabel|QCheckBox|QRadioButton|setToolTip|setText|addTab|setWindowTitle)\("[^"]{3}'
    )
    allowed = 'setWindowTitle("DiffEdit")'
    found = [
        f"{path.name}: {line.strip()}"
        for path in PLUGIN.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if bare.search(line) and allowed not in line
    ]
    assert found == []
