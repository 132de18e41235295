"""``python -m clinical_asr`` is ``clinical-asr``."""

from clinical_asr.cli import main

main()
