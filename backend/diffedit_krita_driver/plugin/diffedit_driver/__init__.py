"""A Krita plugin that runs tasks given from outside: the inner half of `diffedit_krita_driver.remote`.

It looks for tasks in the folder DIFFEDIT_DRIVER; without that variable it does nothing. A task is a Python function and
its arguments; it gets a `Stage` first and may be a generator, see `tasks.Task`.
"""

import os

if os.environ.get("DIFFEDIT_DRIVER"):
    from krita import Krita

    from .inbox import Driver

    Krita.instance().addExtension(Driver(Krita.instance()))
