"""The plugin in and out of a user's Krita."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from diffedit_backend.cli.doctor import _kritas
from diffedit_backend.cli.program import main
from diffedit_backend.krita import plugin_zip
from diffedit_backend.krita.install import install_plugin
from diffedit_backend.krita.krita_installation import kritas, sandboxed_data_folders, switched

KRITARC = "[General]\nTheme=dark\n\n[python]\nenable_other=true\n\n[theme]\nTheme=Krita dark\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_installing_copies_the_plugin_with_its_protocol_and_enables_it(home: Path) -> None:
    (home / ".config").mkdir()
    (home / ".config" / "kritarc").write_text(KRITARC)
    assert main(["install-plugin"]) == 0
    plugin = home / ".local/share/krita/pykrita/diffedit"
    assert (plugin / "__init__.py").is_file()
    assert (plugin / "_vendor/diffedit_protocol/messages.py").is_file()
    assert (plugin.parent / "diffedit.desktop").is_file()
    assert (home / ".local/share/krita/actions/diffedit.action").is_file()
    lines = (home / ".config/kritarc").read_text().splitlines()
    assert lines[lines.index("[python]") + 1 :][:2] == ["enable_diffedit=true", "enable_other=true"]


def test_uninstalling_leaves_everything_else_as_it_was(home: Path) -> None:
    (home / ".config").mkdir()
    (home / ".config" / "kritarc").write_text(KRITARC)
    other = home / ".local/share/krita/pykrita/other"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("pass\n")
    before = tree(home)
    assert main(["install-plugin"]) == 0
    assert main(["install-plugin"]) == 0  # again: replaced, not doubled
    assert main(["uninstall-plugin"]) == 0
    assert tree(home) == before


def test_uninstalling_from_a_krita_that_was_empty_leaves_no_file_and_no_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DIFFEDIT_HOME", raising=False)
    resources, settings = home / ".local/share/krita", home / ".config"
    resources.mkdir(parents=True)
    assert main(["install-plugin"]) == 0
    assert main(["uninstall-plugin"]) == 0
    assert not resources.exists()
    assert not list(settings.iterdir())
    assert not (home / ".local/share/diffedit").exists()
    assert "stay" not in capsys.readouterr().out
    (home / ".local/share/diffedit").mkdir(mode=0o700)
    (home / ".local/share/diffedit/plugin.json").touch()
    assert main(["uninstall-plugin"]) == 0
    assert "Settings, keys and results stay in" in capsys.readouterr().out


def test_a_flatpak_krita_gets_the_plugin_into_its_own_folders(home: Path) -> None:
    (home / ".var/app/org.kde.krita/data/krita").mkdir(parents=True)
    assert main(["install-plugin"]) == 0
    assert (home / ".var/app/org.kde.krita/data/krita/pykrita/diffedit/__init__.py").is_file()
    assert "enable_diffedit=true" in (home / ".var/app/org.kde.krita/config/kritarc").read_text()
    assert not (home / ".local/share/krita").exists()


def test_a_snap_krita_gets_the_plugin_into_its_own_folders(home: Path) -> None:
    (home / "snap/krita/current/.local/share/krita").mkdir(parents=True)
    assert main(["install-plugin"]) == 0
    assert (home / "snap/krita/current/.local/share/krita/pykrita/diffedit/__init__.py").is_file()
    assert "enable_diffedit=true" in (home / "snap/krita/current/.config/kritarc").read_text()


def test_the_folders_of_sandboxed_kritas_are_those_that_their_plugin_looks_into(home: Path) -> None:
    assert sandboxed_data_folders() == ()
    (home / ".var/app/org.kde.krita/data/krita").mkdir(parents=True)
    assert sandboxed_data_folders() == (home / ".var/app/org.kde.krita/data/diffedit",)


def test_the_doctor_names_every_krita_and_whether_it_has_the_plugin(home: Path) -> None:
    assert dict(_kritas()) == {"Krita": "never started by this user"}
    (home / ".var/app/org.kde.krita/data/krita").mkdir(parents=True)
    assert dict(_kritas())["Krita (Flatpak)"].endswith("data/krita, plugin not installed")
    assert main(["install-plugin"]) == 0
    assert dict(_kritas())["Krita (Flatpak)"].endswith("data/krita, plugin installed")


def test_a_krita_of_the_store_has_its_files_in_its_package(tmp_path: Path) -> None:
    package = tmp_path / "Packages" / "49800Krita_abc123" / "LocalCache"
    (package / "Roaming" / "krita").mkdir(parents=True)
    ordinary, store = kritas({"APPDATA": "R", "LOCALAPPDATA": str(tmp_path)}, "win32")
    assert not ordinary.sandboxed
    assert (store.resources, store.kritarc) == (package / "Roaming" / "krita", package / "Local" / "kritarc")
    assert store.present


def test_a_folder_that_is_none_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-plugin", "--resources", str(home / "nowhere")]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err


def test_windows_and_macos_have_folders_of_their_own() -> None:
    windows = kritas({"APPDATA": "R", "LOCALAPPDATA": "L"}, "win32")[0]
    assert (windows.resources, windows.kritarc) == (Path("R/krita"), Path("L/kritarc"))
    mac = kritas({"HOME": "H"}, "darwin")[0]
    assert mac.resources == Path("H/Library/Application Support/krita")
    assert mac.kritarc == Path("H/Library/Preferences/kritarc")


def test_the_switch_is_set_once_and_taken_out_again() -> None:
    assert switched("", "true") == "[python]\nenable_diffedit=true\n"
    assert switched(switched(KRITARC, "true"), "true") == switched(KRITARC, "true")
    assert switched(switched(KRITARC, "true"), None) == KRITARC
    for kritarc in ("", "[General]\nTheme=dark\n", "[python]\n"):
        assert switched(kritarc, None) == kritarc
    assert switched("[python]\nenable_diffedit=true\n", None) == ""
    assert switched(switched("[General]\nTheme=dark\n", "true"), None) == "[General]\nTheme=dark\n"
    assert switched("[python]\nenable_diffedit=true\n\n[theme]\nTheme=x\n", None) == "[theme]\nTheme=x\n"


def test_a_zip_that_fails_to_be_built_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging, path = tmp_path / "work" / "staging", tmp_path / "plugin.zip"
    (staging / "pykrita" / "diffedit").mkdir(parents=True)
    (staging / "actions").mkdir()
    (staging / "pykrita" / "diffedit" / "a.py").write_text("")
    (staging / "pykrita" / "diffedit.desktop").write_text("")
    path.write_bytes(b"the earlier one")
    with pytest.raises(FileNotFoundError):
        plugin_zip._zip(staging, path)  # diffedit.action is missing
    assert path.read_bytes() == b"the earlier one"
    (staging / "actions" / "diffedit.action").write_text("")
    assert plugin_zip._zip(staging, path) == path
    assert zipfile.is_zipfile(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plugin.zip", "work"]


def test_an_installation_that_fails_leaves_the_plugin_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(tmp_path)
    before = tree(tmp_path)
    real = shutil.copytree

    def full(source: Path, *more: Any, **named: Any) -> Any:
        if Path(source).name == "diffedit_protocol":
            raise OSError(28, "No space left on device")
        return real(source, *more, **named)

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OSError, match="No space left"):
        install_plugin(tmp_path)
    assert tree(tmp_path) == before
