"""Everything that can be done, as actions of Tools > DiffEdit. Their names and default shortcuts in Krita's shortcut
settings stand in `diffedit.action`, by the same ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .app import App
from .translation import tr

MENU = "diffedit"


@dataclass(frozen=True)
class Action:
    """`shows_docker`: what it does is seen in the docker, so that is brought to the front. `begins_group`: there
    is a line above it in the menu."""

    id: str
    text: str
    do: Callable[[], None]
    shows_docker: bool = True
    begins_group: bool = False


def actions(app: App) -> tuple[Action, ...]:
    """All actions in the order of the menu."""
    return (
        Action("diffedit_edit_layer", tr("Edit Layer…"), app.edit_layer),
        Action("diffedit_find_mask", tr("Find Mask…"), app.find_mask),
        Action("diffedit_edit_layers", tr("Edit Layers…"), app.edit_layers),
        Action("diffedit_edit_frames", tr("Edit Frames…"), app.ask_frames),
        Action("diffedit_edit_selection", tr("Edit Selection…"), app.edit_selection),
        Action("diffedit_repeat", tr("Repeat Last Edit"), app.repeat, begins_group=True),
        Action("diffedit_new_seed", tr("Edit with New Seed"), app.new_seed),
        Action("diffedit_swap", tr("Swap the Two Texts"), app.swap),
        Action("diffedit_describe", tr("Describe Layer"), app.describe),
        Action("diffedit_suggest", tr("Suggest Words"), lambda: app.suggest("target")),
        Action("diffedit_mask_to_selection", tr("Mask to Selection"), app.mask_to_selection),
        Action("diffedit_cancel", tr("Cancel"), app.cancel, shows_docker=False),
        Action("diffedit_start_backend", tr("Start Local Backend"), app.start_backend, begins_group=True),
        Action("diffedit_stop_backend", tr("Stop Local Backend"), app.stop_backend, shows_docker=False),
        Action("diffedit_settings", tr("Settings…"), app.settings_wanted.emit, shows_docker=False),
        Action("diffedit_diagnostics", tr("Diagnostics…"), app.diagnostics_wanted.emit, shows_docker=False),
    )
