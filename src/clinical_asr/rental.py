"""What a rented GPU is and costs: values and the text a person must read before one is made. Pure."""

from __future__ import annotations

from dataclasses import dataclass

DOLLARS_PER_HOUR = 1.50
"""L40S 48 GB, as published when this was written; ask the vendor for today's."""
DISK_DOLLARS_PER_GB_MONTH = 0.10
RUN_MINUTES = (15, 30)
"""Three epochs on about 100 rows."""


@dataclass(frozen=True)
class Rental:
    """What is to be rented."""

    name: str = "clinical-asr-sft"
    gpu: str = "l40s:1"
    disk_gb: int = 200
    max_cost: float = 5.0
    """Dollars after which the machine is ended, whatever it is doing."""
    keep_disk: bool = False
    """Stop instead of delete: the disk goes on costing."""

    def cost_lines(self) -> list[str]:
        """What a person must read before saying yes.

        >>> Rental().cost_lines()[0]
        'clinical-asr-sft: l40s:1, 200 GB of disk, about $1.50 an hour by the second'
        """
        night, week = DOLLARS_PER_HOUR * 24, DOLLARS_PER_HOUR * 24 * 7
        disk = self.disk_gb * DISK_DOLLARS_PER_GB_MONTH
        after = f"stopped; its disk then costs about ${disk:.0f} a month" if self.keep_disk else "deleted"
        most = RUN_MINUTES[1] / 60 * DOLLARS_PER_HOUR
        return [
            f"{self.name}: {self.gpu}, {self.disk_gb} GB of disk, about ${DOLLARS_PER_HOUR:.2f} an hour by the second",
            f"three epochs on 100 rows take {RUN_MINUTES[0]} to {RUN_MINUTES[1]} minutes there: ${most:.2f} at most",
            f"forgotten for a day it costs about ${night:.0f}, for a week about ${week:.0f}",
            f"however the work ends, the machine is {after}; after ${self.max_cost:.2f} it is ended anyway",
            "sentences and audio of the benchmark, and the base, are copied to it",
        ]
