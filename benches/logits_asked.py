"""What `benches.logits` is asked to show, and whether it does."""

from typing import Any

from benches.logits_answers import GRADIENT, MAPS, READS

Shape = tuple[int, int]
Row = tuple[str, str, str, bool | None]
LARGE = [(20_000, 1_000), (500, 151_936), (16, 1_000_000)]
SMALL = [(1_000_000, 4), (200_000, 20)]
ALL = READS + MAPS + GRADIENT
ASKED = {"avx512": (70, 70, 60), "avx2": (45, 45, 45)}  # percent of the bandwidth: reads, maps, gradient


def named(shape: Shape) -> str:
    return f"{shape[0]:,} x {shape[1]:,}"


def row(what: str, cases: list[tuple[float, str]], asked: float, unit: str, most: bool = False) -> Row:
    """The worst of the cases against what is asked; 0 asks nothing."""
    got, where = max(cases) if most else min(cases)
    holds = None if not asked else got <= asked if most else got >= asked
    wanted = f"{'at most' if most else 'at least'} {asked:.3g} {unit}" if asked else "-"
    return what, f"{got:.{3 if most else 1}f} {unit} ({where})", wanted, holds


def bandwidth(percent: dict[str, dict[str, float]], level: str, note: str = "") -> list[Row]:
    def lowest(what: str, shapes: list[Shape], operations: list[str], asked: float) -> Row:
        names = [named(s) for s in shapes if named(s) in percent]
        cases = [(percent[name][o], f"{o}, {name}") for name in names for o in operations]
        return row(what + note, cases, asked, "%")

    read, copy, gradient = ASKED.get(level, (0, 0, 0))
    small = sorted({40.0, 40 * read / ASKED["avx512"][0]}, reverse=True) if read else [0.0]
    return [
        lowest("large, reductions: of sum bandwidth", LARGE, READS, read),
        lowest("large, both softmax: of copy bandwidth", LARGE, MAPS, copy),
        lowest("large, gradient: of copy bandwidth", LARGE, GRADIENT, gradient),
        *(lowest(f"{named(s)}: of sum, copy bandwidth", [s], ALL, asked) for s in SMALL for asked in small),
    ]


def must_show(results: dict[str, Any]) -> list[Row]:
    shapes = results["shapes"]

    def scipy(what: str, of: list[Shape], operations: list[str], asked: float) -> Row:
        cases = [(shapes[named(s)]["faster"][o]["scipy"], f"{o}, {named(s)}") for s in of for o in operations]
        return row(what, cases, asked, "times faster")

    percent = {where: found["percent"] for where, found in shapes.items()}
    vector, halves = results["vector_of_4"], results["half_precision"]
    rows = [
        *bandwidth(percent, results["level"]),
        *(scipy(f"{named(s)}: against SciPy", [s], [o for o in ALL if o != "argmax"], 10) for s in SMALL),
        scipy("large, softmax: against SciPy", LARGE, ["softmax"], 10),
        scipy("large, logsumexp: against SciPy", LARGE, ["logsumexp"], 40),
        row("vector of 4, softmax: time of np.exp", [(vector["times_np.exp"], "a call")], 5, "times", True),
        row("vector of 4: against SciPy", [(vector["faster_than_scipy"], "a call")], 10, "times faster"),
    ]
    for kind, found in halves.items():
        rows.append(row(f"{kind}: time of float32", [(f, o) for o, f in found.items()], 1, "times", True))
    for what, asked in (("logsumexp", 2), ("softmax", 4), ("log_softmax", 4)):
        errors = [(found["errors_in_ulp"][what], where) for where, found in shapes.items()]
        rows.append(row(f"{what}: error in the sample", errors, asked, "ULP", True))
    for other in results["levels"]:
        differ = [where for where, found in shapes.items() if found["hash"] != other["hash"][where]]
        rows.append((f"{other['level']}: differing bits", ", ".join(differ) or "none", "none", not differ))
        rows += bandwidth(other["percent"], other["level"], f" [{other['level']} forced]")
    return rows
