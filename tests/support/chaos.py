"""Bad luck for a running platform: at random, its functions are killed, NATS too, and Kafka freezes or is cut off."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.platform import RunningPlatform
from tests.support.polling import eventually
from tests.support.unreliable_kafka import UnreliableKafka

# Of Kafka, in seconds: long enough for deliveries to fail, and for a consumer to be taken for dead.
TROUBLE_SECONDS = (0.5, 4.0)
PAUSE_SECONDS = (0.1, 1.0)


# Whether it found anything to befall.
Misfortune = Callable[[random.Random], bool]


class Chaos:
    """Misfortunes in a row, each over before the next; `suffered` counts them."""

    def __init__(self, misfortunes: Mapping[str, Misfortune], *, seed: int) -> None:
        self.suffered: Counter[str] = Counter()
        self.failures: list[Exception] = []
        self.names = list(misfortunes)
        self._misfortunes = misfortunes
        self._dice = random.Random(seed)
        self._over = threading.Event()

    @contextmanager
    def reigning(self) -> Iterator[None]:
        """Until the end of the block, and to the end of the last misfortune."""
        thread = threading.Thread(target=self._reign, name="chaos")
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _reign(self) -> None:
        try:
            while not self._over.wait(self._dice.uniform(*PAUSE_SECONDS)):
                # The rarest so far, so that none is left out in a short time.
                least = min(self.suffered[name] for name in self._misfortunes)
                name = self._dice.choice([each for each in self._misfortunes if self.suffered[each] <= least + 1])
                self.suffered[name] += self._misfortunes[name](self._dice)
        except Exception as error:
            self.failures.append(error)


def killing_function(platform: RunningPlatform, directory: str) -> Misfortune:
    """SIGKILL for the execution environments of `functions/<directory>`; whether there was one."""

    def kill(_: random.Random) -> bool:
        environments = list(_environments(platform, directory))
        for process in environments:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return bool(environments)

    return kill


def killing_engine(platform: RunningPlatform, name: str) -> Misfortune:
    """SIGKILL, and nothing else until the platform has brought it back."""

    def kill(_: random.Random) -> bool:
        with platform.engine_killed(name):
            return True

    return kill


def freezing(kafka: UnreliableKafka) -> Misfortune:
    def freeze(dice: random.Random) -> bool:
        with kafka.frozen():
            time.sleep(dice.uniform(*TROUBLE_SECONDS))
        return True

    return freeze


def cutting_off(kafka: UnreliableKafka) -> Misfortune:
    def cut_off(dice: random.Random) -> bool:
        with kafka.cut_off():
            time.sleep(dice.uniform(*TROUBLE_SECONDS))
        return True

    return cut_off


def _environments(platform: RunningPlatform, directory: str) -> Iterator[psutil.Process]:
    wanted = Path("functions", *directory.split("/")).parts
    for process in platform.family():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if Path(process.cwd()).parts[-len(wanted) :] == wanted:
                yield process


def settled(answer: Callable[[], list[str]], *, within: float) -> None:
    """Poll until nothing is left to complain about. Raises AssertionError with what is."""

    def nothing() -> bool:
        if complaints := answer():
            raise AssertionError("; ".join(complaints))
        return True

    eventually(nothing, within=within, every=1.0, what="what was to arrive")
