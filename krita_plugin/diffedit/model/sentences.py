"""What went wrong, for the artist: a sentence that names the thing, then the way out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from diffedit_protocol.errors import DiffEditError

from ..translation import tr
from .payload import LinkState
from .steps import CanvasRefusal

NoticeKind = Literal["info", "error"]


@dataclass(frozen=True)
class Notice:
    """`detail`: for the tooltip and the log. `remedies`: what buttons offer, of "start",
    "settings", "install", "join", "choose", "retry", "log", "look", "forget". `code`: of the refusal that it tells
    of."""

    kind: NoticeKind
    sentence: str
    detail: str = ""
    remedies: tuple[str, ...] = ()
    code: str = ""


def of_refusal(refusal: CanvasRefusal) -> Notice:
    return Notice("error", refusal.sentence, code=refusal.code)


def of_waiting_results() -> Notice:
    """The notice of a picture whose results of an earlier time are offered again."""
    return Notice("info", tr("Results of earlier edits wait here. Accept or discard them."))


def of_fetched(document: str, path: str) -> Notice:
    """The notice of a result of an earlier Krita whose picture, of the file `path`, "" for none, is not open."""
    if not path:
        sentence = tr("A result for '{document}' was fetched. It is kept in History.", document=document)
    elif os.path.exists(path):
        sentence = tr("A result for '{document}' was fetched. Open the picture: it is in Results.", document=document)
    else:
        sentence = tr(
            "A result for '{document}' was fetched, but the picture is not in its folder any more.", document=document
        )
    return Notice("info", sentence, path, ("forget",))


def of_error(error: DiffEditError, link: LinkState, *, source: str = "", target: str = "", size: str = "") -> Notice:
    """The notice for a job that failed. `source`, `target` and `size` ("2048 × 2048") tell what was asked for.

    Errors that only the backend can word are shown in its own words.
    """
    detail = "\n".join(part for part in (error.sentence, error.detail) if part)
    match error.code:
        case "OOM":
            sentence = tr(
                "The GPU ran out of memory at {size}. Select a smaller area, or choose Draft quality.", size=size
            )
            return Notice("error", sentence, detail, ("retry",))
        case "WORKER_DIED":
            sentence = tr("The backend had to restart its model. Your picture was not changed.")
            return Notice("error", sentence, detail, ("retry", "log"))
        case "NOTHING_FOUND":
            sentence = tr(
                "No region differs clearly between '{source}' and '{target}'. Lower the threshold, or select "
                "the region yourself.",
                source=source,
                target=target,
            )
            return Notice("info", sentence, detail)
        case "BUSY":
            return Notice("error", tr("The backend is too busy at the moment. Try again soon."), detail, ("retry",))
        case "LINK" | "AUTH" | "VERSION":
            state = LinkState("refused" if error.code != "LINK" else "down", link.host, link.local, None, error)
            return of_link_error(state, error)
        case _:
            return Notice("error", error.sentence, error.detail, ("retry",) if error.retryable else ())


def of_link(state: LinkState) -> Notice | None:
    """The notice for a link that is not up; None for one that is, or is being made."""
    if state.kind in ("ready", "connecting") or state.error is None:
        return None
    return of_link_error(state, state.error)


def of_link_error(state: LinkState, error: DiffEditError) -> Notice:
    """The notice for a link that `error` keeps down."""
    detail = "\n".join(part for part in (error.sentence, error.detail) if part)
    if error.code in ("AUTH", "VERSION", "BAD_INPUT"):
        return Notice("error", error.sentence, error.detail, ("settings",))
    if state.kind == "lost":
        if state.local:
            sentence = tr("The connection to the backend was lost. Trying again; none of your work is lost.")
            return Notice("error", sentence, detail, ("start", "settings"))
        sentence = tr(
            "The connection to {host} was lost. The job goes on there, and its result will be fetched.", host=state.host
        )
        return Notice("error", sentence, detail, ("settings",))
    if state.local:
        sentence = tr("No backend is running. Start it here, or paste a connection line in Settings.")
        return Notice("error", sentence, detail, ("start", "settings"))
    return Notice("error", tr("{host} does not answer. Trying again.", host=state.host), detail, ("settings",))


def of_no_backend() -> Notice:
    """The notice for a machine without a backend, with the three ways to one."""
    sentence = tr("No backend yet: the program that edits pictures. There are three ways to one.")
    return Notice("info", sentence, "", ("install", "join", "choose"))


def of_other_version(state: LinkState, backend: str, plugin: str, can_update: bool) -> Notice:
    """The notice for a backend of another version. `can_update`: the plugin can put its own in place."""
    if can_update:
        sentence = tr("The backend is version {backend}, the plugin brings {plugin}.", backend=backend, plugin=plugin)
        return Notice("info", sentence, "", ("install",))
    where = tr("this machine") if state.local else state.host
    sentence = tr(
        "The backend on {where} is version {backend}, this plugin {plugin}. It works; update the older of the two when "
        "something is missing.",
        where=where,
        backend=backend,
        plugin=plugin,
    )
    return Notice("info", sentence)


def of_lack(state: LinkState, model: str, adapters: Sequence[str]) -> Notice | None:
    """The notice for an edit that asks for what the backend of the moment does not have; None when it has all.

    `model`: the artist's choice, "" for the backend's own; `adapters`: names. Nothing is known of a backend that is not
    there: it will say itself.
    """
    info = state.info
    if info is None:
        return None
    where = tr("this machine") if state.local else state.host
    chosen = info.model(model)
    if info.models and chosen is None:
        sentence = tr(
            "The backend on {where} does not have the model '{name}'. Choose another one in the menu ☰.",
            where=where,
            name=model,
        )
        return Notice("error", sentence, "", ("look",))
    there = {adapter.name: adapter for adapter in info.known_adapters}
    for name in adapters:
        if name not in there:
            if state.local:
                sentence = tr(
                    "'{name}' is not in the adapters folder. Put its file there, or remove it from the list.", name=name
                )
            else:
                sentence = tr(
                    "{where} does not have '{name}'. Have its file put there, or remove it from the list.",
                    where=where,
                    name=name,
                )
            return Notice("error", sentence, "", ("look",))
        if chosen is not None and not there[name].fits(chosen):
            if there[name].kind == "damaged":
                sentence = tr("The file of '{name}' is damaged. Copy it again, or remove it from the list.", name=name)
            else:
                sentence = tr(
                    "'{name}' was made for {family} and does not fit the model '{model}'. Remove it from the "
                    "list, or choose another model.",
                    name=name,
                    family=there[name].family,
                    model=chosen.name,
                )
            return Notice("error", sentence)
    return None


def of_left_out(names: Sequence[str]) -> Notice | None:
    """The notice for an edit without what the backend could not be asked for; None when that is nothing."""
    labels = {"detail": tr("Full detail"), "matting": tr("Fine edges"), "segment": tr("Finding by words")}
    if not names:
        return None
    what = ", ".join(labels[name] for name in names)
    return Notice("info", tr("This backend does not support {what}. The edit was made without it.", what=what))


def status_line(state: LinkState, chosen_model: str = "") -> str:
    """One line on how the backend is. `chosen_model`: the artist's, "" for the backend's own."""
    where = tr("this machine") if state.local else state.host
    if state.kind == "ready" and state.info is not None:
        model = chosen_model or (state.info.models[0].name if state.info.models else "")
        if state.info.models and state.info.model(chosen_model) is None:
            model = tr("without the model '{name}'", name=chosen_model)
        return " · ".join(part for part in (tr("Ready"), model, where) if part)
    if state.kind == "connecting":
        return tr("Connecting to {where} …", where=where)
    if state.kind == "refused":
        return tr("Refused by {where}", where=where)
    return tr("No backend on this machine") if state.local else tr("{where} does not answer", where=where)
