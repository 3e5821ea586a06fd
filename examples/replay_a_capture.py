"""Judge a captured client: by the protocol's rules, and by what our own engine would have said in its place.

python examples/replay_a_capture.py                 # two_clients.pcapng: one of two clients, on an MDS of Ceph 16.2.15
python examples/replay_a_capture.py CAPTURE.pcapng  # of any client; `connect(record=...)` makes one, or dumpcap

To ask the same again of another cluster: `cephcaps replay CAPTURE.pcapng --against test.conf`.
"""

import sys
from collections import Counter
from pathlib import Path

import cephcaps
from cephcaps.trace import Traced, read_trace
from cephcaps.trace.lint import Linter
from cephcaps.trace.replay import Difference, Replay

SHIPPED = Path(__file__).with_name("two_clients.pcapng")


def main(path: Path) -> int:
    kinds: Counter[str] = Counter()
    differences: list[Difference] = []
    linter, replay = Linter(), Replay(differences.append)
    with path.open("rb") as file:
        for item in read_trace(file):
            findings = linter.take(item)
            replay.take(item)
            kinds[type(item.message).__name__ if isinstance(item, Traced) else item.kind] += 1
            for finding in findings:
                print(finding.rule.name, finding.client, finding.path, finding.what)
    for finding in linter.finish():
        print(finding.rule.name, finding.client, finding.path, finding.what)
    replay.end()
    print(*(f"{count:6} {kind}" for kind, count in kinds.most_common()), sep="\n")
    for client, tally in replay.tallies.items():
        print(f"client.{client} spoke of caps: {tally.compared} times, {tally.alike} as our engine would have")
    return 1 if linter.counts or any(not one.rule for one in differences) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED))
    except (cephcaps.CephError, OSError) as error:
        sys.exit(f"replay_a_capture: {error}")
