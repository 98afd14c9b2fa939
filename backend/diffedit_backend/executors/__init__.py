"""Where jobs run: worker processes on this machine, or anything else that fulfils `base.Executor`."""
