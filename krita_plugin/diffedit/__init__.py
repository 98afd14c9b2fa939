"""DiffEdit inside Krita: say what is there and what should be there."""

import sys

if "krita" in sys.modules:  # Krita imports its own module before any plugin; without Krita, parts are imported singly
    from .vendoring import MissingPartError, prepare

    try:
        prepare()
    except MissingPartError as error:
        from .missing import register_notice

        register_notice(str(error))
    else:
        from .extension import register

        register()
