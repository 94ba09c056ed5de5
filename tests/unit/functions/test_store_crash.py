"""A process is killed while it writes, again and again, in one directory."""

import os
import random
from pathlib import Path

import pytest
import trio

from sandboxd.functions.store import Store
from sandboxd.state import prepare

from .crashing import ENDED, RUNNING, World, check_files, live_and_die

ROUNDS = int(os.environ.get("SANDBOXD_TEST_CRASH_ROUNDS", "60"))


@pytest.mark.timeout(60 + 2 * ROUNDS)
def test_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, nothing is there by half, nothing is left over."""
    directory = tmp_path / "state"
    world = World()
    in_flight = 0
    for number in range(ROUNDS):
        told = live_and_die(
            directory, number, random.randrange(1, 80), random.choice([0, 0.0005, 0.002, 0.005])
        )
        touched = world.add(told)
        in_flight += sum(world.begun[thing] != world.done[thing] for thing in touched)
        everything = set(world.begun) if number == ROUNDS - 1 else touched
        trio.run(_check, directory, world, everything)
    # It is no test when none of them was killed in the middle of a step.
    assert in_flight > ROUNDS


async def _check(directory: Path, world: World, things: set[tuple[str, str]]) -> None:
    state = prepare(str(directory), None, write=True)
    try:
        state.clean()
        assert list(state.staging.iterdir()) == []
        store = await Store.open(state)
        try:
            await world.check(store, things)
            await store.unfinished(2)
            await check_files(store, state.root)
            for thing in things:
                if thing[0] == "execution" and world.done[thing] == RUNNING:
                    found = await store.execution(thing[1])
                    assert (found.status, found.end_reason) == ("ended", "interrupted")
                    world.done[thing] = world.begun[thing] = ENDED
        finally:
            await store.aclose()
    finally:
        state.close()
