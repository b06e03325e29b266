from typing import Any


class Sample:
    limits: Any = None
    counts: Any = None

    def __init__(self, n: int) -> None: ...
