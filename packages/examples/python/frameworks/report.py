"""What was measured, for people: a table, and what the plug-in is asked for."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def print_table(framework: str, rounds: int, rows: list[Row]) -> None:
    print(
        f"\n{framework}, {rows[0]['mib']} MiB, median of {max(1, rounds - 1)} rounds; peaks of one process in MiB: RSS (RssAnon); "
        "the rest of RSS is mapped files, and stored is what lay in exchange directories\n"
    )
    print("| clients | weights | s a round | wire, MiB a round | server | client | agent, server | agent, client | others | stored, MiB |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        peaks = row["peaks"]

        def cell(*roles: str) -> str:
            found = [peaks[role] for role in roles if role in peaks]
            return " / ".join(f"{peak['rss']} ({peak['anonymous']})" for peak in found) or "–"

        print(
            f"| {row['clients']} | {_weights(row)} | {row['secondsARound']} | {row['wireMiBARound']} | {cell('server')} | {cell('client')} "
            f"| {cell('agent of the server')} | {cell('agent of a client')} | {cell('superlink', 'others')} | {row['storedMiB']} |"
        )


def print_sums(bare: Row, rows: list[Row]) -> None:
    """Of each way: the server's own memory in models, what more clients add to it, and a round beside the framework's alone."""
    itself = _server(bare)
    alone = {row["clients"]: row["secondsARound"] for row in rows if row["codec"] is None}
    print(f"\nThe server takes {itself} MiB of RssAnon where the model has 1 MiB.")
    for codec in dict.fromkeys(row["codec"] for row in rows):
        mine = [row for row in rows if row["codec"] == codec]
        few, many = mine[0], mine[-1]
        models = ", ".join(f"{(_server(row) - itself) / row['mib']:.2f}" for row in mine)
        said = f"{_weights(few)}: server, RssAnon above that, in models: {models}"
        if many is not few:
            said += f"; {few['clients']} to {many['clients']} clients: {100 * (_server(many) / _server(few) - 1):+.0f} %"
        if codec is not None:
            said += "; a round beside the framework alone: "
            said += ", ".join(f"{row['secondsARound'] / alone[row['clients']]:.2f}" for row in mine)
        if any("error" in row for row in mine):
            said += "; from the framework's own aggregate, in parts of the largest weight: "
            said += ", ".join(f"{row['error']:.2g}" for row in mine if "error" in row)
        print(said)


def _server(row: Row) -> int:
    return int(row["peaks"]["server"]["anonymous"])


def _weights(row: Row) -> str:
    return "in messages" if row["codec"] is None else f"by reference, {row['codec']}"
