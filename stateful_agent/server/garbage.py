"""When a serving process looks for garbage."""

import gc


def collect_rarely() -> None:
    """Look for garbage seldom, and never in what is imported already: that would stall every stream, again and again.

    Call it once all is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 2, 100)  # fifty turns that begin at once stay below it, and a look takes 50 ms at most
    gc.enable()
