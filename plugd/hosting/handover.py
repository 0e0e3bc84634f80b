"""The moment in which one generation takes the place of another: between two collections, with its state."""

from collections.abc import Awaitable, Callable
from typing import Any

from plugd.hosting.calls import Calls
from plugd.hosting.collection import Collection
from plugd.hosting.gate import Gate
from plugd.hosting.generation import Generation


async def hand_over(
    proof: Awaitable[tuple[Generation, Collection]], gate: Gate, old: Callable[[], Generation | None], calls: Calls
) -> tuple[Generation, Any]:
    """Return a proven generation that has taken over from the old one, and the state that it was given.

    The gate is closed then, and ticks are held: whoever puts the generation in force opens it. Where it cannot take
    over it is closed, and the gate is open.

    Args:
        proof: makes the generation.
        gate: of the plugin's collections.
        old: returns the generation in force when no collection is under way any more; None: there is none.
        calls: whose values clients have set.

    Raises:
        CommandError: it is no good, or has died while it waited.
    """
    generation, _ = await proof
    gate.close()
    try:
        await gate.wait_collected()
        before = old()
        state = await before.save_state() if before is not None else None
        if state is not None:
            await generation.load_state(state)
        await generation.apply(calls.set_values)
        generation.worker.check_alive()
    except BaseException:
        gate.open()
        await generation.close()
        raise
    return generation, state
